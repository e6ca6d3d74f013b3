"""`heldout declare`: write the file of an experiment with a user's own data set and network."""

import argparse
import inspect
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from heldout_torch.cli import options
from heldout_torch.cli.output import summarize
from heldout_torch.cli.parser import Parser
from heldout_torch.data import Dataset, list_datasets
from heldout_torch.errors import DataError, HeldoutError, counted
from heldout_torch.experiments import Experiment, Recipe, check_name, is_experiment_file, known_experiments, read_recipe
from heldout_torch.models import build_model, find_architecture
from heldout_torch.models.registry import check_shapes
from heldout_torch.models.trial import try_network
from heldout_torch.plugins import loaded_plugins
from heldout_torch.storage.files import remove_stale, write_atomically
from heldout_torch.storage.paths import local_path


def configure(parser: Parser) -> None:
    """Add what the verb takes to its parser."""
    parser.description = (
        "Look at a data set, build the network for it, and write NAME.toml for `heldout train NAME.toml`. The file "
        "declares the experiment and has a first recipe. You may edit it before the first run is trained."
    )
    parser.add_argument("name", metavar="NAME", help="name of the experiment, such as my-digits-mlp")
    options.add_data_options(parser)
    parser.add_argument("--dataset", metavar="NAME", help="name of the data set, default: the name of the --data file")
    parser.add_argument(
        "--architecture", required=True, metavar="A", help="name of the network, such as mlp, or one from --plugin"
    )
    parser.add_argument(
        "--config", type=options.json_object, default={}, metavar="JSON",
        help="options of the architecture, such as '{\"widths\": [512, 256]}'; sizes that the data set decides are "
        "filled in",
    )  # fmt: skip
    parser.add_argument("--recipe", type=local_path, metavar="FILE.toml", help="recipe: how runs are trained")
    parser.add_argument(
        "--out", type=options.file_to_write, metavar="FILE.toml", help="file to write, default: NAME.toml"
    )
    parser.set_defaults(run_verb=_declare)


def _declare(arguments: argparse.Namespace) -> int:
    check_name(arguments.name)
    if arguments.name in known_experiments():
        raise HeldoutError(f"{arguments.name} is an experiment of this package; take another name")
    if is_experiment_file(arguments.name):
        raise HeldoutError(f"NAME is the name of the experiment, not of its file: {arguments.name[:-5]}")
    out = arguments.out or options.file_to_write(f"{arguments.name}.toml")
    if out.name != f"{arguments.name}.toml":
        raise HeldoutError(f"{out}: the file of an experiment has the experiment's name, {arguments.name}.toml")
    if arguments.dataset is None and arguments.data is None:
        raise DataError("the data set is missing; give its file with --data, or the name of a known one with --dataset")
    name = arguments.dataset or arguments.data.stem
    if arguments.dataset is None and arguments.data.suffix.lower() != ".npz" and name not in list_datasets():
        raise DataError(
            f"{arguments.data}: is not an npz file; give the name of the data set there with --dataset, such as cifar10"
        )
    dataset = options.load_data(arguments, name)
    config = _fitting(arguments.architecture, arguments.config, dataset)
    sizes = len(dataset.labels("train")), len(dataset.labels("test"))
    _check_name(dataset.name, sizes)
    experiment = Experiment(
        arguments.name, dataset.name, arguments.architecture, config, *sizes, dict(dataset.preprocessing)
    )
    recipe = read_recipe(arguments.recipe) if arguments.recipe else _first_recipe(sizes[0])
    contents = "\n".join(_lines(experiment, recipe)).encode() + b"\n"
    if not out.exists():
        remove_stale(out.parent)
        write_atomically(out, contents)
    elif out.read_bytes() != contents:  # equal contents: of a call that was interrupted, or made twice
        raise HeldoutError(f"{out}: exists already with other contents; edit it, or remove it first")
    how = "".join(f" --plugin {name}" for name in loaded_plugins())
    how += f" --data {shlex.quote(str(arguments.data))}" if arguments.data else ""
    summarize(
        arguments,
        f"wrote {out}: {sizes[0]} training and {sizes[1]} test examples, {counted(dataset.num_classes, 'class')}; "
        f"next: heldout train {shlex.quote(str(out))} --subset-ratio 0.7 --runs 0-19 --zoo ZOO{how}",
        out=out, train_examples=sizes[0], test_examples=sizes[1], num_classes=dataset.num_classes, config=config,
    )  # fmt: skip
    return 0


def _check_name(dataset: str, sizes: tuple[int, int]) -> None:
    """Check that data of one's own are not called as a data set whose order of examples is known by its name."""
    for other in known_experiments().values():
        if other.dataset == dataset and (there := (other.train_examples, other.test_examples)) != sizes:
            raise DataError(
                f"{dataset} is a data set of {there[0]} training and {there[1]} test examples, not {sizes[0]} and "
                f"{sizes[1]}; give yours another name with --dataset"
            )


def _first_recipe(examples: int) -> Recipe:
    """Return a recipe to begin with: small subsets of small data sets must still hold a batch."""
    return Recipe(epochs=60, batch_size=max(1, min(128, examples // 16)), learning_rate=0.1)


def _fitting(architecture: str, config: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Return the options of a network with the sizes that the data set decides, tried on an image of it."""
    image = dataset.image("train", 0)  # (c, h, w)
    decided = {
        "num_classes": dataset.num_classes, "in_channels": image.shape[0], "in_features": image.numel(),
    }  # fmt: skip
    taken = inspect.signature(find_architecture(architecture).build).parameters
    filled = {**{name: value for name, value in decided.items() if name in taken}, **config}
    try:
        model = build_model(architecture, **filled).eval()
    except HeldoutError as error:
        raise HeldoutError(f"{error}; its options are {', '.join(taken)}: give them with --config") from None
    check_shapes(architecture, model)
    try:
        logits = try_network(model, image[None])
    except HeldoutError as error:
        shape = tuple(image.shape)
        raise HeldoutError(f"{architecture} with {filled} cannot take images of {shape}: {error}") from None
    if logits.shape != (1, dataset.num_classes):
        raise HeldoutError(
            f"{architecture} with {filled} gives {tuple(logits.shape)} for an image, expected {dataset.num_classes} "
            "logits"
        )
    return filled


def _lines(experiment: Experiment, recipe: Recipe) -> Iterator[str]:
    """Yield the TOML of an experiment and its recipe; what the recipe leaves as it is by default is not written."""
    record = experiment.to_record()
    tables = {name: record.pop(name) for name in ("config", "preprocessing")}
    yield from (f"{name} = {_toml(value)}" for name, value in record.items())
    default = asdict(Recipe(1, 1, 1.0))
    required = ("epochs", "batch_size", "learning_rate")
    tables["recipe"] = {
        name: value for name, value in asdict(recipe).items() if name in required or value != default[name]
    }
    for name, table in tables.items():
        yield from ("", f"[{name}]")
        yield from (f"{json.dumps(key)} = {_toml(value)}" if not key.isidentifier() else f"{key} = {_toml(value)}"
                    for key, value in table.items())  # fmt: skip


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)  # strings, numbers, true and false are written alike
