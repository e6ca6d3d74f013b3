"""A list of runs as people look at it."""

from typing import Any

from heldout_torch.storage.notebook import as_table, data_frame
from heldout_torch.zoo.keys import RunKey


class RunList(list[RunKey]):
    """A list of runs, which a notebook shows as a table."""

    def columns(self) -> dict[str, list[Any]]:
        """Return a column each of the experiments, subset ratios and run numbers."""
        return {name: [getattr(key, name) for key in self] for name in ("experiment", "subset_ratio", "run")}

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of the columns.

        Raises:
            HeldoutError: If pandas is not installed.
        """
        return data_frame(self.columns())

    def _repr_html_(self) -> str:
        return as_table(f"{len(self):,} runs", self.columns())
