"""Small TOML files, as people write them."""

import tomllib
from pathlib import Path
from typing import Any

from heldout_torch.errors import HeldoutError, one_line, os_errors
from heldout_torch.storage.kinds import kind_of
from heldout_torch.storage.paths import local_path

MAX_BYTES = 2**16


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file of at most 64 kB.

    Raises:
        HeldoutError: If it cannot be read, is longer, or is not TOML.
    """
    path = local_path(path)
    with os_errors(HeldoutError, f"{path}: cannot be read"), open(path, "rb") as file:
        return parse_toml(file.read(MAX_BYTES + 1), str(path))


def parse_toml(data: bytes, where: str) -> dict[str, Any]:
    """Parse the contents of a TOML file.

    Args:
        data: The contents.
        where: What errors call the file.

    Raises:
        HeldoutError: If they are longer than 64 kB, or no TOML.
    """
    if len(data) > MAX_BYTES:
        raise HeldoutError(f"{where}: is longer than {MAX_BYTES // 1024} kB, the largest size of a declaration")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        why = f"it is {kind_of(data)}" if isinstance(error, UnicodeDecodeError) else one_line(error)
        raise HeldoutError(f"{where}: is not a TOML file ({why})") from None
