"""Load a run by its key, from any place that holds it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from heldout_torch.data.transforms import transform_of
from heldout_torch.devices import any_device
from heldout_torch.errors import DataError, HeldoutError, ZooError, printable
from heldout_torch.models import restore_model
from heldout_torch.storage.notebook import as_code
from heldout_torch.storage.paths import Location
from heldout_torch.storage.progress import Bar
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.aux_arrays import AuxArrays
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.find import as_key, find_run, list_runs, only_ratio
from heldout_torch.zoo.keys import RunKey, as_ratio, as_runs, make_key
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.open import Place, open_zoo
from heldout_torch.zoo.selection import described, is_pattern
from heldout_torch.zoo.web import WebZoo


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
        """Function that maps a PIL image or uint8 tensor (c, h, w) to the network's input, float32 (c, h, w).

        Raises:
            DataError: If the metadata do not say how.
        """
        return transform_of(self.metadata.preprocessing)

    @cached_property
    def aux(self) -> AuxArrays:
        """Which examples the run trained on and classifies correctly; read at the first use.

        Raises:
            ZooError: If the file is missing or not valid.
        """
        return self.zoo.aux(self.key)

    def __repr__(self) -> str:
        return f"Run({str(self.key)!r}, {self.metadata.architecture} from {printable(self.zoo.location)})"

    _repr_html_ = as_code


def load_run(
    experiment: str | RunKey | Run,
    subset_ratio: Any = None,
    run: Any = None,
    zoo: Place | None = None,
    device: str | torch.device = "cpu",
    offline: bool = False,
    index: Location | None = None,
) -> Run:
    """Load a trained run.

    Args:
        experiment: Such as `cifar10-inception`; or the whole key, `"cifar10-inception/0.7/3"` or a `RunKey`, or a
            run.
        subset_ratio: Share of the training set that the run saw, such as 0.7: anything like a float. May be left out
            if the zoo has runs of one ratio only.
        run: Number of the run: anything like an integer.
        zoo: Folder, URL or archive as in `heldout_torch.zoo.open_zoo`; by default the environment variable
            `HELDOUT_TORCH_ZOO`, else the bundled sample. From a zoo at a URL, only this run is fetched, into a cache.
        device: Where the model goes.
        offline: Read a run of a remote zoo only from the cache, as with `HELDOUT_TORCH_OFFLINE=1`.
        index: Path or URL of an archive's seek index, as in `open_zoo`.

    Raises:
        ZooError: If the run is not there or cannot be fetched, or its files are damaged.
        CheckpointError: If a TensorFlow checkpoint is damaged or of another network.
        DeviceError: If there is no such device.

    Example:
        >>> run = load_run("digits-mlp-tf", 0.7, 3)  # from the bundled sample
        >>> run.model(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 10])
    """
    device, opened = any_device(device), open_zoo(zoo, offline, index)
    key = find_run(opened, as_key(opened, _named(experiment), subset_ratio, run))
    _fetch(opened, key)
    state = opened.state(key)
    metadata = opened.metadata(key)
    model = model_from_state(state, metadata, f"{opened.location}/{key}")
    return Run(model.to(device), metadata, opened)


def load_runs(
    experiment: str | RunKey | Run | Iterable[str | RunKey | Run],
    subset_ratio: Any = None,
    runs: Any = None,
    zoo: Place | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Run]:
    """Load many runs; threads load the next ones while the caller works on one.

    Args:
        experiment: Such as `cifar10-inception`, or a pattern with `*` as in `list_runs`; or a list of keys, such as
            `list_runs` and `RunTable.who_trained_on` return.
        subset_ratio: Only this ratio; all by default.
        runs: Only these numbers, in this order, as in `list_runs`; by default all that are there. With a pattern,
            missing runs are left out.
        zoo: As in `load_run`.
        device: Where the models go.

    Returns:
        An iterator over the runs, in order. A missing or damaged run raises ZooError when its turn comes.

    Raises:
        ZooError: If there is no such run.
        DeviceError: If there is no such device.

    Example:
        >>> [run.key.run for run in load_runs("digits-mlp-tf", 0.7, [4, 1])]
        [4, 1]
    """
    device, opened = any_device(device), open_zoo(zoo)
    runs = None if runs is None else as_runs(runs)
    if not isinstance(experiment, str) or "/" in experiment:
        if (subset_ratio, runs) != (None, None):
            raise ZooError("keys name the runs; leave out their subset ratio and their numbers")
        some: Iterable[Any] = [experiment]
        if isinstance(experiment, Iterable) and not isinstance(experiment, str | bytes):
            some = experiment
        keys = [as_key(opened, _named(key)) for key in some]
    elif runs is None or is_pattern(experiment):
        keys = list_runs(opened, experiment, subset_ratio, runs)
        if not keys:
            asked = experiment, () if subset_ratio is None else [as_ratio(subset_ratio)], runs or ()
            raise ZooError(f"{opened.location}: holds no such run; {described(opened.keys(), *asked)}")
        if runs is not None:
            place = {run: place for place, run in enumerate(runs)}
            keys.sort(key=lambda key: (key.experiment, key.subset_ratio, place[key.run]))
    else:
        ratio = subset_ratio if subset_ratio is not None else only_ratio(opened, experiment)
        keys = [make_key(experiment, ratio, run) for run in runs]
    if not keys:
        raise ZooError("no runs are given, expected at least one")
    return map_ahead(lambda key: load_run(key, zoo=opened, device=device), keys, min(4, opened.threads))


def as_loaded(run: Any, also: str = "") -> Run:
    """Return what is given, if it is a run.

    Raises:
        DataError: If it is something else, such as the name of one; `also` is what else the error expects.
    """
    if not isinstance(run, Run):
        raise DataError(f"{type(run).__name__} {str(run)[:60]!r} is not a run, expected what load_run returns{also}")
    return run


def _named(run: str | RunKey | Run) -> str | RunKey:
    return run.key if isinstance(run, Run) else run


def model_from_state(state: dict[str, torch.Tensor], metadata: RunMetadata, name: str) -> nn.Module:
    """Build a run's network around its tensors, in eval mode.

    Raises:
        ZooError: If they do not fit each other.
    """
    try:
        return restore_model(metadata.architecture, metadata.config, state)
    except HeldoutError as error:
        raise ZooError(f"{name}: {error}") from None


def _fetch(zoo: Zoo, key: RunKey) -> None:
    """Fetch a run of a remote zoo into the cache, with a bar where that takes long."""
    if isinstance(zoo, WebZoo):
        with Bar(f"fetch run {key}", "B", delay=0.5) as bar:
            zoo.fetch(key, bar.add)
