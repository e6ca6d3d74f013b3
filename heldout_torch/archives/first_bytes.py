"""Recognize a file by its first bytes."""

from heldout_torch.archives.tar_headers import is_header

HEAD = 512  # bytes that say what a file is: one block of a tar
_MAGIC = b"\x1f\x8b"
_PACKED = {  # how the bytes of other packers begin, and what unpacks them
    b"\x28\xb5\x2f\xfd": ("a zstd file", "zstd -dc"),
    b"\xfd7zXZ\0": ("an xz file", "xz -dc"),
    b"BZh": ("a bzip2 file", "bzip2 -dc"),
    b"\x04\x22\x4d\x18": ("an lz4 file", "lz4 -dc"),
}
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error", b"<head", b"{", b"version https://git-lfs")


class NoArchiveError(Exception):
    """The bytes are something else than a tar archive, packed by gzip or not packed; the message says what."""


def is_packed(head: bytes) -> bool:
    """Whether an archive is packed by gzip, by its first bytes; else it is a plain tar.

    Args:
        head: Its first HEAD bytes, or all if it is shorter.

    Raises:
        NoArchiveError: If it is neither; the line says what the bytes are and what to do.
    """
    if head.startswith(_MAGIC) or not head:  # nothing at all is an archive cut off
        return True
    if len(head) == HEAD and (is_header(head) or not any(head)):
        return False
    for magic, (what, unpack) in _PACKED.items():
        if head.startswith(magic):
            raise NoArchiveError(f"is {what}, not a .tar.gz; unpack it on the way: {unpack} FILE | heldout export -")
    if head.startswith(b"PK"):
        raise NoArchiveError("is a zip file, expected a .tar.gz or a .tar; unpack it and name the folder")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.lower().startswith(_PAGES):
        words = " ".join(text[:80].decode(errors="replace").split())
        raise NoArchiveError(f"is a web page or a message saved in place of the archive: {words!r}; download it again")
    raise NoArchiveError(f"is no .tar.gz and no .tar; it begins with {head[:12]!r}")
