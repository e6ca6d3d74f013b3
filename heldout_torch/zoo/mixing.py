"""Find runs in a target that differ in dtype, model, recipe or data from what would be written there."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from heldout_torch.errors import HeldoutError
from heldout_torch.experiments.experiment import differences
from heldout_torch.zoo.base import WritableZoo, Zoo
from heldout_torch.zoo.dtypes import named
from heldout_torch.zoo.keys import MODEL_FILE, RunKey
from heldout_torch.zoo.manifest import MANIFEST_FILE, Manifest
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.records import RunRecord


def listed_runs(zoo: Zoo) -> Mapping[RunKey, RunRecord]:
    """Return the runs in a zoo's manifest, none if that cannot be read."""
    return Manifest.if_readable(zoo.read(MANIFEST_FILE)).runs


def refusals(
    source: Zoo | None,
    target: WritableZoo,
    listed: Mapping[RunKey, RunRecord],
    there: Collection[RunKey],
    dtype: str | None,
) -> dict[RunKey, str]:
    """Return what to say of the runs of a target that are there in another dtype, or with another model, than would
    be written.

    Models are compared by the hashes in the manifests of both places; aux arrays may be a place's own.

    Args:
        source: Where the runs come from; None if from an archive, which holds float32.
        target: Where they would go.
        listed: The runs in its manifest.
        there: Those of them that are there.
        dtype: What they would be stored in; None for what the source has.
    """
    if not there:
        return {}
    given = {} if source is None or dtype is not None else listed_runs(source)
    refused = {}
    for key in there:
        wanted = dtype or (given[key].dtype if key in given else None)
        try:
            found = listed[key].dtype if key in listed else target.metadata(key).dtype
        except HeldoutError:
            continue  # damaged: `heldout zoo check` names it
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


def trained_otherwise(there: RunMetadata, recipe: dict[str, Any] | None, data_sha256: str | None) -> str | None:
    """Return in words that a run was trained by another recipe, or on other data; None if that is not known.

    Args:
        there: Metadata of the run.
        recipe: The recipe that is expected, as metadata keep it; None if any will do.
        data_sha256: Digest of the data set that is expected; None if it is not known.
    """
    if recipe is None:
        return None
    if there.recipe is None:
        return "by a recipe that is not known"
    if there.recipe != recipe:
        return f"by another recipe ({differences(there.recipe, recipe)})"
    if None not in (there.data_sha256, data_sha256) and there.data_sha256 != data_sha256:
        return "on other data (images, labels or their scale)"
    return None


def first_trained(
    zoo: Zoo, listed: Iterable[RunKey], experiments: Collection[str], leave_out: Collection[RunKey]
) -> dict[str, RunMetadata]:
    """Return by experiment the metadata of a run that this package trained, where a zoo has one.

    Of each subset ratio the first run that can be read is looked at.

    Args:
        zoo: The zoo.
        listed: The runs in its manifest.
        experiments: The experiments.
        leave_out: Runs that do not count, as they will be replaced.
    """
    found: dict[str, RunMetadata] = {}
    seen: set[tuple[str, float]] = set()
    for key in sorted(key for key in listed if key.experiment in experiments and key not in leave_out):
        if key.experiment in found or (key.experiment, key.subset_ratio) in seen:
            continue
        try:
            metadata = zoo.metadata(key)
        except HeldoutError:  # damaged: `heldout zoo check` tells of it
            continue
        seen.add((key.experiment, key.subset_ratio))
        if metadata.recipe is not None:
            found[key.experiment] = metadata
    return found


def _differ(one: RunRecord, other: RunRecord | None) -> bool:
    """Return whether the models of two records are known, and are not the same."""
    models = [None if record is None else record.files.get(MODEL_FILE) for record in (one, other)]
    return None not in models and models[0] != models[1]
