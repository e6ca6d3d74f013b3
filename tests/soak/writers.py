"""Writers of one bucket that end together, and readers beside them: no run is lost, nobody fails."""

import tempfile
import time
from pathlib import Path

from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import Manifest
from tests.helpers.race import EACH, WRITERS, race
from tests.soak import bucket

READERS = 2


def soak(rounds: int) -> int:
    """Let them race, print a line, and return 1 if anything went wrong."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, bucket.served() as client:

        def listed(place: str) -> set[RunKey]:
            key = f"{place.removeprefix(f's3://{bucket.NAME}/')}/manifest.json"
            body = client.get_object(Bucket=bucket.NAME, Key=key)["Body"].read()
            return set(Manifest.from_bytes(body, "manifest.json").runs)

        began = time.monotonic()
        try:
            read = race(f"s3://{bucket.NAME}/race", Path(folder), rounds, READERS, listed)
        except AssertionError as error:
            print(f"writers: WRONG: {error}")
            return 1
        print(
            f"writers: {rounds} rounds of {WRITERS}, {rounds * WRITERS * EACH} runs, none lost; {READERS} readers "
            f"loaded {read} runs, none failed; {time.monotonic() - began:.0f} s"
        )
    return 0
