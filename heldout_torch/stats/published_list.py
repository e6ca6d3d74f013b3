"""The list of what is published: files, where each lies, how it is checked, and what each name stands for.

It is `published.toml`, or what `HELDOUT_TORCH_PUBLISHED_LIST` names, such as a list with the addresses of a mirror.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heldout_torch.errors import DataError, Named
from heldout_torch.experiments.toml_files import parse_toml, read_toml
from heldout_torch.storage.paths import environment, local_path

LIST_VARIABLE = "HELDOUT_TORCH_PUBLISHED_LIST"
KINDS = ("scores", "memorization", "pairs", "classwise")

_LIST = Path(__file__).with_name("published.toml")
_CHECK = re.compile(r"sha256:[0-9a-f]{64}|git-blob:[0-9a-f]{40}|md5:[0-9a-f]{32}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True)
class PublishedFile:
    """A file as it is published.

    Attributes:
        name: Its published name.
        check: What its contents must have, such as `sha256:...`.
        url: Where it lies; None if that is not known, or it is joined of parts.
        size: In bytes; None if it is not known.
        parts: What it is joined of.
    """

    name: str
    check: str
    url: str | None
    size: int | None
    parts: tuple["PublishedFile", ...]


@dataclass(frozen=True)
class Published:
    """What a name stands for.

    Attributes:
        name: Such as `cifar10-cscores`.
        what: In words.
        kind: One of `KINDS`.
        order: How the file counts examples: `original`, `published`, or `filename`.
        file: The file.
        index: Another file, with what the first lacks; None if it lacks nothing.
        examples: Numbers of `train` and `test` examples, where the files do not show them.
    """

    name: str
    what: str
    kind: str
    order: str
    file: PublishedFile
    index: PublishedFile | None
    examples: Mapping[str, int] = field(hash=False)

    @property
    def dataset(self) -> str:
        """The data set that it is about, such as `cifar10`."""
        return self.name.partition("-")[0]


def list_published() -> dict[str, Published]:
    """Return everything that is published, by name; another name is a DataError.

    Raises:
        HeldoutError: If the list that `HELDOUT_TORCH_PUBLISHED_LIST` names is not readable.
    """
    where = environment(LIST_VARIABLE)
    table = read_toml(local_path(where)) if where else parse_toml(_LIST.read_bytes(), _LIST.name)
    try:
        found = {name: _published(name, entry, table["files"]) for name, entry in table["names"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where or _LIST.name}: is not a list of published files ({error})") from None
    return Named("a published file", DataError, found)


def find_published(name: str) -> Published:
    """Return what a name stands for.

    Raises:
        DataError: If nothing is published by that name.
    """
    return list_published()[str(name)]


def _published(name: str, entry: dict[str, Any], files: dict[str, Any]) -> Published:
    if entry["kind"] not in KINDS or entry["order"] not in ("original", "published", "filename"):
        raise ValueError(f"{name} is of kind {entry['kind']!r} and order {entry['order']!r}")
    index = _file(entry["index"], files) if "index" in entry else None
    file = _file(entry["file"], files)
    return Published(name, entry["what"], entry["kind"], entry["order"], file, index, entry.get("examples", {}))


def _file(name: str, files: dict[str, Any]) -> PublishedFile:
    entry = files[name]
    if not _CHECK.fullmatch(entry["check"]) or not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is checked by {entry['check']!r}")
    parts = tuple(_file(part, {key: value for key, value in files.items() if key != name})
                  for part in entry.get("parts", ()))  # fmt: skip
    return PublishedFile(name, entry["check"], entry.get("url"), entry.get("bytes"), parts)
