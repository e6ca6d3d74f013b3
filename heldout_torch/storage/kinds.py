"""Describe a file by its first bytes, for errors about a file that is not what was expected."""

from pathlib import Path

from heldout_torch.errors import DataError

HEAD = 64  # bytes that are looked at
_PACKED = "a file packed by gzip"
_POINTER, _PAGE = "a pointer of Git LFS, not the file itself, which `git lfs pull` fetches", "a web page"
_KINDS = (
    (b"\x93NUMPY", "an npy file"),
    (b"PK\x03\x04", "a zip file, as npz files and PyTorch's are"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"%PDF", "a PDF"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", _PACKED),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"version https://git-lfs", _POINTER),
)


def kind_of(source: Path | bytes) -> str:
    """Return what a file is, such as `an npy file`, by its first bytes; files that cannot be read are `unreadable`.

    >>> kind_of(b"my notes"), kind_of(b"")
    ("text that begins with 'my notes'", 'empty')
    """
    try:
        head = source[:HEAD] if isinstance(source, bytes) else _first_bytes(source)
    except OSError:
        return "unreadable"
    if not head:
        return "empty"
    for magic, what in _KINDS:
        if head.startswith(magic):
            return what
    if head[6:9] == b"\0\0{":  # the length of a header, then the header
        return "a safetensors file"
    text = head.decode(errors="replace").removesuffix("\ufffd").lstrip("\ufeff").split("\n")[0].strip()
    if not text or not text.isprintable() or "\ufffd" in text:
        return f"a file that begins with {head[:8]!r}"
    if text[0] in "{[":
        return "JSON"
    return _PAGE if text[0] == "<" else f"text that begins with {text[:20]!r}"


def stands_in(source: Path | bytes) -> str:
    """Return, for an error about a file, what it is if it is what often stands in for another; else nothing.

    >>> stands_in(b"<!doctype html>"), stands_in(b"{}")
    (' (it is a web page)', '')
    """
    kind = kind_of(source)
    return f" (it is {kind})" if kind in (_POINTER, _PAGE, _PACKED) else ""


def check_folder(folder: Path, expected: str) -> None:
    """Raise DataError if something is not a folder; `expected` says of what one was asked for."""
    if not folder.is_dir():
        what = f"is {kind_of(folder)}" if folder.exists() else "there is no such folder"
        raise DataError(f"{folder}: {what}, expected {expected}")


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD)
