"""Which file on a disk is which example of ImageNet, however people have named and sorted them.

A file is known by its name, without its ending: `n01440764_10026.JPEG`, or `n01440764_10026_n01440764.JPEG` as
Hugging Face writes it; `ILSVRC2012_val_00000001.JPEG` likewise. Folders may be of any depth. Where the name or a folder
says a class, it must be the example's own.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from heldout_torch.data.imagenet_index import IndexedFiles
from heldout_torch.errors import DataError, counted, os_errors, warn

_ENDINGS = (".jpeg", ".jpg", ".png")
_WITH_CLASS = re.compile(r"(.+)_(n\d{8})", re.ASCII)
_NAMED = 3  # files that a message names


@dataclass(frozen=True)
class FoundFiles:
    """The files of a split.

    Attributes:
        paths: By published index; empty for a missing file.
        missing: Names in the index of which there is no file.
    """

    paths: list[str]
    missing: list[str]


def match_files(
    folder: Path,
    images: Iterable[str],
    wanted: IndexedFiles,
    others: IndexedFiles,
    synsets: Mapping[str, int],
    allow_missing: bool,
) -> FoundFiles:
    """Find out which images are the files of a split.

    Args:
        folder: Where they lie.
        images: Their paths, relative to the folder.
        wanted: The split.
        others: The other split; its files may lie there too and count for nothing.
        synsets: Label of each synset, such as `n01440764`.
        allow_missing: Whether files may be missing; a warning then says how many.

    Raises:
        DataError: If files are missing or are said to be of another class; with how many, and some names. Files that
            are not in the index, or there twice, are left out with a warning.
    """
    place_of = {_stem(name): place for place, name in enumerate(wanted.names)}
    elsewhere = {_stem(name) for name in others.names}
    paths = [""] * len(wanted.names)
    unknown, twice, of_other_class = [], [], []
    for path in images:
        stem, said = _parse(path, place_of)
        place = place_of.get(stem)
        if place is None:
            if stem not in elsewhere and _parse(path, elsewhere)[0] not in elsewhere:
                unknown.append(path)
        elif paths[place]:
            twice.append(path)
        elif any(synsets[synset] != wanted.labels[place] for synset in said if synset in synsets):
            of_other_class.append(path)
        else:
            paths[place] = os.path.join(folder, path)
    missing = [name for name, path in zip(wanted.names, paths, strict=True) if not path]
    lost = _count((missing, "missing"), (of_other_class, "in the folder of another class"))
    if of_other_class or (missing and not allow_missing):
        raise DataError(f"{folder}: of {len(paths)} files in the index, {lost}{_hint(missing, unknown)}")
    if missing:
        warn(f"{folder}: of {len(paths)} files in the index, {lost}; the others are used", stacklevel=5)
    if left_out := _count((unknown, "not in the index"), (twice, "there twice")):
        warn(f"{folder}: these files are left out: {left_out}", stacklevel=5)
    return FoundFiles(paths, missing)


def images_below(folder: Path) -> Iterator[str]:
    """List images in a folder and all its folders, relative to it, in order; hidden ones (`._*` of macOS) are none."""
    pending, seen = [""], set()
    while pending:
        below = pending.pop()
        with os_errors(DataError, "cannot be read", folder / below), os.scandir(folder / below) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in found:
            if entry.name.startswith("."):
                continue
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.name.lower().endswith(_ENDINGS) and entry.is_file():  # no link into nothing, as of git-annex
                yield path
            elif entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in seen:  # a link may lead back
                    seen.add(real)
                    folders.append(path)
        pending.extend(reversed(folders))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _parse(path: str, known: "Mapping[str, int] | set[str]") -> tuple[str, list[str]]:
    """Return the name under which the index may know a file, and what its name and folders say of its class."""
    *folders, name = path.split("/")
    stem = _stem(name)
    if stem not in known and (match := _WITH_CLASS.fullmatch(stem)):
        return match[1], [*folders, match[2]]
    return stem, folders


def _count(*problems: tuple[list[str], str]) -> str:
    return "; ".join(f"{len(names)} {kind} (such as {', '.join(names[:_NAMED])})" for names, kind in problems if names)


def _hint(missing: list[str], unknown: list[str]) -> str:
    if missing and unknown:
        images, such = counted(len(unknown), "image"), ", ".join(unknown[:_NAMED])
        return f"; {images} with a name that is not in the index (such as {such})"
    return ""
