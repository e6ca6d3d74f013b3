"""Writers that end at the same moment: nobody loses a run, no reader fails, and nobody has to mend anything."""

import urllib.request

import pytest
import s3fs

from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.open import open_zoo
from tests.helpers.race import race
from tests.helpers.zoos import manifest_of

ROUNDS = 10  # a fault that shows in one round of three is missed by one call in sixty; `make soak` has 50 rounds


def fetched(place):
    """The runs of the manifest that any web client gets."""
    url = s3fs.S3FileSystem().url(f"{place}/manifest.json")  # signed
    with urllib.request.urlopen(url) as response:
        return set(Manifest.from_bytes(response.read(), "manifest.json").runs)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["s3", "folder"])
def test_writers_that_end_together_lose_no_run(kind, request, tmp_path):
    place = request.getfixturevalue("bucket") if kind == "s3" else str(tmp_path / "zoos")
    check = fetched if kind == "s3" else lambda place: set(manifest_of(open_zoo(place)).runs)
    assert race(place, tmp_path, ROUNDS, 1, check) > ROUNDS
