"""Users' modules that register architectures and data sets (`--plugin MODULE`).

Only a user can name them, on the command line or in a program: never an environment variable, a file or a zoo.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path

from heldout_torch.errors import HeldoutError, one_line

LOADED: list[str] = []


def load_plugins(names: Iterable[str]) -> None:
    """Import modules that register things, and remember them for the processes that this one starts.

    Args:
        names: Dotted names such as `my_package.networks`; they are looked for in `sys.path` as it is.

    Raises:
        HeldoutError: If a name is none of a module, or the module cannot be imported.
    """
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise HeldoutError(f"plugin {name!r} is not a name of a module, expected such as my_package.networks")
        if name.endswith(".py"):
            module = name.removesuffix(".py")
            raise HeldoutError(f"plugin {name!r} is a file's name, expected the module's, {module}")
        try:
            importlib.import_module(name)
        except Exception as error:  # a module may raise anything
            line = one_line(error)
            first, hint = name.partition(".")[0], ""
            if isinstance(error, ModuleNotFoundError) and error.name == first:
                hint = "; is its folder in PYTHONPATH?"
                if Path(f"{first}.py").is_file() or Path(first).is_dir():
                    hint = f"; {first} is in this folder: `export PYTHONPATH=.` lets Python find it"
            raise HeldoutError(f"plugin {name} cannot be imported: {type(error).__name__}: {line}{hint}") from error
        if name not in LOADED:
            LOADED.append(name)


def loaded_plugins() -> tuple[str, ...]:
    """Return the names of the modules that `load_plugins` imported, in order, for another process to import them."""
    return tuple(LOADED)
