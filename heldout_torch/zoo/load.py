"""A run by name, from any place that holds it."""

import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import nn

from heldout_torch.data.transforms import transform_of
from heldout_torch.errors import DataError, HeldoutError, ZooError
from heldout_torch.experiments import check_name, known_experiments
from heldout_torch.models import restore_model
from heldout_torch.storage.notebook import as_code
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey, as_ratio, as_runs, make_key, nearest_ratio
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.open import ZOO_VARIABLE, Place, open_zoo, sample_zoo
from heldout_torch.zoo.run_list import RunList
from heldout_torch.zoo.selection import described


@dataclass(frozen=True, eq=False)
class Run:
    """One trained run.

    Attributes:
        model: The network in eval mode, on the device asked for.
        metadata: What is known of the run.
        zoo: Where it was read from.
    """

    model: nn.Module
    metadata: RunMetadata
    zoo: Zoo = field(repr=False)

    @property
    def key(self) -> RunKey:
        """The run's experiment, subset ratio and number."""
        return self.metadata.key

    @property
    def transform(self) -> Callable[[Any], torch.Tensor]:
        """What turns a PIL image or uint8 tensor (c, h, w) into the network's input, float32 (c, h, w)."""
        return transform_of(self.metadata.preprocessing)

    @cached_property
    def aux(self) -> AuxArrays:
        """Which examples the run trained on and classifies correctly; read when first asked for.

        Raises:
            ZooError: If the file is missing or not valid.
        """
        return self.zoo.aux(self.key)

    def __repr__(self) -> str:
        return f"Run({str(self.key)!r}, {self.metadata.architecture} from {self.zoo.location})"

    _repr_html_ = as_code


def load_run(
    experiment: str | RunKey,
    subset_ratio: Any = None,
    run: Any = None,
    zoo: Place | None = None,
    device: str | torch.device = "cpu",
    offline: bool = False,
    index: str | None = None,
) -> Run:
    """Load a trained run.

    Args:
        experiment: Such as `cifar10-inception`; or the whole key, `"cifar10-inception/0.7/3"` or a `RunKey`.
        subset_ratio: Share of the training set that the run saw, such as 0.7: anything like a float.
        run: Number of the run: anything like an integer.
        zoo: Folder, URL or archive as in `heldout_torch.zoo.open_zoo`; by default the environment variable
            `HELDOUT_TORCH_ZOO`, else the bundled sample. Of a zoo under a URL this run is fetched into a cache.
        device: Where the model goes.
        offline: Take a remote zoo's run only from the cache, as does the environment variable `HELDOUT_TORCH_OFFLINE`.
        index: Path or URL of an archive's seek index, as in `open_zoo`.

    Raises:
        ZooError: If the run is not there or cannot be fetched, or its files are damaged.
        CheckpointError: If a TensorFlow checkpoint is damaged or of another network.

    Example:
        >>> run = load_run("digits-mlp-tf", 0.7, 3)  # from the bundled sample
        >>> run.model(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 10])
    """
    opened = open_zoo(zoo, offline, index)
    key = find_run(opened, _key(opened, experiment, subset_ratio, run))
    _fetch(opened, key)
    state = opened.state(key)
    metadata = opened.metadata(key)
    model = model_from_state(state, metadata, f"{opened.location}/{key}")
    return Run(model.to(device), metadata, opened)


