"""Imports of optional packages, with an error that says how to install a missing one."""

import importlib
from typing import Any

from heldout_torch.errors import HeldoutError, one_line

_REPORT = "jinja2 matplotlib pillow"
_PIP = {  # what is installed, if that is not called as the package
    "PIL": _REPORT, "jinja2": _REPORT, "matplotlib": _REPORT, "sklearn": "scikit-learn",
}  # fmt: skip


def require(module: str, what: str, otherwise: str = "") -> Any:
    """Import an optional package.

    Args:
        module: Such as `pyarrow.parquet`.
        what: What needs it, such as `a .parquet file`.
        otherwise: What does without it, such as `or write .csv`.

    Raises:
        HeldoutError: If it is not installed, with the command that installs it from a package index or beside a
            checkout alike; or if it cannot be imported, with the reason.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (module, package):
            wrong, name = "is not installed", _PIP.get(package, package)
            remedy = ", ".join(filter(None, [f"pip install {name}", otherwise]))
        else:
            wrong, remedy = f"cannot be imported ({one_line(error)})", otherwise or "install it anew"
        raise HeldoutError(f"{what} needs {package}, which {wrong}: {remedy}") from None
