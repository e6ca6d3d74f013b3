"""Find runs of a place by names and patterns."""

import reprlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from heldout_torch.errors import ZooError
from heldout_torch.experiments import check_name, known_experiments
from heldout_torch.storage.paths import ZOO_VARIABLE
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey, as_ratio, as_runs, make_key, nearest_ratio
from heldout_torch.zoo.open import Place, open_zoo, sample_zoo
from heldout_torch.zoo.run_list import RunList
from heldout_torch.zoo.selection import described, is_pattern


def list_runs(
    zoo: Place | None = None, experiment: str | None = None, subset_ratio: Any = None, runs: Any = None
) -> RunList:
    """List the runs of a place, in order of experiment, ratio, run.

    Args:
        zoo: As in `load_run`.
        experiment: Only runs of this experiment; `*` matches any characters, as in `cifar*-inception`.
        subset_ratio: Only runs of this ratio.
        runs: Only these numbers, one or several, or a list as text, such as `"0-9,42"`.

    Returns:
        A list of keys; empty if no run matches. A notebook shows it as a table, and `.to_pandas()` converts it to a
        data frame.

    Raises:
        ZooError: If the place cannot be listed.

    Example:
        >>> list_runs()[0]  # of the bundled sample
        RunKey(experiment='digits-mlp-tf', subset_ratio=0.7, run=0)
    """
    opened = open_zoo(zoo)
    if not isinstance(experiment, str | None):
        raise ZooError(f"experiment {reprlib.repr(experiment)} is not a name")
    if experiment is not None and "/" in experiment:
        raise ZooError(
            f"{experiment!r} is not a name of experiments; ratio and runs are given by subset_ratio and runs"
        )
    if experiment is not None and not is_pattern(experiment):
        check_name(experiment)
    keys = opened.keys(experiment if experiment is None or not is_pattern(experiment) else None)
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


def as_key(zoo: Zoo, experiment: str | RunKey, subset_ratio: Any = None, run: Any = None) -> RunKey:
    """Return the key of a run from what names it: an experiment, a ratio and a number, or the whole key.

    Raises:
        ZooError: If something is missing or given twice, or is not a name, ratio or number. The line names the runs
            that are there.
    """
    if (isinstance(experiment, RunKey) or "/" in str(experiment)) and (subset_ratio, run) != (None, None):
        raise ZooError(f"{reprlib.repr(str(experiment))} names the run; leave out its subset ratio and its number")
    if isinstance(experiment, RunKey):
        return make_key(experiment.experiment, experiment.subset_ratio, experiment.run)
    if not isinstance(experiment, str):
        what = reprlib.repr(experiment)
        raise ZooError(f"{what} names no run, expected an experiment or a key, such as 'cifar10-inception/0.7/3'")
    if "/" in experiment:
        return RunKey.parse(experiment)
    if run is None:
        lacks = "the number of a run" if subset_ratio is not None else "a subset ratio and the number of a run"
        asked = () if subset_ratio is None else [as_ratio(subset_ratio)]
        there = described(zoo.keys(experiment) or zoo.keys(), experiment, asked)
        raise ZooError(f"{experiment}: give {lacks}; {zoo.location}: {there}")
    return make_key(experiment, only_ratio(zoo, experiment) if subset_ratio is None else subset_ratio, run)


def only_ratio(zoo: Zoo, experiment: str, keys: Sequence[RunKey] | None = None) -> float:
    """Return the subset ratio of an experiment of which a place has only one; see `ratios_of`.

    Raises:
        ZooError: If there are several, or no runs.
    """
    ratios = ratios_of(zoo, experiment, keys)
    if len(ratios) > 1:
        listed = ", ".join(map(repr, ratios))
        raise ZooError(f"{zoo.location}: give the subset ratio of {experiment}, one of {listed}")
    return ratios[0]


def ratios_of(zoo: Zoo, experiment: str, keys: Sequence[RunKey] | None = None) -> list[float]:
    """Return the subset ratios at which a place has runs of an experiment, in ascending order.

    Args:
        zoo: The place.
        experiment: Its name.
        keys: Its runs, if the place was listed already.

    Raises:
        ZooError: If it has none; the line says what there is.
    """
    ratios = sorted({key.subset_ratio for key in (zoo.keys(experiment) if keys is None else keys)})
    if not ratios:
        raise ZooError(f"{zoo.location}: holds no runs of {experiment}; {described(zoo.keys(), experiment)}")
    return ratios


def _where_else(zoo: Zoo, key: RunKey) -> str:
    """Return where the runs of an experiment come from of which a place has none, as far as that is known."""
    experiment, how = known_experiments().get(key.experiment), ""
    words = f"{key.experiment} --zoo ZOO --subset-ratio {key.subset_ratio!r} --runs {key.run}"
    if experiment is not None and experiment.archive is not None:
        how = f"; to get it from the published archive: heldout export {words}"
    elif experiment is not None and experiment.recipe is not None:
        how = f"; to train it: heldout train {words}"
    if zoo.location == str(sample_zoo()):
        how += f"; this is the bundled sample, name another place: pass zoo='ZOO', or set {ZOO_VARIABLE}"
    return how
