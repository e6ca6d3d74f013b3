"""Names and modules that are imported at their first use, so that importing the package is fast."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from heldout_torch.errors import nearest


def lazy_names(
    package: str, names: Mapping[str, Iterable[str]], submodules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: Its dotted name.
        names: By dotted module, the names that come from it.
        submodules: Modules of the package that are attributes of it without being imported first.

    Returns:
        The two functions, to be assigned in the package's `__init__`.
    """
    homes = {name: module for module, some in names.items() for name in some}
    modules = frozenset(submodules)

    def get(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}{nearest(name, names_of_package())}")

    def names_of_package() -> list[str]:
        there = vars(sys.modules[package])
        public = there.get("__all__", ())  # what the package itself uses, such as TYPE_CHECKING, is not told
        return sorted({*(name for name in there if name.startswith("__")), *public, *homes, *modules})

    return get, names_of_package


def lazy_module(name: str) -> Any:
    """Return what stands for a module, which is imported when something of it is asked for.

    Annotations as text name it where the import would be heavy, and `typing.get_type_hints` can evaluate them.
    """
    return _LazyModule(name)


class _LazyModule:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
