"""How results are shown in a notebook: as HTML in which whatever was in a file is text, or as a pandas data frame."""

import html
from collections.abc import Mapping
from typing import Any

from heldout_torch.optional import require

_ROWS = 10


def as_code(shown: object) -> str:
    """Return the `repr` of an object as HTML."""
    return f"<code>{html.escape(repr(shown))}</code>"


def as_table(title: str, columns: Mapping[str, Any]) -> str:
    """Return a title and the first rows of columns, all of one length, as HTML."""
    names = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    first = zip(*(values[:_ROWS] for values in columns.values()), strict=True)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in first)
    more = max((len(values) for values in columns.values()), default=0) - _ROWS
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return f"<code>{html.escape(title)}</code><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Return columns, all of one length, as a `pandas.DataFrame`.

    Raises:
        HeldoutError: If pandas is not installed.
    """
    return require("pandas", "a data frame").DataFrame(dict(columns))


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if hasattr(value, "dtype") and value.dtype.kind == "f" else str(value)
    return f"<td>{html.escape(text)}</td>"
