"""`heldout verify`: recorded correctness against what the networks give."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from heldout_torch.cli import options
from heldout_torch.cli.data_of_runs import load_data_of
from heldout_torch.cli.follow import follow
from heldout_torch.cli.output import complain, summarize, tell
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.sweeps import add_sweep_options, open_place, start_sweep
from heldout_torch.errors import HeldoutError, counted, listed
from heldout_torch.evaluation import Verification
from heldout_torch.evaluation.provenance import run_digest
from heldout_torch.evaluation.verification_log import VerificationLog, check_log, default_log
from heldout_torch.evaluation.verify import verify_runs
from heldout_torch.storage.progress import Bar
from heldout_torch.zoo.aux_arrays import PARTS
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.copy import Outcome
from heldout_torch.zoo.keys import RunKey

_SHOWN = 5


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Evaluate runs and compare with their aux_arrays.npz. Each result is appended to a log. Runs that are in the "
        "log are not evaluated again, unless their files or the data set have changed."
    )
    options.add_place(parser)
    add_sweep_options(parser)
    parser.add_argument(
        "--splits", nargs="+", choices=PARTS, default=PARTS,
        help="compare only on these examples, default: all",
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=options.count_from_0, default=0, metavar="N",
        help="mismatches allowed in a run, default: 0",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=options.file_to_append, metavar="FILE",
        help="log to append results to, a line of JSON for each run; several processes may share it (default: a file "
        "for this place in the cache folder, HELDOUT_TORCH_CACHE)",
    )  # fmt: skip
    parser.set_defaults(run_verb=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.results is not None:
        check_log(arguments.results)
    zoo, keys = open_place(arguments, arguments.zoo)
    runs, lacking = options.choose(arguments, keys, zoo.location)
    sweep = start_sweep(arguments)
    dataset = load_data_of(arguments, zoo, runs)
    log = VerificationLog(_log_file(arguments, zoo), arguments.splits, dataset.digest())
    test = len(dataset.labels("test")) if "test" in arguments.splits else 0
    train = len(dataset.labels("train")) if {"train", "removed"} & set(arguments.splits) else 0
    work = partial(verify_runs, splits=arguments.splits, batch_size=arguments.batch_size, precision=arguments.precision)
    bad = 0

    def outcomes(bar: Bar) -> Iterator[Outcome]:
        nonlocal bad, log
        yield from lacking
        rest = []
        for key in runs:
            try:
                known = log.find(zoo, key)
            except HeldoutError as error:
                yield Outcome(key, error=str(error))
                continue
            if known is not None and known.mismatches <= arguments.tolerance:
                tell(arguments, bar, f"{_line(key, known)} (known)", **_facts(key, known, True))
                yield Outcome(key, skipped=True)
            else:
                rest.append(key)
        bar.total = len(rest) * (train + test)
        for key, result in sweep(work, rest, zoo, dataset, progress=bar.add):
            if isinstance(result, HeldoutError):
                yield Outcome(key, error=str(result))
                continue
            try:
                files = run_digest(zoo, key)
            except HeldoutError as error:
                yield Outcome(key, error=str(error))
                continue
            try:
                log.append(key, files, result)
            except HeldoutError as error:
                if arguments.results is not None:
                    raise
                complain(f"results are not kept: {error}")
                log = VerificationLog(None, arguments.splits, dataset.digest())
            bad += result.mismatches > arguments.tolerance
            tell(arguments, bar, _line(key, result), **_facts(key, result, False))
            yield Outcome(key)

    with Bar("verify", "image") as bar:
        counts = follow(outcomes(bar), bar, lambda outcome: 0)
    verified = counts.done + counts.skipped - bad
    summarize(
        arguments, f"{counted(verified, 'run')} verified, {bad} with mismatches, {counts.failed} failed",
        verified=verified, mismatched=bad, failed=counts.failed,
    )  # fmt: skip
    return 1 if bad else counts.status


def _log_file(arguments: argparse.Namespace, zoo: Zoo) -> Path | None:
    """Return where results are kept; nowhere, which is said, where nobody named a file and none can be written."""
    if arguments.results is not None:
        return arguments.results
    path = default_log(zoo)
    try:
        check_log(path)
    except HeldoutError as error:
        complain(f"results are not kept: {error}")
        return None
    return path


def _facts(key: RunKey, verification: Verification, known: bool) -> dict[str, object]:
    mismatched = {part: split.mismatched.tolist() for part, split in verification.splits.items()}
    return {
        "run": str(key), "matches": verification.matches, "examples": verification.examples,
        "mismatches": verification.mismatches, "ties": verification.ties, "mismatched": mismatched, "known": known,
    }  # fmt: skip


def _line(key: RunKey, verification: Verification) -> str:
    line = f"run {key}: {verification.matches} out of {verification.examples} predictions match"
    if missing := sum(split.missing for split in verification.splits.values()):
        line += f", {missing} not in the data"
    if verification.ties:
        line += f", {counted(verification.ties, 'tie')} (margin up to {verification.tie_margin:.1e})"
    if verification.mismatches:
        shown = [
            f"{part} {index} (margin {margin:.2g})"
            for part, split in verification.splits.items()
            for index, margin, tie in zip(split.mismatched, split.margins, split.ties, strict=True)
            if not tie
        ]
        line += f"; mismatched: {listed(shown, _SHOWN)}"
    return line
