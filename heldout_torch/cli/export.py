"""`heldout export`: TensorFlow runs become a zoo."""

import argparse
import sys
from pathlib import Path

from heldout_torch.cli import options


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "export",
        help="convert TensorFlow runs to safetensors",
        description="Convert the runs of an unpacked archive to safetensors. Runs already in the zoo are skipped, "
        "so an interrupted export goes on where it stopped.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="an unpacked archive, or one run directory")
    parser.add_argument("--zoo", type=Path, required=True, help="folder to export into")
    parser.add_argument("--experiment", help="only this experiment, or the name of SOURCE's")
    parser.add_argument("--subset-ratio", type=options.subset_ratio, nargs="+", default=[], metavar="R")
    parser.add_argument("--runs", type=options.run_list, default=[], help="only these, such as 0-9,42")
    parser.add_argument(
        "--workers", type=options.count, default=options.processors(), help="threads, default: all cores"
    )
    parser.add_argument(
        "--shard", type=options.shard, default=(0, 1), metavar="I/N", help="every N-th run from the I-th"
    )
    parser.add_argument("--overwrite", action="store_true", help="export also what is in the zoo already")
    parser.set_defaults(run_verb=_export)


def _export(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from heldout_torch.zoo.export import export_runs, select_runs

    runs = select_runs(arguments.source, arguments.experiment, arguments.subset_ratio, arguments.runs, arguments.shard)
    exported = skipped = failed = 0
    with tqdm(total=len(runs), unit="run", desc="export", file=sys.stderr) as bar:
        for result in export_runs(runs, arguments.zoo, arguments.workers, arguments.overwrite):
            bar.update()
            if result.error is not None:
                failed += 1
                bar.write(f"error: run {result.source.key}: {result.error}", file=sys.stderr)
            elif result.skipped:
                skipped += 1
            else:
                exported += 1
    print(f"exported {exported} runs to {arguments.zoo}, skipped {skipped} already there, {failed} failed")
    return 1 if failed else 0
