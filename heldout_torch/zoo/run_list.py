"""A list of runs that a notebook shows as a table."""

from collections.abc import Iterable
from typing import Any, Self, SupportsIndex, overload

from heldout_torch.errors import counted
from heldout_torch.storage.notebook import as_table, data_frame
from heldout_torch.zoo.keys import RunKey

_SHOWN = 20


class RunList(list[RunKey]):
    """A list of runs, which a notebook shows as a table; so is what is cut out of it, copied, or joined with others."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> RunKey: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: SupportsIndex | slice) -> RunKey | Self:
        found = super().__getitem__(place)
        return found if isinstance(found, RunKey) else type(self)(found)

    def __add__(self, others: Iterable[RunKey]) -> Self:  # type: ignore[override]
        return type(self)([*self, *others])

    def copy(self) -> Self:
        """Return a list of the same runs."""
        return type(self)(self)

    def columns(self) -> dict[str, list[Any]]:
        """Return a column each of the experiments, subset ratios and run numbers."""
        return {name: [getattr(key, name) for key in self] for name in ("experiment", "subset_ratio", "run")}

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of the columns.

        Raises:
            HeldoutError: If pandas is not installed.
        """
        return data_frame(self.columns())

    def __repr__(self) -> str:
        """Return the list as Python shows it; of a long one only the ends."""
        if len(self) <= _SHOWN:
            return super().__repr__()
        return f"[{self[0]!r}, ..., {self[-1]!r}] ({len(self):,} runs)"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return as_table(counted(f"{len(self):,}", "run"), self.columns())
