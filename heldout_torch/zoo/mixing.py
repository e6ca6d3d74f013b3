"""Runs of several dtypes are not mixed unseen: whoever copies is told of those that are there in another."""

from collections.abc import Collection

from heldout_torch.errors import HeldoutError, ZooError
from heldout_torch.zoo.base import WritableZoo, Zoo
from heldout_torch.zoo.dtypes import named
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest


def refusals(
    source: Zoo | None, target: WritableZoo, there: Collection[RunKey], dtype: str | None
) -> dict[RunKey, str]:
    """Return what to say of the runs of a target that are there in another dtype than would be written.

    Args:
        source: Where the runs come from; None if from an archive, which holds float32.
        target: Where they would go.
        there: Those of them that are there.
        dtype: What they would be stored in; None for what the source has.
    """
    if not there:
        return {}
    listed = _listed(target)
    given = {} if source is None or dtype is not None else _listed(source)
    refused = {}
    for key in there:
        wanted = dtype or given.get(key)
        try:
            found = listed[key] if key in listed else target.metadata(key).dtype
        except HeldoutError:
            continue  # damaged: `heldout zoo check` tells of it
        if found != wanted:
            refused[key] = (
                f"is in {target.location} as {named(found)}, and would be written as {named(wanted)}; name another zoo"
            )
    return refused


def _listed(zoo: Zoo) -> dict[RunKey, str | None]:
    """Return the dtypes of the runs of a zoo's manifest; nothing if it has none that can be read."""
    data = zoo.read(MANIFEST_FILE)
    try:
        runs = {} if data is None else Manifest.from_bytes(data, zoo.location).runs
    except ZooError:
        return {}
    return {key: record.dtype for key, record in runs.items()}
