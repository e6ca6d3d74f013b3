"""Verifications kept in a file, one line of JSON a run, which several processes may append to at once."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.evaluation.verify import Part, SplitVerification, Verification
from heldout_torch.storage.locks import append_line
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey


class VerificationLog:
    """A file of verifications.

    Args:
        path: The file; it need not be there.
        splits: Only verifications of exactly these count.
    """

    def __init__(self, path: Path, splits: Sequence[Part]) -> None:
        self._path = path
        self._splits = sorted(splits)

    def name(self, zoo: Zoo, key: RunKey) -> str:
        """Return what stands for a run and its files' contents, so that a changed run has another name."""
        record = zoo.record(key)
        if any(file.sha256 is None for file in record.files.values()):
            record = zoo.files(key).record  # a TensorFlow run is hashed as it would be exported
        digest = hashlib.sha256(json.dumps(record.to_json(), sort_keys=True).encode()).hexdigest()
        return f"{key} {digest[:16]}"

    def read(self) -> dict[str, Verification]:
        """Read what is there by name, the last line of each run. What a killed process wrote in part is passed over.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error.strerror})") from None
        found: dict[str, Verification] = {}
        for line in lines:
            try:
                record = json.loads(line)
                splits = {part: _split_from(values) for part, values in record["splits"].items()}
                if sorted(splits) == self._splits:
                    found[record["run"]] = Verification(splits, float(record["tie_margin"]))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                continue
        return found

    def append(self, name: str, verification: Verification) -> None:
        """Append the verification of a run, which `name` named, and wait until the disk has it.

        Raises:
            DataError: If it cannot be written.
        """
        record = {
            "run": name,
            "matches": verification.matches,
            "examples": verification.examples,
            "tie_margin": verification.tie_margin,
            "splits": {part: _split_to(split) for part, split in verification.splits.items()},
        }
        try:
            append_line(self._path, json.dumps(record).encode())
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror})") from None


def _split_to(split: SplitVerification) -> dict[str, object]:
    return {
        "examples": split.examples,
        "missing": split.missing,
        "mismatched": split.mismatched.tolist(),
        "margins": split.margins.tolist(),
        "ties": split.ties.tolist(),
    }


def _split_from(record: dict[str, object]) -> SplitVerification:
    return SplitVerification(
        examples=int(record["examples"]),  # type: ignore[call-overload]
        missing=int(record["missing"]),  # type: ignore[call-overload]
        mismatched=np.array(record["mismatched"], np.int64),
        margins=np.array(record["margins"], np.float32),
        ties=np.array(record["ties"], bool),
    )
