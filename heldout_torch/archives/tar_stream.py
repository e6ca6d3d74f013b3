"""The members of an archive, read one after another from its inflated stream; nothing is ever unpacked."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from heldout_torch.archives.first_bytes import NoArchiveError
from heldout_torch.archives.limits import NAME
from heldout_torch.archives.tar_headers import Header, TarBytes, read_headers
from heldout_torch.errors import ZooError, one_line
from heldout_torch.experiments import is_experiment_name
from heldout_torch.zoo.keys import AUX_FILE, CHECKPOINTS, MODEL_FILE, RunKey, parse_ratio, parse_run
from heldout_torch.zoo.records import RECORD_FILE

_LINKS = (b"1", b"2")
_OF_GNU = (b"V", b"D")  # the archive's label, and the names in a folder, of which an incremental archive has lists
_OF_ZOO = re.compile(rf"(?:^|/)([A-Za-z0-9][A-Za-z0-9_.-]*/0\.\d+/\d+/(?:{MODEL_FILE}|{RECORD_FILE}))$")
_CHECKPOINT_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.(index|data-\d{5}-of-\d{5})")


class DamagedError(ZooError):
    """The file is not an archive, or is damaged or cut off; reading it again gives the same error."""


class ZooInTarError(ZooError):
    """The archive is not a published one, but a zoo that somebody packed."""


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: Its path as the archive spells it, for messages, so of a long one the beginning; never used as a path.
        size: Bytes it declares to have.
        begins: Where its headers begin in the tar stream.
        offset: Where its bytes begin there.
        key: The run that it belongs to; None if it is not part of a run.
        folder: The run's folder as the archive spells it.
        part: `aux_arrays.npz`, or the name of a checkpoint's file; None if it is not part of a run.
        refused: Why it cannot be used at all; None if it can.
        read: Returns its bytes, only before the next member is asked for. Raises ZooError on a damaged stream.
    """

    name: str
    size: int
    begins: int
    offset: int
    key: RunKey | None
    folder: str
    part: str | None
    refused: str | None
    read: Callable[[], bytes]


def read_members(stream: io.BufferedIOBase, archive: str, begins: int = 0, first: int = 0) -> Iterator[Member]:
    """Walk through a tar stream, inflated, which is read once from start to end.

    Folders and files that are not parts of runs come with no key; links, devices and names that would leave the
    folder come as refused.

    Args:
        stream: The inflated stream.
        archive: What errors call the archive.
        begins: The stream's first byte in that of the whole archive.
        first: Where a header begins, the first to be read.

    Raises:
        ZooInTarError: If it holds a zoo: the first run has a zoo's files where a checkpoint is expected.
        DamagedError: If the stream is not an archive, damaged, cut off, or goes on after the end of the archive.
        ZooError: If reading it raises that.
    """
    tar = TarBytes(stream, begins)
    checkpoints = first > 0  # whether a part of one has come
    try:
        tar.skip_to(first)
        for header in read_headers(tar):
            member = _member(header, tar, archive)
            checkpoints = checkpoints or (member.part or AUX_FILE) != AUX_FILE
            if not checkpoints and (found := _OF_ZOO.search(header.name)) is not None:
                raise ZooInTarError(f"{archive}: holds a zoo ({found[1]}); unpack it, and name its folder")
            yield member
        tar.check_rest()
    except ZooError:
        raise
    except NoArchiveError as error:
        raise DamagedError(f"{archive}: {error}") from None
    except Exception as error:  # the inflaters raise many kinds on damaged bytes
        raise _damaged(archive, tar, error) from None


def _member(header: Header, tar: TarBytes, archive: str) -> Member:
    refused = _refusal(header)
    key, folder, part = _part_of_run(header.name) if refused is None and header.kind == b"0" else (None, "", None)

    def read() -> bytes:
        try:
            return tar.read(header.size)
        except ZooError:
            raise
        except Exception as error:  # as in read_members
            raise _damaged(archive, tar, error) from None

    return Member(header.name[:NAME], header.size, header.begins, tar.position, key, folder, part, refused, read)


def _refusal(header: Header) -> str | None:
    if header.name.startswith("/"):
        return "absolute path"
    if ".." in header.name.split("/"):
        return "the path leads out of its folder"
    if header.kind in _LINKS:
        return f"link to {header.link[:NAME]!r}"
    if header.sparse:
        return "sparse file"
    if header.kind not in (b"0", b"5", *_OF_GNU):
        return "neither a file nor a folder"
    return None


def _part_of_run(name: str) -> tuple[RunKey | None, str, str | None]:
    """Read `…/<experiment>/<subset_ratio>/<run>/…`, in whatever folders that lies."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    below = 2 if parts[-2:-1] == [CHECKPOINTS] else 1
    folder, file = parts[:-below], parts[-1] if parts else ""
    if len(folder) < 3 or not (_CHECKPOINT_FILE.fullmatch(file) if below == 2 else file == AUX_FILE):
        return None, "", None
    experiment, ratio, run = folder[-3], parse_ratio(folder[-2]), parse_run(folder[-1])
    if max(map(len, (*folder, file))) > NAME or not is_experiment_name(experiment) or ratio is None or run is None:
        return None, "", None
    return RunKey(experiment, ratio, run), "/".join(folder), file


def _damaged(archive: str, tar: TarBytes, error: Exception) -> DamagedError:
    return DamagedError(f"{archive}: is damaged or cut off near unpacked byte {tar.position} ({one_line(error)})")
