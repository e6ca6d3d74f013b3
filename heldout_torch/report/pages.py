"""Write the report of an experiment: a static page that opens from disk, with its images and data."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import heldout_torch
from heldout_torch.data import AnyDataset, as_dataset
from heldout_torch.errors import HeldoutError, counted, os_errors
from heldout_torch.optional import require
from heldout_torch.report import figures, payload
from heldout_torch.report.statistics import LEVELS, NEAR, ReportStatistics
from heldout_torch.report.thumbnails import SIDE, encode_sprites, make_tiles, read_images
from heldout_torch.stats import PUBLISHED_BINS, ExampleFacts, InfluencePairs, error_bound, facts_of, histogram
from heldout_torch.stats.accuracies import fit_warning, spread
from heldout_torch.stats.arguments import as_kind
from heldout_torch.stats.summary import check_examples
from heldout_torch.storage.files import new_folder, remove_stale, write_plainly
from heldout_torch.storage.paths import Location, check_folder_name, local_path
from heldout_torch.storage.progress import tracked
from heldout_torch.zoo import Experiment
from heldout_torch.zoo.aux_arrays import PARTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from heldout_torch.data import Dataset

_MAX_PICTURES = 100_000  # with more examples than that, only those which the page shows have an image
_MAX_PAIRS = 20_000  # the strongest of them
_SPRITE_BYTES = 15_000_000
_VARIABLES = {figures.INK: "currentColor", figures.GRID: "var(--line)", figures.BLUE: "var(--accent)"}


def write_report(
    statistics: ReportStatistics,
    experiment: Experiment,
    dataset: AnyDataset | None,
    out: Location,
    class_names: Sequence[str] | None = None,
    commands: Sequence[str] = (),
) -> Path:
    """Write the report of an experiment as a folder, which appears at once.

    Args:
        statistics: What `gather_statistics` gave for the experiment's runs.
        experiment: What the runs were trained on.
        dataset: The data set with the images; missing images become marked gaps. None for figures and numbers only.
        out: The folder; it must be empty or not exist.
        class_names: By label; the labels themselves by default.
        commands: Commands that made the runs and the report, shown at the end of the page.

    Returns:
        The page, `index.html` in that folder. It loads nothing from outside the folder.

    Raises:
        DataError: If statistics, experiment and data set are not for the same examples, or the folder has a file's
            name.
        HeldoutError: If the folder is not empty or cannot be written, names and classes differ in number, or Jinja2,
            Matplotlib or Pillow is not installed.
    """
    as_kind(statistics, ReportStatistics, "statistics")
    as_kind(experiment, Experiment, "experiment", "find_experiment")
    out = local_path(out)
    check_folder_name(out)
    check_output(out)
    sizes = ExampleFacts(experiment.train_examples), ExampleFacts(experiment.test_examples)
    check_examples(statistics.table, *sizes, f"experiment {experiment.name}")
    if dataset is not None:
        dataset = as_dataset(dataset)
        check_examples(statistics.table, facts_of(dataset, "train"), facts_of(dataset, "test"), dataset.name)
    labels = _labels(statistics.train), _labels(statistics.test)
    names = names_of_classes(class_names, experiment.dataset, dataset, (statistics.train, statistics.test))
    html = _render(statistics, experiment, dataset is not None, names, commands)
    remove_stale(out.parent)
    with os_errors(HeldoutError, f"{out}: cannot be written"), new_folder(out, overwrite=True) as folder:
        write_plainly(folder / "index.html", html.encode())
        for name in ("report.css", "report.js"):
            write_plainly(folder / name, (Path(__file__).parent / "templates" / name).read_bytes())
        _write_data(folder, statistics, dataset, labels, names)
    return out / "index.html"


def check_output(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        HeldoutError: If it does, or is not a folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise HeldoutError(f"{out}: exists and is not an empty folder; choose another one or remove it")


def _write_data(
    folder: Path,
    statistics: ReportStatistics,
    dataset: "Dataset | None",
    labels: tuple[np.ndarray, np.ndarray],
    names: list[str],
) -> None:
    n, m = map(len, labels)
    everything = np.arange(n)
    classes = [everything, *(np.flatnonzero(labels[0] == label) for label in range(len(names)))]
    groups = [payload.choose_examples(statistics, examples) for examples in classes]
    pairs = _strongest(statistics.pairs)
    pictures = np.full(n, -1), np.full(m, -1)
    number, ending = 0, "png"
    if dataset is not None:
        order = payload.picture_order(groups, pairs, n, m, _MAX_PICTURES)
        number, ending = _write_images(folder / "images", dataset, order, pictures)
    data = folder / "data"
    data.mkdir()
    setup = {
        "classes": names,
        "examples": n,
        "block": payload.BLOCK,
        "pictures": number,
        "sprite": {"side": SIDE, "ending": ending},
        "ratios": statistics.consistency.ratios.tolist(),
        "runs": [key.rpartition("/")[2] for key in statistics.table.keys],
    }
    write_plainly(data / "setup.js", payload.script("setup", setup))
    for group, chosen in enumerate(groups):
        name = "group-all" if group == 0 else f"group-{group - 1}"
        write_plainly(data / f"{name}.js", payload.group_script(name, chosen, statistics, labels[0], pictures[0]))
    write_plainly(data / "pairs.js", payload.pair_script(pairs, statistics, labels, pictures))
    run_lists = payload.with_run_lists(statistics)
    for block in range(-(-n // payload.BLOCK)):
        contents = payload.block_script(statistics, labels[0], pictures[0], block, run_lists)
        write_plainly(data / f"examples-{block}.js", contents)


def _write_images(
    folder: Path, dataset: "Dataset", order: tuple[np.ndarray, np.ndarray], pictures: tuple[np.ndarray, np.ndarray]
) -> tuple[int, str]:
    """Write sprites of the training and test examples in `order`, and the place of each image to `pictures`.

    Returns:
        The number of images, and the ending of the files.
    """
    images = read_images(dataset, "train", order[0]) + read_images(dataset, "test", order[1])
    found = np.array([image is not None for image in images], bool)
    place_of = np.where(found, np.cumsum(found) - 1, -1)
    pictures[0][order[0]], pictures[1][order[1]] = place_of[: len(order[0])], place_of[len(order[0]) :]
    tiles = make_tiles([image for image in images if image is not None])
    ending, sprites = encode_sprites(tiles, _SPRITE_BYTES)
    folder.mkdir()
    for block, sprite in enumerate(tracked(sprites, "images", "sprite", -(-len(tiles) // SIDE**2))):
        write_plainly(folder / f"{block}.{ending}", sprite)
    return len(tiles), ending


def _render(
    statistics: ReportStatistics,
    experiment: Experiment,
    with_images: bool,
    names: list[str],
    commands: Sequence[str],
) -> str:
    jinja = require("jinja2", "a report")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("heldout_torch.report"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pairs, table = _strongest(statistics.pairs), statistics.table
    values, errors = statistics.memorization, statistics.memorization_error
    several = len(statistics.consistency.ratios) > 1
    charts: dict[str, Any] = {
        "memorization": figures.plot_memorization_histogram(values, errors),
        "influence": figures.plot_influence_histogram(pairs.influence, pairs.standard_error) if len(pairs) else None,
        "consistency": figures.plot_consistency_by_ratio(statistics.consistency) if several else None,
    }
    known = np.isfinite(values)
    memorized = values >= np.float32(0.25)  # False for NaN
    return environment.get_template("index.html").render(
        experiment=experiment,
        with_images=with_images,
        names=names,
        statistics=statistics,
        version=heldout_torch.__version__,
        commands=commands,
        levels=list(zip(LEVELS, ("around 0", "around one half", "around 1"), strict=True)),
        near=NEAR,
        charts={name: figure and jinja.filters.Markup(_svg(figure, name)) for name, figure in charts.items()},
        memorization_bins=histogram(values),
        influence_bins=histogram(pairs.influence, **PUBLISHED_BINS["cifar100-influence"]),
        largest_error=_quantile(errors, 1.0),
        memorized_width=_quantile(np.subtract(*statistics.memorization_interval[::-1])[memorized], 0.5),
        likely_pairs=None if statistics.pairs is None else _count_likely(statistics.pairs),
        bound=error_bound(table.runs, statistics.subset_ratio) ** 0.5,
        unknown=int((~known).sum()),
        memorized=int(memorized.sum()),
        pairs=None if statistics.pairs is None else len(statistics.pairs),
        pairs_shown=len(pairs),
        accuracies=[
            (ratio, len(runs.test), [spread(getattr(runs, part)) for part in PARTS])
            for ratio, runs in statistics.accuracies.items()
        ],
        warnings=[fit_warning(spread(runs.train).mean, ratio) for ratio, runs in statistics.accuracies.items()],
    )


def _svg(figure: "Figure", name: str) -> str:
    """Draw a figure as SVG that takes its colours and its font from the page."""
    text = io.StringIO()
    with require("matplotlib", "a report").rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg


def _quantile(values: np.ndarray, share: float) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else None


def _count_likely(pairs: InfluencePairs) -> int:
    assert pairs.false_discovery_rate is not None  # they come from a run table
    return int((pairs.false_discovery_rate <= 0.05).sum())


def _strongest(pairs: InfluencePairs | None) -> InfluencePairs:
    """Return the pairs that are listed; none if labels are not known."""
    if pairs is None:
        index, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return InfluencePairs(index, index, nothing, nothing, nothing)
    return pairs[:_MAX_PAIRS]


def names_of_classes(
    names: Sequence[str] | None, data: str, dataset: "Dataset | None", examples: tuple[ExampleFacts, ExampleFacts]
) -> list[str]:
    """Return the names of classes by label, checked; the labels themselves if no names are given.

    Raises:
        HeldoutError: If names and classes differ in number; `data` is what the error calls the data set.
    """
    if dataset is not None:
        classes = dataset.num_classes
    else:
        classes = 1 + max(int(_labels(split).max(initial=-1)) for split in examples)
    found = [str(label) for label in range(classes)] if names is None else list(names)
    if len(found) != classes and (classes or dataset is not None):
        raise HeldoutError(f"{counted(len(found), 'class name')} given, {data} has {counted(classes, 'class')}")
    return found


def _labels(examples: ExampleFacts) -> np.ndarray:
    return np.full(examples.size, -1) if examples.labels is None else examples.labels