def load_runs(
    experiment: str | RunKey | Iterable[str | RunKey],
    subset_ratio: Any = None,
    runs: Any = None,
    zoo: Place | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Run]:
    """Load many runs, the next ones while the caller works on one.

    Args:
        experiment: Such as `cifar10-inception`, or with `*` as in `list_runs`; or whole keys, such as `list_runs` and
            `RunTable.who_trained_on` return.
        subset_ratio: Only this ratio; all by default.
        runs: Only these numbers, in this order, as in `list_runs`; by default all that are there.
        zoo: As in `load_run`.
        device: Where the models go.

    Returns:
        An iterator over the runs, in order. A run that is missing or damaged is told when it is its turn.

    Raises:
        ZooError: If there is none.

    Example:
        >>> [run.key.run for run in load_runs("digits-mlp-tf", 0.7, [4, 1])]
        [4, 1]
    """
    opened = open_zoo(zoo)
    runs = None if runs is None else as_runs(runs)
    if not isinstance(experiment, str):
        keys = [
            _key(opened, key, None, None) for key in ([experiment] if isinstance(experiment, RunKey) else experiment)
        ]
    elif subset_ratio is None and runs is None and "/" in experiment:
        keys = [RunKey.parse(experiment)]
    elif runs is None or _is_pattern(experiment):
        keys = list_runs(opened, experiment, subset_ratio, runs)
        if not keys:
            asked = experiment, () if subset_ratio is None else [as_ratio(subset_ratio)], runs or ()
            raise ZooError(f"{opened.location}: holds no such run; {described(opened.keys(), *asked)}")
    else:
        ratio = subset_ratio if subset_ratio is not None else _only_ratio(opened, experiment)
        keys = [make_key(experiment, ratio, run) for run in runs]
    return map_ahead(lambda key: load_run(key, zoo=opened, device=device), keys, min(4, opened.threads))


def as_loaded(run: Any) -> Run:
    """Return what is given, if it is a run.

    Raises:
        DataError: If it is something else, such as the name of one.
    """
    if not isinstance(run, Run):
        raise DataError(f"{type(run).__name__} {str(run)[:60]!r} is no run, expected what load_run returns")
    return run


def list_runs(
    zoo: Place | None = None, experiment: str | None = None, subset_ratio: Any = None, runs: Any = None
) -> RunList:
    """List the runs of a place, in order of experiment, ratio, run.

    Args:
        zoo: As in `load_run`.
        experiment: Only those of this experiment; `*` stands for any letters, such as in `cifar*-inception`.
        subset_ratio: Only those of this ratio.
        runs: Only these numbers, one or several, or a list as text, such as `"0-9,42"`.

    Returns:
        The runs, a list; empty where none matches. A notebook shows it as a table, and `.to_pandas()` makes a data
        frame of it.

    Raises:
        ZooError: If the place cannot be listed.

    Example:
        >>> list_runs()[0]  # of the bundled sample
        RunKey(experiment='digits-mlp-tf', subset_ratio=0.7, run=0)
    """
    opened = open_zoo(zoo)
    if not isinstance(experiment, str | None):
        raise ZooError(f"experiment {reprlib.repr(experiment)} is no name")
    if experiment is not None and not _is_pattern(experiment):
        check_name(experiment)
    keys = opened.keys(experiment if experiment is None or not _is_pattern(experiment) else None)
    keys = [key for key in keys if experiment is None or fnmatchcase(key.experiment, experiment)]
    if subset_ratio is not None:
        ratio = nearest_ratio(as_ratio(subset_ratio), {key.subset_ratio for key in keys})
        keys = [key for key in keys if key.subset_ratio == ratio]
    if runs is not None:
        wanted = set(as_runs(runs))
        keys = [key for key in keys if key.run in wanted]
    return RunList(keys)


def find_run(zoo: Zoo, key: RunKey) -> RunKey:
    """Return the run that is meant by a key: the same, or the one of the nearest ratio within 1e-6.

    Raises:
        ZooError: If it is not there; the line says what is. Or if several ratios are that near.
    """
    # A ratio that was computed, such as 0.1 * 7, is tried as the decimal that it should be, before all runs are listed.
    for ratio in dict.fromkeys((key.subset_ratio, round(key.subset_ratio, 6))):
        near = RunKey(key.experiment, ratio, key.run)
        if 0 < ratio < 1 and near in zoo:
            return near
    try:
        keys = zoo.keys()
    except ZooError:
        zoo.record(key)  # says why it is not there
        return key
    same = [other for other in keys if other.experiment == key.experiment]
    found = nearest_ratio(key.subset_ratio, {other.subset_ratio for other in same})
    near = RunKey(key.experiment, key.subset_ratio if found is None else found, key.run)
    if near not in same:
        try:
            zoo.record(near)
        except ZooError as error:
            there = described(keys, key.experiment, [near.subset_ratio], [near.run])
            raise ZooError(f"{error}; {there}{'' if same else _where_else(zoo, key)}") from None
    return near


