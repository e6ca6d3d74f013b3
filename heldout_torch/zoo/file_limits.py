"""How large a file of a zoo may be: more is not read, wherever the zoo lies, and whatever its records say."""

from heldout_torch.experiments import DEFINITION_FILE
from heldout_torch.experiments.toml_files import MAX_BYTES
from heldout_torch.storage.urls import MAX_FILE
from heldout_torch.zoo.card import CARD_FILE
from heldout_torch.zoo.indexing import ARCHIVE_RECORD
from heldout_torch.zoo.keys import AUX_FILE, MODEL_FILE
from heldout_torch.zoo.manifest import MANIFEST_FILE, MAX_MANIFEST
from heldout_torch.zoo.records import MAX_RECORD

MAX_AUX = 2**28  # bytes; ImageNet's have 24 million
_LIMITS = {
    MODEL_FILE: MAX_FILE,
    AUX_FILE: MAX_AUX,
    MANIFEST_FILE: MAX_MANIFEST,
    DEFINITION_FILE: MAX_BYTES,
    ARCHIVE_RECORD: 2**20,
    CARD_FILE: 2**24,
}


def file_limit(name: str) -> int:
    """Return how many bytes a file of a zoo may have, by its path or name; small ones are as a run's record."""
    return _LIMITS.get(name.rpartition("/")[2], MAX_RECORD)
