"""The members of an archive, read one after another from its inflated stream; nothing is ever unpacked."""

import io
import math
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from heldout_torch.errors import ZooError
from heldout_torch.experiments import Experiment
from heldout_torch.zoo.keys import AUX_FILE, CHECKPOINTS, RunKey, make_key, parse_ratio

_BLOCK = 2**20  # read at a time
_MAX_HEADER = 2**16  # bytes of an extended header, which tarfile holds in memory; real ones have a few hundred
_NETWORK_COPIES = 4  # a checkpoint holds the weights, and per optimizer slot once more
_SLACK = 2**24
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_CHECKPOINT_FILE = re.compile(r".+\.(index|data-\d{5}-of-\d{5})")


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: Its path as the archive spells it; never used as a path.
        size: Bytes it declares to have.
        offset: Where its bytes begin in the inflated stream.
        key: The run that it belongs to; None if it is no part of a run.
        part: `aux_arrays.npz`, or the name of a checkpoint's file; None if it is no part of a run.
        refused: Why it cannot be used at all; None if it can.
        read: Gives its bytes, only before the next member is asked for. Raises ZooError on a damaged stream.
    """

    name: str
    size: int
    offset: int
    key: RunKey | None
    part: str | None
    refused: str | None
    read: Callable[[], bytes]


def read_members(stream: io.BufferedIOBase, archive: str) -> Iterator[Member]:
    """Walk through a tar stream, inflated, which is read once from start to end.

    Folders and files that are no parts of runs come with no key; links, devices and names that would leave the
    folder come as refused.

    Args:
        stream: The inflated stream.
        archive: What errors call the archive.

    Raises:
        ZooError: If the stream is damaged, cut off, or goes on after the end of the archive.
    """
    tar = None
    available: Any = _Available(stream)
    try:
        tar = tarfile.open(fileobj=available, mode="r|", bufsize=_BLOCK, tarinfo=_Header)  # noqa: SIM115
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # or they pile up
            yield _member(info, tar, archive)
        available.may_end = True
        while rest := tar.fileobj.read(_BLOCK):
            if rest.count(0) != len(rest):
                raise tarfile.ReadError("data after the end of the archive")
    except ZooError:
        raise
    except Exception as error:  # tarfile and the inflaters raise many kinds on damaged bytes
        raise _damaged(archive, tar, error) from None


def run_limit(experiment: Experiment) -> int:
    """Give the most bytes that a run's files can sensibly have together, unpacked."""
    from heldout_torch.models import expected_tensors

    tensors = expected_tensors(experiment.architecture, experiment.config)
    network = sum(math.prod(shape) * dtype.itemsize for shape, dtype in tensors.values())
    examples = experiment.train_examples + experiment.test_examples
    return _NETWORK_COPIES * network + 32 * examples + _SLACK  # at most 8 bytes in each of four arrays an example


class _Available:
    """Gives what a stream has rather than all that is asked for, so that nothing that came before an error is lost.

    The stream's end is an error before the archive's: tarfile would go on asking for as much as a header declares.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.may_end = False
        self._stream = stream

    def read(self, count: int) -> bytes:
        data = self._stream.read1(count)
        if not data and not self.may_end:
            raise EOFError("it ends without an end mark")
        return data


class _Header(tarfile.TarInfo):
    """A header that tarfile cannot read ends the walk with an error; tarfile itself takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"bad header: {error}") from None
        if info.size < 0 or (info.type in _EXTENDED and info.size > _MAX_HEADER):
            raise tarfile.ReadError(f"bad header: {info.size} bytes of type {info.type!r}")
        return info


def _member(info: tarfile.TarInfo, tar: tarfile.TarFile, archive: str) -> Member:
    key, part = _part_of_run(info.name) if info.isreg() else (None, None)

    def read() -> bytes:
        try:
            file: IO[bytes] | None = tar.extractfile(info)
            data = file.read() if file is not None else b""
        except Exception as error:  # as in read_members
            raise _damaged(archive, tar, error) from None
        if len(data) != info.size:
            raise _damaged(archive, tar, EOFError("unexpected end of data"))
        return data

    return Member(info.name, info.size, info.offset_data, key, part, _refusal(info), read)


def _refusal(info: tarfile.TarInfo) -> str | None:
    if info.name.startswith("/"):
        return "absolute path"
    if ".." in info.name.split("/"):
        return "path leaves its folder"
    if info.issym() or info.islnk():
        return f"link to {info.linkname!r}"
    if info.issparse():
        return "sparse file"
    if not (info.isreg() or info.isdir()):
        return "neither file nor folder"
    return None


def _part_of_run(name: str) -> tuple[RunKey | None, str | None]:
    """Read `<experiment>/<subset_ratio>/<run>/...`."""
    parts = name.removeprefix("./").split("/")
    if len(parts) not in (4, 5) or (ratio := parse_ratio(parts[1])) is None:
        return None, None
    if not (parts[2].isascii() and parts[2].isdigit()):
        return None, None
    is_aux = parts[3:] == [AUX_FILE]
    if not is_aux and not (parts[3] == CHECKPOINTS and len(parts) == 5 and _CHECKPOINT_FILE.fullmatch(parts[4])):
        return None, None
    try:
        return make_key(parts[0], ratio, int(parts[2])), parts[-1]
    except (ZooError, ValueError):
        return None, None


def _damaged(archive: str, tar: tarfile.TarFile | None, error: Exception) -> ZooError:
    where = tar.offset if tar is not None else 0
    reason = " ".join(str(error).split()) or type(error).__name__
    return ZooError(f"{archive}: is damaged or cut off near unpacked byte {where} ({reason})")
