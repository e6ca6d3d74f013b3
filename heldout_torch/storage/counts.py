"""Numbers of things, as they are given in Python."""

import operator
import reprlib
from typing import Any

from heldout_torch.errors import DataError

MOST = 2**31 - 1  # of anything: examples are counted in int32


def as_count(value: Any, name: str, least: int = 1, most: int = MOST) -> int:
    """Return an integer from 1, or from another least, given as anything like an integer, such as a NumPy one.

    Raises:
        DataError: If it is not an integer, too small or too large; `name` is what the error calls it.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise DataError(f"{name} is {reprlib.repr(value)}, expected a number from {least}")
    if number > most:
        raise DataError(f"{name} is {reprlib.repr(value)}, expected at most {most}")
    return number
