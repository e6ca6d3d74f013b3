"""`make demo`: export the bundled runs, check them, train new ones, compute their statistics, write a report.

Everything is written to the folder `demo` of the checkout, which a second call replaces.
"""

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

import torch

from heldout_torch import list_runs, load_run
from heldout_torch.cli import main as heldout
from heldout_torch.data import load_digits
from heldout_torch.evaluation import verify
from heldout_torch.zoo import sample_zoo

OUT = CHECKOUT / "demo"


def command(*words: object) -> None:
    """Run a `heldout` command in this process, printed first; stop if it fails."""
    print(f"\n$ heldout {' '.join(map(str, words))}", flush=True)
    if heldout([str(word) for word in words]):
        sys.exit(1)


def check_sample(zoo: Path) -> None:
    """Load each bundled run through torch.hub and compare its predictions with TensorFlow's."""
    digits = load_digits()
    for key in list_runs(zoo):
        model = torch.hub.load(CHECKOUT, "digits_mlp_tf", source="local", run=key.run, zoo=zoo)
        run = replace(load_run(key.experiment, key.subset_ratio, key.run, zoo), model=model)
        checked = verify(run, digits)
        train, removed, test = (run.aux.correctness_train, run.aux.correctness_removed, run.aux.correctness_test)
        print(
            f"{key}: accuracy train {train.mean():.3f}, removed {removed.mean():.3f}, test {test.mean():.3f}; "
            f"{checked.matches} out of {checked.examples} predictions match"
        )
        if checked.matches != checked.examples:
            sys.exit(f"error: run {key} does not predict what TensorFlow predicted")


def main() -> None:
    """Run the demonstration."""
    start = time.perf_counter()
    shutil.rmtree(OUT, ignore_errors=True)
    print("1. Runs trained in TensorFlow become PyTorch modules.")
    command("export", sample_zoo(), "--zoo", OUT / "sample")
    check_sample(OUT / "sample")
    print("\n2. New held-out runs, and what they say about the examples.")
    command("experiment", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0-399", "--zoo", OUT / "zoo")
    print("\n3. Something to look at.")
    command("report", OUT / "zoo", "--experiment", "digits-mlp", "--out", OUT / "report")
    print(f"\nThat took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
