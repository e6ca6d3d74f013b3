"""Paths and places as people write them: with `file://`, `~`, quotes, spaces and slashes around them."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from heldout_torch.errors import DataError

Location = str | os.PathLike[str]
ZOO_VARIABLE = "HELDOUT_TORCH_ZOO"  # names the place that runs are read from by default

# How the names of files end that this package writes; and others that somebody may expect of it.
_OF_FILES = frozenset(
    "npz npy csv tsv parquet json jsonl toml safetensors seek html pdf png svg txt md pt pth zip".split()  # noqa: SIM905
)
_QUOTES = re.compile(r"""(["'])(.*)\1""", re.DOTALL)
_FILE = re.compile(r"file:(?://([^/]*))?(.*)", re.DOTALL | re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes that systems take
# What `Path` makes of a URL; hardly a folder has such a name.
_URL_IN_PATH = re.compile(r"(https?|s3a?|gs|gcs|abfss?|az|adl|hf|s?ftp|ssh|memory|oci|oss|webhdfs):/(?=[^/])")


def local_path(value: Location) -> Path:
    """Return a path on this machine as it was meant.

    Taken away from a text are spaces and line ends around it, a pair of quotes around it, slashes at its end, and
    `file://`; a `~` at the beginning is the home folder. Nothing else is expanded. An `os.PathLike` is as it is.

    >>> local_path(" 'file:///data/my%20zoo/' ")
    PosixPath('/data/my zoo')

    Raises:
        DataError: If it is empty, or a URL of another machine.
    """
    found = place(value)
    if isinstance(found, str):
        raise DataError(f"{found}: is a URL, expected a path on this machine")
    return found


def place(value: Location) -> Path | str:
    """Return a place of runs as it was meant: a path as `local_path` does, or a URL without a slash at its end, its
    protocol in lower case.

    A URL that became a `Path` on its way (`s3:/bucket`) is a URL.

    Raises:
        DataError: If it is not a path, empty, too long, a URL of no place, a file of another machine, or `~` with a
            user who is not known.
    """
    try:
        text: str | bytes = os.fspath(value)
    except TypeError:
        text = b""
    if not isinstance(text, str):
        raise DataError(f"{value!r} is not a path")
    if isinstance(value, str):
        text = _bare(value)
    elif (found := _URL_IN_PATH.match(text)) is not None:
        text = f"{found[1]}://{text[found.end() :]}"
    if not text or "\0" in text:
        raise DataError(f"{value!r} is not a path")
    if text.lower().startswith("file:/"):
        host, text = _FILE.fullmatch(text).groups()  # type: ignore[union-attr]
        if host not in (None, "", "localhost"):
            raise DataError(f"{value}: is on another machine; write a path of this machine as file:///{host}{text}")
        if not (text := unquote(text)):
            raise DataError(f"{value}: names no file")
    elif (scheme := _URL.match(text)) is not None:
        address, mark, query = text[scheme.end() :].partition("?")
        if not (address := address.rstrip("/")):
            raise DataError(f"{value}: is a URL of no place, expected such as {scheme[0]}NAME/...")
        return f"{scheme[0].lower()}{address}{mark}{query}"
    try:
        path = Path(text) if not isinstance(value, str) else Path(text).expanduser()
        name = os.fsencode(path)
    except RuntimeError:
        raise DataError(f"{text}: there is no such user, or no home folder") from None
    except UnicodeEncodeError:
        raise DataError(f"{value!r} is not a path: it has letters that no file's name can have") from None
    if len(name) > _LONGEST_PATH or max(map(len, name.split(b"/"))) > _LONGEST_NAME:
        raise DataError(f"{text[:60]}...: is too long for a path of {_LONGEST_PATH} bytes, {_LONGEST_NAME} a name")
    return path


def environment(name: str) -> str:
    """Return a variable of the environment without the spaces and quotes around it; nothing if it is not set."""
    return _bare(os.environ.get(name, ""))


def check_folder_name(folder: Path | str) -> None:
    """Check that a folder to be written does not have the name of a file, which the user would expect there.

    Raises:
        DataError: If it is, such as `scores.npz`, and is not a folder yet.
    """
    suffix = f"{folder}".rpartition("/")[2].rpartition(".")[2].lower()
    if suffix in _OF_FILES and not (isinstance(folder, Path) and folder.is_dir()):
        raise DataError(f"{folder}: is the name of a file, but a folder is written; name a folder")


def is_remote(location: object) -> bool:
    """Return whether a location is a URL of another machine (`https://…`, `s3://…`), not a path."""
    return isinstance(location, str | os.PathLike) and isinstance(place(location), str)


def extended(location: str, more: str) -> str:
    """Return a path or URL that goes on, such as that of a file in a folder; the query of a URL stays behind it.

    >>> extended("https://server/zoo?sig=...", "/manifest.json")
    'https://server/zoo/manifest.json?sig=...'
    """
    path, mark, query = location.partition("?") if is_remote(location) else (location, "", "")
    return f"{path}{more}{mark}{query}"


def file_name(location: str) -> str:
    """Return the name of a file, from its path or URL.

    >>> file_name("https://server/runs.tar.gz?X-Amz-Signature=...")
    'runs.tar.gz'
    """
    return (location.partition("?")[0] if is_remote(location) else location).rpartition("/")[2]


def _bare(text: str) -> str:
    """Take spaces, line ends, byte order marks and pairs of quotes from around a text."""
    while True:
        before, text = text, text.strip().strip("\ufeff")
        if (quoted := _QUOTES.fullmatch(text)) is not None:
            text = quoted[2]
        if text == before:
            return text
