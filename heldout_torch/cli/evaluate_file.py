"""`heldout evaluate FILE.safetensors`: the aux arrays of a network that is not a run of a zoo."""

import argparse

from safetensors import SafetensorError
from safetensors.torch import load_file

from heldout_torch.cli import options
from heldout_torch.cli.output import summarize
from heldout_torch.data.dataset import check_complete, check_preprocessing
from heldout_torch.errors import DataError, HeldoutError, ZooError, one_line
from heldout_torch.evaluation import evaluate
from heldout_torch.evaluation.save import make_aux
from heldout_torch.experiments import find_experiment
from heldout_torch.models import restore_model
from heldout_torch.stats import load_published_indices
from heldout_torch.stats.columns import check_file
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.paths import local_path
from heldout_torch.storage.progress import Bar


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the network is, and what it was trained on."""
    own = parser.add_argument_group("for a .safetensors file")
    own.add_argument(
        "--subset",
        type=local_path,
        metavar="FILE",
        help="file of the examples that the network was trained on: npz, csv, parquet or npy",
    )
    options.add_order_option(own)
    own.add_argument("--architecture", help="of the network, default: that of --experiment")
    own.add_argument(
        "--config",
        type=options.json_object,
        metavar="JSON",
        help="options of the architecture, such as '{\"num_classes\": 10}'",
    )
    own.add_argument(
        "--dataset", metavar="NAME",
        help="such as cifar10, default: that of --experiment, else the name of the --data file",
    )  # fmt: skip


def evaluate_file(arguments: argparse.Namespace) -> int:
    """Evaluate the network of a file, and write its aux arrays.

    Raises:
        HeldoutError: If an option, the file or the data set is bad.
    """
    if arguments.save:
        raise DataError(
            "--save outputs needs the runs of a zoo; for networks in files, make a table by OutputTable.from_arrays "
            "with the log_odds that heldout_torch.evaluation.evaluate returns"
        )
    experiment = find_experiment(arguments.experiment) if arguments.experiment else None
    architecture = arguments.architecture or (experiment and experiment.architecture)
    data = arguments.data.stem if arguments.data and arguments.data.suffix.lower() == ".npz" else None  # as declared
    name = arguments.dataset or (experiment.dataset if experiment else data)
    source, out = local_path(arguments.source), check_file(arguments.out, [".npz"])
    if not architecture or not name or arguments.subset is None:
        raise DataError(f"{source}: give --subset, and --experiment (a name or a file) or --architecture and --dataset")
    device, *others = options.devices(arguments)
    if others and arguments.device:
        raise DataError(f"{source}: one network is computed on one device, not on {', '.join(arguments.device)}")
    config = arguments.config if arguments.config is not None else experiment.config if experiment else {}
    try:
        state = load_file(source)
    except FileNotFoundError:
        raise DataError(f"{source}: there is no such file") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"{source}: is not a readable safetensors file, but {kind_of(source)} ({one_line(error)})"
        ) from None
    try:
        model = restore_model(architecture, config, state)
    except HeldoutError as error:
        raise ZooError(f"{source}: {error}") from None
    dataset = options.load_data(arguments, name)
    check_complete(dataset, "aux arrays")
    if experiment is not None:
        check_preprocessing(dataset, experiment.preprocessing, experiment.name)
    original = dataset.original_index("train").numpy()
    subset = load_published_indices(arguments.subset, len(original), original, arguments.order, name)
    if not len(subset):
        raise DataError(f"{arguments.subset}: names no examples; it must list those that the network was trained on")
    total = len(dataset.labels("train")) + len(dataset.labels("test"))
    with Bar("evaluate", "image", total) as bar:
        train, test = (
            evaluate(
                model.to(device), dataset, split,
                batch_size=arguments.batch_size, device=device, precision=arguments.precision, progress=bar.add,
            )
            for split in ("train", "test")
        )  # fmt: skip
    make_aux(train, test, subset, dataset).write(out)
    shares = float(train.correct.mean()), float(test.correct.mean())
    summarize(
        arguments, f"correct on train {shares[0]:.4f}, test {shares[1]:.4f}; wrote {out}",
        train=shares[0], test=shares[1], out=out,
    )  # fmt: skip
    return 0
