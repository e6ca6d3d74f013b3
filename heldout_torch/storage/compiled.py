"""Functions compiled by Numba, which keeps what it compiled in a cache on disk where it may write one."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*signature: Any, **options: Any) -> Callable[[F], F]:
    """Return a decorator that compiles a function, as `numba.njit` does.

    The machine code is kept beside the source or in the user's cache folder, so that only the first call on a machine
    compiles. Where neither can be written (a package installed by root, a user without a home), each process compiles.

    Args:
        *signature: Types of result and arguments; without, it is compiled when first called.
        **options: Of `numba.njit`.
    """
    njit: Any = numba.njit

    def compile_function(function: F) -> F:
        try:
            return njit(*signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # Numba's words for: no folder for a cache
            return njit(*signature, **options)(function)

    return compile_function