def _is_pattern(experiment: str) -> bool:
    return bool(set(experiment) & set("*?["))


def _only_ratio(zoo: Zoo, experiment: str) -> float:
    ratios = sorted({key.subset_ratio for key in zoo.keys(experiment)})
    if len(ratios) != 1:
        if not ratios:
            raise ZooError(f"{zoo.location}: holds no runs of {experiment}; {described(zoo.keys(), experiment)}")
        listed = ", ".join(map(repr, ratios))
        raise ZooError(f"{zoo.location}: give the subset ratio of {experiment}, one of {listed}")
    return ratios[0]


def _where_else(zoo: Zoo, key: RunKey) -> str:
    """Return where the runs of an experiment come from of which a place has none, as far as that is known."""
    experiment, how = known_experiments().get(key.experiment), ""
    words = f"{key.experiment} --zoo ZOO --subset-ratio {key.subset_ratio!r} --runs {key.run}"
    if experiment is not None and experiment.archive is not None:
        how = f"; to have it, read it out of the published archive: heldout export {words}"
    elif experiment is not None and experiment.recipe is not None:
        how = f"; to have it, train it: heldout train {words}"
    if zoo.location == str(sample_zoo()):
        how += f"; this is the bundled sample, name another place: pass zoo='ZOO', or set {ZOO_VARIABLE}"
    return how


def model_from_state(state: dict[str, torch.Tensor], metadata: RunMetadata, name: str) -> nn.Module:
    """Build a run's network around its tensors, in eval mode.

    Raises:
        ZooError: If they do not fit each other.
    """
    try:
        return restore_model(metadata.architecture, metadata.config, state)
    except HeldoutError as error:
        raise ZooError(f"{name}: {error}") from None


def _key(zoo: Zoo, experiment: str | RunKey, subset_ratio: Any, run: Any) -> RunKey:
    if (isinstance(experiment, RunKey) or "/" in str(experiment)) and (subset_ratio, run) != (None, None):
        raise ZooError(f"{reprlib.repr(str(experiment))} names the run; leave out its subset ratio and its number")
    if isinstance(experiment, RunKey):
        return make_key(experiment.experiment, experiment.subset_ratio, experiment.run)
    if not isinstance(experiment, str):
        what = reprlib.repr(experiment)
        raise ZooError(f"{what} names no run, expected an experiment or a key, such as 'cifar10-inception/0.7/3'")
    if subset_ratio is None and run is None and "/" in experiment:
        return RunKey.parse(experiment)
    if subset_ratio is None or run is None:
        lacks = " and ".join(["a subset ratio"] * (subset_ratio is None) + ["the number of a run"] * (run is None))
        there = zoo.keys(experiment) or zoo.keys()
        asked = () if subset_ratio is None else [as_ratio(subset_ratio)], () if run is None else as_runs(run)
        raise ZooError(f"{experiment}: give {lacks}; {zoo.location}: {described(there, experiment, *asked)}")
    return make_key(experiment, subset_ratio, run)


def _fetch(zoo: Zoo, key: RunKey) -> None:
    """Fetch a run of a remote zoo into the cache, with a bar where that takes long."""
    fetch = getattr(zoo, "fetch", None)
    if fetch is None:
        return
    with Bar(f"fetch run {key}", "B", delay=0.5) as bar:
        fetch(key, bar.add)
