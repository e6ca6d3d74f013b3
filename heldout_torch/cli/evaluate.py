"""`heldout evaluate`: correctness of runs, or of a network of one's own, as aux_arrays.npz."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from heldout_torch.cli import options
from heldout_torch.cli.data_of_runs import load_data_of
from heldout_torch.cli.evaluate_file import add_file_options, evaluate_file
from heldout_torch.cli.follow import follow
from heldout_torch.cli.output import summarize, tell
from heldout_torch.cli.parser import Parser
from heldout_torch.cli.sweeps import add_sweep_options, open_place, start_sweep
from heldout_torch.data.dataset import check_complete
from heldout_torch.errors import DataError, HeldoutError, counted
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.save import check_folder, save_runs, start_all_outputs
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.paths import is_remote, local_path
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.urls import is_archive
from heldout_torch.zoo.aux_arrays import PARTS
from heldout_torch.zoo.copy import Outcome
from heldout_torch.zoo.open import open_writable


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Evaluate runs on their data set, and write their aux_arrays.npz into the zoo OUT. Runs that are there, "
        "evaluated with the same network and data set, are skipped, so an interrupted evaluation can be continued. "
        "Or evaluate a .safetensors file, given the subset it was trained on, and write the npz file OUT."
    )
    options.add_place(parser, "source", f"a .safetensors file, or {options.PLACE}")
    add_sweep_options(parser)
    parser.add_argument(
        "--out", required=True, help="zoo to write into; for a .safetensors file, the npz file to write"
    )
    parser.add_argument("--overwrite", action="store_true", help="also evaluate runs that are in OUT already")
    parser.add_argument("--save", choices=["outputs"], help="also write the margin (log odds) of every example")
    parser.add_argument("--flips", action="store_true", help="average outputs over each image and its mirror image")
    add_file_options(parser)
    parser.set_defaults(run_verb=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.flips and not arguments.save:
        raise DataError("--flips changes only outputs; give --save outputs, too")
    if arguments.source.lower().endswith(".safetensors"):
        if arguments.cluster is not None:
            raise DataError("--cluster is for the runs of a zoo: a .safetensors file is one network")
        return evaluate_file(arguments)
    if not is_remote(arguments.source) and not is_archive(arguments.source):
        source = local_path(arguments.source)
        if source.is_file():
            raise DataError(
                f"{source}: is {kind_of(source)}, expected a place of runs, or weights that "
                "safetensors.torch.save_file(network.state_dict(), NAME.safetensors) wrote"
            )
    given = vars(arguments)
    if any(given[name] for name in ("subset", "order", "architecture", "config", "dataset")):
        raise DataError("--subset, --order, --architecture, --config and --dataset need a .safetensors file")
    return _evaluate_runs(arguments)


def _evaluate_runs(arguments: argparse.Namespace) -> int:
    out = open_writable(arguments.out)
    if arguments.save:
        check_folder(out)
    zoo, keys = open_place(arguments, arguments.source)
    runs, absent = options.choose(arguments, keys, zoo.location)
    sweep = start_sweep(arguments)
    dataset = load_data_of(arguments, zoo, runs)
    check_complete(dataset, "aux arrays")
    made = Provenance(zoo, out, dataset.digest(), arguments.flips if arguments.save else None)
    lacking = set(runs if arguments.overwrite else out.missing(runs, model=False))
    if arguments.save:
        whole = replace(options.selection(arguments), shard=(0, 1)).choose(keys, zoo.location)
        lacking |= set(runs) - start_all_outputs(out, whole, dataset, made.of_outputs)

    work = partial(
        save_runs, out=out, made=made, batch_size=arguments.batch_size, precision=arguments.precision,
        outputs=bool(arguments.save), flips=arguments.flips,
    )  # fmt: skip

    def outcomes(bar: Bar) -> Iterator[Outcome]:
        yield from absent
        rest = []
        for key in runs:
            try:
                done = key not in lacking and not made.differs(key)
            except HeldoutError as error:
                yield Outcome(key, error=str(error))
                continue
            if done:
                yield Outcome(key, skipped=True)
                continue
            rest.append(key)
        bar.total = len(rest) * (len(dataset.labels("train")) + len(dataset.labels("test")))
        for key, aux in sweep(work, rest, zoo, dataset, progress=bar.add):
            if isinstance(aux, HeldoutError):
                yield Outcome(key, error=str(aux))
                continue
            means = {part: float(getattr(aux, f"correctness_{part}").mean()) for part in PARTS}
            shares = ", ".join(f"{part} {mean:.4f}" for part, mean in means.items())
            tell(arguments, bar, f"run {key}: correct on {shares}", run=str(key), **means)
            yield Outcome(key)

    with out, Bar("evaluate", "image") as bar:
        out.declare(zoo.experiment(runs[0].experiment))
        counts = follow(outcomes(bar), bar, lambda outcome: 0)
    summarize(
        arguments,
        f"{counted(counts.done, 'run')} evaluated into {out.location}, {counts.skipped} already there, "
        f"{counts.failed} failed",
        evaluated=counts.done, skipped=counts.skipped, failed=counts.failed, out=out.location,
    )  # fmt: skip
    return counts.status
