"""Verifications kept in a file, one line of JSON a run, which several processes may append to at once."""

import json
import math
import operator
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heldout_torch.errors import DataError, os_errors
from heldout_torch.evaluation.provenance import run_digest
from heldout_torch.evaluation.result import SplitVerification, Verification
from heldout_torch.storage.digests import place_digest
from heldout_torch.storage.files import check_new_file, read_bounded
from heldout_torch.storage.locks import append_line
from heldout_torch.storage.paths import is_remote
from heldout_torch.zoo.aux_arrays import Part
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.cache import cache_root
from heldout_torch.zoo.keys import RunKey

_LINE = b'{"run": '  # how each begins
_LOOKED_AT = 2**20  # bytes, in which one such line is expected: lines that were cut short may precede it
MAX_LOG = 2**31  # bytes: 200,000 runs, each with hundreds of mismatches


def default_log(zoo: Zoo) -> Path:
    """Return the file for the verifications of a place of runs where none is named, in the cache folder."""
    location = zoo.location if is_remote(zoo.location) else os.path.realpath(zoo.location)
    return cache_root() / "verifications" / f"{place_digest(location)}.jsonl"


def check_log(path: Path) -> None:
    """Check that verifications can be appended to a file, which need not be there.

    Raises:
        DataError: If it cannot be read or appended to, or holds something else.
        UnwritableError: If there is none, and none can be made.
    """
    with os_errors(DataError, f"{path}: cannot be written"):
        if not path.exists():
            check_new_file(path)
            return
        with open(path, "r+b") as file:
            lines = file.read(_LOOKED_AT).split(b"\n")
    written = [line for line in lines if line.strip()]
    if written and not any(line[: len(_LINE)] == _LINE[: len(line)] for line in written):
        raise DataError(f"{path}: holds something else than results of verify, which are appended; name another file")


class VerificationLog:
    """A file of verifications.

    A verification counts for the files that a run had, and for the data set, when it was made; not for others.

    Args:
        path: The file; it need not be there. None keeps nothing.
        splits: Only verifications of exactly these count.
        data: Digest of the data set, see `heldout_torch.data.Dataset.digest`.
    """

    def __init__(self, path: Path | None, splits: Sequence[Part], data: str) -> None:
        self._path, self._splits, self._data = path, sorted(set(splits)), data
        self._found: dict[str, dict[str, Verification]] | None = None

    def find(self, zoo: Zoo, key: RunKey) -> Verification | None:
        """Return what is known of a run as it is now; None if nothing is.

        Raises:
            DataError: If the file cannot be read.
            ZooError: If the run cannot be read.
        """
        if self._found is None:
            self._found = self.read()
        known = self._found.get(str(key))
        return known.get(run_digest(zoo, key)) if known else None

    def append(self, key: RunKey, files: str, verification: Verification) -> None:
        """Append the verification of a run and wait until the disk has it.

        Args:
            key: The run.
            files: Digest of its files, see `run_digest`.
            verification: What was found.

        Raises:
            DataError: If it cannot be written.
        """
        if self._path is None:
            return
        record = {
            "run": str(key),
            "files": files,
            "data": self._data,
            "matches": verification.matches,
            "examples": verification.examples,
            "tie_margin": verification.tie_margin,
            "splits": {part: _split_to(split) for part, split in verification.splits.items()},
        }
        with os_errors(DataError, f"{self._path}: cannot be written"):
            append_line(self._path, json.dumps(record).encode())

    def read(self) -> dict[str, dict[str, Verification]]:
        """Return what is there by run and digest of its files, the last line of each.

        What a killed process wrote in part is passed over, as is what is about other data or splits.

        Raises:
            DataError: If the file cannot be read.
        """
        found: dict[str, dict[str, Verification]] = defaultdict(dict)
        if self._path is None:
            return found
        with os_errors(DataError, f"{self._path}: cannot be read"):
            lines = read_bounded(self._path, MAX_LOG).split(b"\n") if self._path.exists() else []
        for line in lines:
            try:
                record = json.loads(line)
                if record["data"] == self._data:
                    splits = {part: _split_from(values) for part, values in record["splits"].items()}
                    margin = float(record["tie_margin"])
                    if sorted(splits) == self._splits and math.isfinite(margin):
                        found[str(record["run"])][str(record["files"])] = Verification(splits, margin)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                continue
        return found


def _split_to(split: SplitVerification) -> dict[str, object]:
    return {
        "examples": split.examples,
        "missing": split.missing,
        "mismatched": split.mismatched.tolist(),
        "margins": split.margins.tolist(),
        "ties": split.ties.tolist(),
    }


def _split_from(record: dict[str, Any]) -> SplitVerification:
    """Return what a line says of a split, which anybody may have written; ValueError or others if it cannot be."""
    split = SplitVerification(
        examples=operator.index(record["examples"]),
        missing=operator.index(record["missing"]),
        mismatched=np.array(record["mismatched"], np.int64),
        margins=np.array(record["margins"], np.float32),
        ties=np.array(record["ties"], bool),
    )
    count = len(split.mismatched)
    if any(row.shape != (count,) for row in (split.mismatched, split.margins, split.ties)):
        raise ValueError("mismatches, margins and ties are not rows of one length")
    if not count <= split.examples < 2**31 or not 0 <= split.missing < 2**31:
        raise ValueError("numbers of examples that cannot be")
    return split
