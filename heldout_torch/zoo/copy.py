"""Copy runs from one place to another, for exporting, pushing and pulling."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from heldout_torch.errors import HeldoutError, UnwritableError, ZooError
from heldout_torch.storage.threads import map_ahead
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.dtypes import DTYPES
from heldout_torch.zoo.find import as_key
from heldout_torch.zoo.indexing import ARCHIVE_RECORD
from heldout_torch.zoo.keys import RunKey, nearest_ratio
from heldout_torch.zoo.load import Run
from heldout_torch.zoo.manifest import MANIFEST_FILE
from heldout_torch.zoo.mixing import first_trained, listed_runs, refusals, trained_otherwise
from heldout_torch.zoo.open import Place, open_writable, open_zoo
from heldout_torch.zoo.selection import Selection
from heldout_torch.zoo.web import WebZoo

_NAMED = 20  # runs that are not there


@dataclass(frozen=True)
class Outcome:
    """The outcome of work on one run, such as copying it.

    Attributes:
        key: The run; None for an error that concerns the whole place.
        error: Why it failed; None if it did not.
        skipped: Whether it was there before.
    """

    key: RunKey | None
    error: str | None = None
    skipped: bool = False


def copy_runs(
    source: Place,
    target: Place,
    keys: Iterable[str | RunKey | Run] | str | RunKey | Run,
    threads: int | None = None,
    overwrite: bool = False,
    dtype: str | None = None,
) -> Iterator[Outcome]:
    """Copy runs, several at a time. TensorFlow runs are converted; between zoos files are copied byte for byte.

    Each run appears in the target whole or not at all, so you can interrupt the work at any moment and call it again.
    Several writers may write to one target at the same time. At the end the target's manifest is up to date.

    Args:
        source: Where the runs are, as in `open_zoo`.
        target: Where they go, as in `open_writable`.
        keys: The runs, such as `list_runs` returns, by key or as loaded; or one of them.
        threads: Number of runs copied at once; by default what serves both places well.
        overwrite: Also copy runs that are in the target already.
        dtype: `bfloat16` or `float16` to store weights in half the bytes, which saves each model anew.

    Yields:
        The outcome of each run, first of those that are in the target already. A run that is there in another dtype is
        an error, and so is a run that was trained by another recipe or on other data than the runs of its experiment
        in the target. A bad run does not stop the others.

    Raises:
        ZooError: If an experiment is not declared, a key or the dtype is not valid, or the target cannot be written.
    """
    if dtype is not None and not (isinstance(dtype, str) and dtype in DTYPES):
        raise ZooError(f"dtype is {dtype!r:.100}, expected {' or '.join(DTYPES)}, or none for float32")
    source, target = open_zoo(source), open_writable(target)
    several = keys if isinstance(keys, Iterable) and not isinstance(keys, str | bytes) else [keys]
    chosen = [as_key(source, key.key if isinstance(key, Run) else key) for key in several]
    experiments = {name: source.experiment(name) for name in sorted({key.experiment for key in chosen})}
    with target:
        for name, experiment in experiments.items():
            target.declare(experiment)
            archive = source.read(f"{name}/{ARCHIVE_RECORD}")
            if archive is not None and target.read(f"{name}/{ARCHIVE_RECORD}") is None:
                target.write(f"{name}/{ARCHIVE_RECORD}", archive)
        rest = chosen if overwrite else target.missing(chosen)
        there, listed = set(chosen) - set(rest), listed_runs(target)
        refused = refusals(source, target, listed, there, dtype)
        yield from (Outcome(key, refused.get(key), key not in refused) for key in chosen if key in there)
        copied = frozenset(rest)
        trained = first_trained(target, listed, {key.experiment for key in copied}, copied)

        def copy(key: RunKey) -> Outcome:
            try:
                run = source.files(key).stored_as(dtype)
            except HeldoutError as error:
                return Outcome(key, error=str(error))
            there, ours = trained.get(key.experiment), run.metadata
            if there and (other := trained_otherwise(there, ours.recipe, ours.data_sha256)):
                refusal = f"run {there.key} in {target.location} was trained {other}; name another zoo"
                return Outcome(key, error=refusal)
            return Outcome(key, skipped=not target.put_files(run, overwrite))

        yield from map_ahead(copy, rest, threads or min(source.threads, target.threads))


def not_there(selection: Selection, keys: Collection[RunKey], place: str) -> list[Outcome]:
    """Return errors about the subset ratios, and the numbers of runs, that are asked for and not there.

    Args:
        selection: What is asked for.
        keys: The runs that are there.
        place: What errors call the place.
    """
    there = {key.subset_ratio for key in keys if selection.holds(key)}
    ratios = [] if selection.runs else [r for r in selection.subset_ratios if nearest_ratio(r, there) is None]
    found = [Outcome(None, error=f"{place}: holds no such runs of subset ratio {ratio!r}") for ratio in ratios]
    missing = selection.missing(keys)
    found += [Outcome(key, error=f"is not in {place}") for key in islice(missing, _NAMED)]
    if rest := sum(1 for _ in missing):
        found.append(Outcome(None, error=f"{rest} more of the selected runs are not in {place}"))
    return found


def check_runs(zoo: Zoo, keys: Iterable[RunKey], threads: int | None = None) -> Iterator[Outcome]:
    """Read every byte of runs, and compare with their records, and those with the manifest if it lists them.

    TensorFlow runs are converted in memory.

    Yields:
        The outcome of each run.
    """
    listed = listed_runs(zoo)

    def check(key: RunKey) -> Outcome:
        try:
            record = zoo.files(key).record
        except HeldoutError as error:
            return Outcome(key, error=str(error))
        if key in listed and listed[key].files != record.files:
            intended = f"if the change was intended: heldout zoo index {zoo.location}"
            return Outcome(key, error=f"is not as in {MANIFEST_FILE}; {intended}")
        return Outcome(key)

    yield from map_ahead(check, keys, threads or zoo.threads)


def fetch_runs(
    zoo: Zoo, keys: Iterable[RunKey], threads: int | None = None, progress: Callable[[int], object] = lambda count: None
) -> Iterator[Outcome]:
    """Fetch runs of a remote zoo into the cache, several at a time. Files in the cache are checked.

    Args:
        zoo: The zoo.
        keys: The runs.
        threads: Number of downloads at once.
        progress: Called with every number of bytes fetched.

    Yields:
        The outcome of each run.

    Raises:
        UnwritableError: If the cache takes nothing more; what was fetched stays.
        ZooError: If the zoo lies on the disk already.
    """
    if not isinstance(zoo, WebZoo):
        raise ZooError(f"{zoo.location}: is on this disk already; only zoos at a URL are fetched")

    def fetch_one(key: RunKey) -> Outcome:
        try:
            zoo.fetch(key, progress, needed=True)
            return Outcome(key)
        except UnwritableError:  # nor would further files be kept
            raise
        except HeldoutError as error:
            return Outcome(key, error=str(error))

    yield from map_ahead(fetch_one, keys, threads or zoo.threads)
