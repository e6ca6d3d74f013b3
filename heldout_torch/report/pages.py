"""The report of an experiment: a static page that opens from disk, with its images and data beside it."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import heldout_torch
from heldout_torch.errors import HeldoutError
from heldout_torch.report import figures, payload
from heldout_torch.report.optional import require
from heldout_torch.report.statistics import LEVELS, NEAR, ReportStatistics, check_sizes
from heldout_torch.report.thumbnails import SIDE, encode_sprites, make_tiles, read_images
from heldout_torch.stats import InfluencePairs, error_bound, histogram
from heldout_torch.stats.progress import progress
from heldout_torch.storage.files import new_folder, write_synced
from heldout_torch.zoo import Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from heldout_torch.data import Dataset

MAX_PICTURES = 100_000  # with more examples than that, only those which the page shows have an image
MAX_PAIRS = 20_000  # the strongest of them
SPRITE_BYTES = 15_000_000
_VARIABLES = {figures.INK: "currentColor", figures.GRID: "var(--line)", figures.BLUE: "var(--accent)"}


def write_report(
    statistics: ReportStatistics,
    experiment: Experiment,
    dataset: "Dataset",
    out: str | Path,
    class_names: Sequence[str] | None = None,
    commands: Sequence[str] = (),
) -> Path:
    """Write the report of an experiment as a folder, which appears at once.

    Args:
        statistics: What `gather_statistics` gave for the experiment's runs.
        experiment: What the runs were trained on.
        dataset: Its images; those that it lacks are marked gaps.
        out: The folder, which must not exist or be empty.
        class_names: By label; the labels themselves by default.
        commands: Those that made runs and report, for the foot of the page.

    Returns:
        The page, `index.html` in that folder. It loads nothing from outside the folder.

    Raises:
        DataError: If statistics, experiment and data set are not about the same examples.
        HeldoutError: If the folder is not empty, names and classes differ in number, or Jinja2, Matplotlib or Pillow
            is not installed.
    """
    out = Path(out)
    check_output(out)
    n, m = experiment.train_examples, experiment.test_examples
    check_sizes(statistics.table, n, m, f"experiment {experiment.name}")
    labels = dataset.labels("train").numpy(), dataset.labels("test").numpy()
    check_sizes(statistics.table, len(labels[0]), len(labels[1]), dataset.name)
    names = [str(label) for label in range(dataset.num_classes)] if class_names is None else list(class_names)
    if len(names) != dataset.num_classes:
        raise HeldoutError(f"{len(names)} class names given, {dataset.name} has {dataset.num_classes} classes")
    html = _render(statistics, experiment, dataset, names, commands)
    with new_folder(out, overwrite=True) as folder:
        write_synced(folder / "index.html", html.encode())
        for name in ("report.css", "report.js"):
            write_synced(folder / name, _template_source(name))
        _write_data(folder, statistics, dataset, labels, names)
    return out / "index.html"


def check_output(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        HeldoutError: If it does, or is no folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise HeldoutError(f"{out}: exists and is not an empty folder; choose another one or remove it")


def _write_data(
    folder: Path,
    statistics: ReportStatistics,
    dataset: "Dataset",
    labels: tuple[np.ndarray, np.ndarray],
    names: list[str],
) -> None:
    n, m = map(len, labels)
    everything = np.arange(n)
    classes = [everything, *(np.flatnonzero(labels[0] == label) for label in range(len(names)))]
    groups = [payload.choose_examples(statistics, examples) for examples in classes]
    pairs = _strongest(statistics.pairs)
    order = payload.picture_order(groups, pairs, n, m, MAX_PICTURES)
    images = read_images(dataset, "train", order[0]) + read_images(dataset, "test", order[1])
    pictures = np.full(n, -1), np.full(m, -1)
    tiles_wanted = [place for place, image in enumerate(images) if image is not None]
    place_of = np.full(len(images), -1)
    place_of[tiles_wanted] = np.arange(len(tiles_wanted))
    pictures[0][order[0]], pictures[1][order[1]] = place_of[: len(order[0])], place_of[len(order[0]) :]
    tiles = make_tiles([images[place] for place in tiles_wanted])
    ending, sprites = encode_sprites(tiles, SPRITE_BYTES)
    (folder / "images").mkdir()
    for block, sprite in enumerate(progress(sprites, "images", "sprite", -(-len(tiles) // SIDE**2))):
        write_synced(folder / "images" / f"{block}.{ending}", sprite)

    data = folder / "data"
    data.mkdir()
    setup = {
        "classes": names,
        "examples": n,
        "block": payload.BLOCK,
        "pictures": len(tiles),
        "sprite": {"side": SIDE, "pixels": tiles.shape[1], "ending": ending},
        "ratios": statistics.consistency.ratios.tolist(),
        "runs": payload.run_names(statistics.table.keys),
    }
    write_synced(data / "setup.js", payload.script("setup", setup))
    for group, chosen in enumerate(groups):
        name = "group-all" if group == 0 else f"group-{group - 1}"
        write_synced(data / f"{name}.js", payload.group_script(name, chosen, statistics, labels[0], pictures[0]))
    write_synced(data / "pairs.js", payload.pair_script(pairs, statistics, labels, pictures))
    run_lists = payload.with_run_lists(statistics)
    for block in range(-(-n // payload.BLOCK)):
        contents = payload.block_script(statistics, labels[0], pictures[0], block, run_lists)
        write_synced(data / f"examples-{block}.js", contents)


def _render(
    statistics: ReportStatistics,
    experiment: Experiment,
    dataset: "Dataset",
    names: list[str],
    commands: Sequence[str],
) -> str:
    jinja = require("jinja2")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("heldout_torch.report"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pairs, table = statistics.pairs, statistics.table
    several = len(statistics.consistency.ratios) > 1
    charts: dict[str, Any] = {
        "memorization": figures.plot_memorization_histogram(statistics.memorization, statistics.memorization_error),
        "influence": figures.plot_influence_histogram(pairs.influence, pairs.standard_error) if len(pairs) else None,
        "consistency": figures.plot_consistency_by_ratio(statistics.consistency) if several else None,
    }
    known = np.isfinite(statistics.memorization)
    memorized = statistics.memorization >= np.float32(0.25)  # False for NaN
    return environment.get_template("index.html").render(
        experiment=experiment,
        dataset=dataset,
        names=names,
        statistics=statistics,
        version=heldout_torch.__version__,
        commands=commands,
        levels=list(zip(LEVELS, ("around 0", "around one half", "around 1"), strict=True)),
        near=NEAR,
        charts={name: figure and jinja.filters.Markup(_svg(figure, name)) for name, figure in charts.items()},
        memorization_bins=histogram(statistics.memorization),
        influence_bins=histogram(pairs.influence),
        largest_error=_quantile(statistics.memorization_error, 1.0),
        memorized_error=_quantile(statistics.memorization_error[memorized], 0.5),
        pair_error=_quantile(pairs.standard_error, 0.5),
        bound=error_bound(table.runs, statistics.subset_ratio) ** 0.5,
        unknown=int((~known).sum()),
        memorized=int(memorized.sum()),
        pairs_shown=min(len(pairs), MAX_PAIRS),
        accuracies=[
            (ratio, len(runs.test), [_spread(values) for values in (runs.train, runs.removed, runs.test)])
            for ratio, runs in statistics.accuracies.items()
        ],
    )


def _svg(figure: "Figure", name: str) -> str:
    """Draw a figure as SVG that takes its colours and its font from the page."""
    text = io.StringIO()
    with require("matplotlib").rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg


def _spread(values: np.ndarray) -> tuple[float, float, float, float] | None:
    """Give mean, standard deviation, least and largest of the runs that have a value."""
    known = values[np.isfinite(values)]
    return (known.mean(), known.std(), known.min(), known.max()) if len(known) else None


def _quantile(values: np.ndarray, share: float) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else None


def _strongest(pairs: InfluencePairs) -> InfluencePairs:
    return InfluencePairs(*(column[:MAX_PAIRS] for column in vars(pairs).values()))


def _template_source(name: str) -> bytes:
    return (Path(__file__).parent / "templates" / name).read_bytes()
