"""Functions compiled by Numba, which keeps what it compiled in a cache on disk where it may write one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from heldout_torch.errors import HeldoutError
from heldout_torch.storage.progress import tell

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*signature: Any, **options: Any) -> Callable[[F], F]:
    """Return a decorator that compiles a function, as `numba.njit` does.

    The machine code is kept beside the source or in the user's cache folder, so that only the first call on a machine
    compiles. Where neither can be written (a package installed by root, a user without a home), each process compiles.

    Args:
        *signature: Types of result and arguments; without, it is compiled when first called.
        **options: Of `numba.njit`.

    Raises:
        HeldoutError: If Numba is told not to compile; most of these functions are no Python.
    """
    if vars(numba.config).get("DISABLE_JIT"):
        raise HeldoutError("NUMBA_DISABLE_JIT is set, but what counts and resizes must be compiled; unset it")
    njit: Any = numba.njit

    def compile_function(function: F) -> F:
        try:
            if signature and not _is_kept(njit(cache=True, **options)(function)):
                _tell_once("later calls reuse them")
            return njit(*signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # Numba's words for: no folder for a cache
            if signature:
                _tell_once("to keep the result, set NUMBA_CACHE_DIR to a folder that can be written")
            return njit(*signature, **options)(function)

    return compile_function


def input_array(dtype: Any, dimensions: int) -> Any:
    """Return Numba's type of C-contiguous arrays that a function only reads, such as memory maps."""
    return numba.types.Array(dtype, dimensions, "C", readonly=True)


@functools.cache
def _tell_once(later: str) -> None:
    tell(f"compiling kernels, which takes some seconds; {later}")


def _is_kept(function: Any) -> bool:
    """Return whether the cache has an index of a function's machine code, even if of an older source."""
    return any(Path(function.stats.cache_path).glob(f"*.{function.py_func.__name__}-*.nbi"))
