"""Which runs of a table trained on some training examples, or held them out."""

from collections.abc import Set
from types import NoneType
from typing import Any

import numpy as np

from heldout_torch.errors import DataError, ZooError
from heldout_torch.stats.arguments import as_array, as_choice
from heldout_torch.stats.counting.bits import unpack
from heldout_torch.stats.selection import selected
from heldout_torch.zoo.keys import RunKey


def who_trained_on(words: np.ndarray, keys: tuple[str, ...], examples: Any, how: str) -> list[RunKey | str]:
    """Return the runs that trained on some training examples, or held them out; as `RunTable.who_trained_on`.

    Args:
        words: Packed bits, uint64 of shape (n, words), whether a run trained on an example.
        keys: Names of the runs.
        examples: Published index, several of them, a slice or a mask of shape (n,).
        how: `all`, `any` or `none`.

    Raises:
        DataError: If there is no such example, none is given, or `how` is not as above.
    """
    how = as_choice(how, ("all", "any", "none"), "how")
    ready = isinstance(examples, slice | Set | NoneType)
    some = examples if ready else np.atleast_1d(as_array(examples, "examples"))
    index = selected(some, len(words), "examples")
    if not len(index):
        raise DataError("no examples given, expected at least one published index")
    found = (np.bitwise_and if how == "all" else np.bitwise_or).reduce(words[index], axis=0)[None]
    bits = unpack(found, len(keys))[0]  # (runs,)
    return [_as_key(keys[row]) for row in np.flatnonzero(~bits if how == "none" else bits)]


def _as_key(name: str) -> RunKey | str:
    try:
        return RunKey.parse(name)
    except ZooError:
        return name
