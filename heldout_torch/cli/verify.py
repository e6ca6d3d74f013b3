"""`heldout verify`: recorded correctness against what the networks give."""

import argparse
from functools import partial
from pathlib import Path

from heldout_torch.cli.evaluate import add_sweep_options, load_data, select
from heldout_torch.cli.output import complain, summarize, tell
from heldout_torch.cli.parser import Parser
from heldout_torch.errors import HeldoutError, printable
from heldout_torch.evaluation import Verification
from heldout_torch.evaluation.log import VerificationLog
from heldout_torch.evaluation.sweep import all_devices, sweep
from heldout_torch.evaluation.verify import verify_runs
from heldout_torch.storage.progress import Bar
from heldout_torch.zoo import RunKey
from heldout_torch.zoo.open import open_zoo

_SHOWN = 5


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Evaluate runs and compare with their aux_arrays.npz. Results are appended to a file as they come; "
        "runs that it says are verified are not evaluated again, unless their files have changed."
    )
    parser.add_argument("zoo", metavar="ZOO", help="any place of runs")
    add_sweep_options(parser)
    parser.add_argument(
        "--splits", nargs="+", choices=["train", "removed", "test"], default=["train", "removed", "test"]
    )
    parser.add_argument("--tolerance", type=int, default=0, metavar="N", help="mismatches allowed in a run, default: 0")
    parser.add_argument(
        "--results", type=Path, default=Path("verification.jsonl"), metavar="FILE",
        help="where results are appended, a line of JSON a run; several processes may share it "
        "(default: verification.jsonl)",
    )  # fmt: skip
    parser.set_defaults(run_verb=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    zoo = open_zoo(arguments.zoo)
    runs, missing = select(zoo, arguments)
    dataset = load_data(arguments, zoo, runs)
    log = VerificationLog(arguments.results, arguments.splits)
    known = log.read()
    bad = failed = 0
    rest, names = [], dict[RunKey, str]()
    for run in runs:
        try:
            names[run] = log.name(zoo, run)
        except HeldoutError as error:
            failed += 1
            complain(f"error: run {run}: {error}")
            continue
        verification = known.get(names[run])
        if verification is not None and verification.mismatches <= arguments.tolerance:
            summarize(arguments, _line(str(run), verification) + " (known)", **_facts(run, verification, known=True))
        else:
            rest.append(run)
    for key in missing:
        failed += 1
        complain(f"error: run {key} is not in {arguments.zoo}")
    test = len(dataset.labels("test")) if "test" in arguments.splits else 0
    train = len(dataset.labels("train")) if {"train", "removed"} & set(arguments.splits) else 0
    work = partial(verify_runs, splits=arguments.splits, batch_size=arguments.batch_size, precision=arguments.precision)
    with Bar("verify", "image", len(rest) * (train + test)) as bar:
        for run, result in sweep(work, rest, zoo, dataset, arguments.device or all_devices(), bar.add):
            if isinstance(result, HeldoutError):
                failed += 1
                bar.print(printable(f"error: run {run}: {result}"))
                continue
            log.append(names[run], result)
            bad += result.mismatches > arguments.tolerance
            tell(arguments, bar, _line(str(run), result), **_facts(run, result, known=False))
    summarize(
        arguments,
        f"{len(runs) - bad - failed + len(missing)} runs verified, {bad} with mismatches, {failed} failed",
        verified=len(runs) - bad - failed + len(missing),
        mismatched=bad,
        failed=failed,
    )
    return 1 if bad or failed else 0


def _facts(key: RunKey, verification: Verification, known: bool) -> dict[str, object]:
    mismatched = {part: split.mismatched.tolist() for part, split in verification.splits.items()}
    return {
        "run": str(key), "matches": verification.matches, "examples": verification.examples,
        "mismatches": verification.mismatches, "ties": verification.ties, "mismatched": mismatched, "known": known,
    }  # fmt: skip


def _line(name: str, verification: Verification) -> str:
    line = f"run {name}: {verification.matches} out of {verification.examples} predictions match"
    if missing := sum(split.missing for split in verification.splits.values()):
        line += f", {missing} not in the data"
    if verification.ties:
        line += f", {verification.ties} ties (margin up to {verification.tie_margin:.1e})"
    if verification.mismatches:
        shown = [
            f"{part} {index} (margin {margin:.2g})"
            for part, split in verification.splits.items()
            for index, margin, tie in zip(split.mismatched, split.margins, split.ties, strict=True)
            if not tie
        ]
        line += f"; mismatched: {', '.join(shown[:_SHOWN])}"
        line += f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return line
