"""`heldout evaluate`: correctness of runs, or of a network of one's own, as aux_arrays.npz."""

import argparse
import json
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from heldout_torch.cli import options
from heldout_torch.cli.output import complain, summarize, tell
from heldout_torch.cli.parser import Parser
from heldout_torch.data import Dataset
from heldout_torch.errors import DataError, HeldoutError, ZooError, printable
from heldout_torch.evaluation import evaluate
from heldout_torch.evaluation.save import has_scores, make_aux, save_runs, scores_folder, start_scores
from heldout_torch.evaluation.sweep import all_devices, sweep
from heldout_torch.experiments import find_experiment
from heldout_torch.models import restore_model
from heldout_torch.stats import load_published_indices
from heldout_torch.storage.progress import Bar
from heldout_torch.zoo import RunKey
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.open import open_writable, open_zoo
from heldout_torch.zoo.selection import Selection


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Evaluate runs on their data set and write OUT/EXPERIMENT/RATIO/RUN/aux_arrays.npz for each; runs "
        "that have one there are skipped, so an interrupted sweep goes on where it stopped. Or, given a .safetensors "
        "file and the subset it was trained on, write the one file OUT."
    )
    parser.add_argument("source", metavar="SOURCE", help="any place of runs, or a .safetensors file")
    add_sweep_options(parser)
    parser.add_argument("--out", required=True, help="zoo, or for a .safetensors file the file, to write")
    parser.add_argument("--overwrite", action="store_true", help="evaluate also what is in OUT already")
    parser.add_argument("--save", choices=["scores"], help="also write scores for membership inference")
    parser.add_argument("--flips", action="store_true", help="scores are means over an image and its mirror image")
    own = parser.add_argument_group("for a .safetensors file")
    own.add_argument("--subset", type=Path, metavar="FILE", help="examples that it was trained on, an npz or npy file")
    options.add_order_option(own)
    own.add_argument("--architecture", help="of the network, default: that of --experiment")
    own.add_argument("--config", metavar="JSON", help="options of the architecture, such as '{\"num_classes\": 10}'")
    own.add_argument("--dataset", metavar="NAME", help="such as cifar10, default: that of --experiment")
    parser.set_defaults(run_verb=_evaluate)


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which runs are evaluated on what, and how."""
    parser.add_argument("--experiment", help="only this experiment")
    parser.add_argument("--subset-ratio", type=options.subset_ratio, nargs="+", default=[], metavar="R")
    parser.add_argument("--runs", type=options.run_list, default=[], help="only these, such as 0-9,42")
    options.add_data_options(parser)
    parser.add_argument(
        "--precision", choices=["exact", "fast"], default="exact", help="fast: bfloat16 where float32 would agree"
    )
    parser.add_argument("--batch-size", type=options.count, metavar="N", help="images loaded at once")
    parser.add_argument("--device", nargs="+", help="such as cpu or cuda:0 cuda:1, default: all GPUs, or the CPU")
    options.add_shard_option(parser)


def select(zoo: Zoo, arguments: argparse.Namespace) -> tuple[list[RunKey], list[RunKey]]:
    """Choose this shard's runs of one experiment, and name those asked for that are not there.

    Raises:
        ZooError: If there is none, or they are of several experiments.
    """
    selection = Selection(arguments.experiment, arguments.subset_ratio, arguments.runs, arguments.shard)
    keys = zoo.keys(arguments.experiment)
    if len(experiments := sorted({key.experiment for key in keys if selection.holds(key)})) > 1:
        raise ZooError(f"{zoo.location}: holds runs of {', '.join(experiments)}; choose one with --experiment")
    return selection.choose(keys or zoo.keys(), zoo.location), selection.missing(keys)


def load_data(arguments: argparse.Namespace, zoo: Zoo, runs: list[RunKey]) -> Dataset:
    """Load the data set of the chosen runs.

    Raises:
        HeldoutError: If the experiment is not declared, or the data set is bad.
    """
    return options.load_data(arguments, zoo.experiment(runs[0].experiment).dataset)


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.flips and not arguments.save:
        raise DataError("--flips is about scores: give --save scores, too")
    if arguments.source.endswith(".safetensors"):
        return _evaluate_file(arguments)
    return _evaluate_runs(arguments)


def _evaluate_runs(arguments: argparse.Namespace) -> int:
    if arguments.subset or arguments.architecture or arguments.config or arguments.dataset:
        raise DataError("--subset, --architecture, --config and --dataset go with a .safetensors file")
    zoo, out = open_zoo(arguments.source), open_writable(arguments.out)
    folder = Path(out.location)
    if arguments.save and not isinstance(out, FolderZoo):
        raise DataError(f"{arguments.out}: scores are written into a folder")
    runs, missing = select(zoo, arguments)
    dataset = load_data(arguments, zoo, runs)
    if arguments.save:
        whole, _ = select(zoo, argparse.Namespace(**{**vars(arguments), "shard": (0, 1)}))
        start_scores(folder, whole, len(dataset.labels("train")))
    lacking = set(out.missing(runs, model=False))

    def is_done(run: RunKey) -> bool:
        return run not in lacking and (not arguments.save or has_scores(scores_folder(folder, run), run.run))

    rest = [run for run in runs if arguments.overwrite or not is_done(run)]
    failed = len(missing)
    for key in missing:
        complain(f"error: run {key} is not in {arguments.source}")
    total = len(rest) * (len(dataset.labels("train")) + len(dataset.labels("test")))
    work = partial(
        save_runs, out=out, batch_size=arguments.batch_size, precision=arguments.precision,
        scores=bool(arguments.save), flips=arguments.flips,
    )  # fmt: skip
    for name in sorted({run.experiment for run in rest}):
        out.declare(zoo.experiment(name))
    with out, Bar("evaluate", "image", total) as bar:
        for run, aux in sweep(work, rest, zoo, dataset, arguments.device or all_devices(), bar.add):
            if isinstance(aux, HeldoutError):
                failed += 1
                bar.print(printable(f"error: run {run}: {aux}"))
                continue
            means = {part: float(getattr(aux, f"correctness_{part}").mean()) for part in ("train", "removed", "test")}
            shares = ", ".join(f"{part} {mean:.4f}" for part, mean in means.items())
            tell(arguments, bar, f"run {run}: correct on {shares}", run=str(run), **means)
    evaluated, skipped = len(rest) - failed + len(missing), len(runs) - len(rest)
    summarize(
        arguments, f"{evaluated} runs evaluated into {arguments.out}, {skipped} were there, {failed} failed",
        evaluated=evaluated, skipped=skipped, failed=failed, out=arguments.out,
    )  # fmt: skip
    return 1 if failed else 0


def _evaluate_file(arguments: argparse.Namespace) -> int:
    experiment = find_experiment(arguments.experiment) if arguments.experiment else None
    architecture = arguments.architecture or (experiment and experiment.architecture)
    name = arguments.dataset or (experiment and experiment.dataset)
    if not architecture or not name or arguments.subset is None:
        raise DataError(f"{arguments.source}: give --subset, and --experiment or --architecture and --dataset")
    if arguments.save:
        raise DataError("--save scores is about many runs, and needs a zoo")
    try:
        config = json.loads(arguments.config) if arguments.config else experiment.config if experiment else {}
        state = load_file(arguments.source)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"cannot read --config or {arguments.source} ({error})") from None
    if not isinstance(config, dict):
        raise DataError(f"--config {arguments.config}: expected a JSON object")
    try:
        model = restore_model(architecture, config, state)
    except HeldoutError as error:
        raise ZooError(f"{arguments.source}: {error}") from None
    dataset = options.load_data(arguments, name)
    original = dataset.original_index("train").numpy()
    subset = load_published_indices(arguments.subset, len(original), original, arguments.order)
    device = (arguments.device or all_devices())[0]
    total = len(dataset.labels("train")) + len(dataset.labels("test"))
    with Bar("evaluate", "image", total) as bar:
        train, test = (
            evaluate(
                model.to(device), dataset, split,
                batch_size=arguments.batch_size, device=device, precision=arguments.precision, progress=bar.add,
            )
            for split in ("train", "test")
        )  # fmt: skip
    make_aux(train, test, subset, dataset).write(Path(arguments.out))
    summarize(
        arguments,
        f"correct on train {train.correct.mean():.4f}, test {test.correct.mean():.4f}; wrote {arguments.out}",
        train=float(train.correct.mean()),
        test=float(test.correct.mean()),
        out=arguments.out,
    )
    return 0
