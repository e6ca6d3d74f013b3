"""What a zoo says about the archives that its runs were exported from: `<experiment>/archive.json`."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from heldout_torch.archives.hashed_stream import HashedStream
from heldout_torch.experiments import Experiment
from heldout_torch.zoo.base import WritableZoo
from heldout_torch.zoo.indexing import ARCHIVE_RECORD

_WHOLE = "MD5 of all its bytes; gzip's CRC-32; the CRC-32C of each tensor"
_RESUMED = "gzip's CRC-32; the CRC-32C of each tensor; no MD5, since it was read in several calls"
_PART = "the CRC-32C of each tensor; it was not read to its end"


@dataclass(frozen=True)
class ArchiveRecord:
    """What a zoo says about the archive that an experiment was exported from, in `<experiment>/archive.json`.

    Attributes:
        name: The archive's name.
        size: Its packed bytes; None if it was not read to its end.
        md5: MD5 of them; None likewise, and if it was read in several calls.
        verified: Whether that is the expected MD5; None if no MD5 was expected, or none was computed.
        checked_by: What the export compared, in words.
    """

    name: str
    size: int | None
    md5: str | None
    verified: bool | None
    checked_by: str


def record_part(archive: str, zoo: WritableZoo, experiments: Iterable[Experiment]) -> None:
    """Record for each experiment that its archive was not read to its end, unless it once was."""
    for experiment in experiments:
        if zoo.read(_path(experiment)) is None:
            _write(zoo, experiment, ArchiveRecord(archive, None, None, None, _PART))


def record_resumed(archive: str, size: int, zoo: WritableZoo, experiments: Iterable[Experiment]) -> None:
    """Record for each experiment that its archive was read in several calls."""
    for experiment in experiments:
        _write(zoo, experiment, ArchiveRecord(archive, size, None, None, _RESUMED))


def record_whole(
    source: HashedStream, archive: str, zoo: WritableZoo, expected: str | None, experiments: Iterable[Experiment]
) -> Iterator[str]:
    """Record for each experiment whether its archive is the expected one, and yield what is wrong with it.

    Args:
        source: The archive, read from its beginning to its end.
        archive: Its name.
        zoo: Where it is recorded.
        expected: The MD5 that it should have; by default the one published for each experiment, if there is one.
        experiments: Those of which runs came.
    """
    found = source.digest()
    for experiment in experiments:
        wanted = expected or (experiment.archive.md5 if experiment.archive else None)
        record = ArchiveRecord(archive, source.size, found, None if wanted is None else found == wanted.lower(), _WHOLE)
        _write(zoo, experiment, record)
        if record.verified is False:
            why = (
                "--md5"
                if expected
                else f"published for {experiment.name}; for another archive, give its MD5 with --md5"
            )
            yield f"{archive}: MD5 is {found}, expected {wanted} ({why})"


def _path(experiment: Experiment) -> str:
    return f"{experiment.name}/{ARCHIVE_RECORD}"


def _write(zoo: WritableZoo, experiment: Experiment, record: ArchiveRecord) -> None:
    zoo.write(_path(experiment), (json.dumps(asdict(record), indent=2, sort_keys=True) + "\n").encode())
