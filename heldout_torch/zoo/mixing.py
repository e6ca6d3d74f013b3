"""Find runs in a target that differ in dtype or model from what would be written there."""

from collections.abc import Collection

from heldout_torch.errors import HeldoutError
from heldout_torch.zoo.base import WritableZoo, Zoo
from heldout_torch.zoo.dtypes import named
from heldout_torch.zoo.keys import MODEL_FILE, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.records import RunRecord


def refusals(
    source: Zoo | None, target: WritableZoo, there: Collection[RunKey], dtype: str | None
) -> dict[RunKey, str]:
    """Return what to say of the runs of a target that are there in another dtype, or with another model, than would
    be written.

    Models are compared by the hashes in the manifests of both places; aux arrays may be a place's own.

    Args:
        source: Where the runs come from; None if from an archive, which holds float32.
        target: Where they would go.
        there: Those of them that are there.
        dtype: What they would be stored in; None for what the source has.
    """
    if not there:
        return {}
    listed, given = (
        {} if zoo is None else Manifest.if_readable(zoo.read(MANIFEST_FILE)).runs
        for zoo in (target, source if dtype is None else None)
    )
    refused = {}
    for key in there:
        wanted = dtype or (given[key].dtype if key in given else None)
        try:
            found = listed[key].dtype if key in listed else target.metadata(key).dtype
        except HeldoutError:
            continue  # damaged: `heldout zoo check` tells of it
        if found != wanted:
            refused[key] = (
                f"is in {target.location} as {named(found)}, and would be written as {named(wanted)}; name another zoo"
            )
        elif key in listed and _differ(listed[key], given.get(key)):
            refused[key] = (
                f"is in {target.location} with another model than in the source; replace it by heldout export "
                "--overwrite, or name another zoo"
            )
    return refused


def _differ(one: RunRecord, other: RunRecord | None) -> bool:
    """Return whether the models of two records are known, and are not the same."""
    models = [None if record is None else record.files.get(MODEL_FILE) for record in (one, other)]
    return None not in models and models[0] != models[1]
