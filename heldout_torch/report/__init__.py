"""Figures as in the papers, and a report of an experiment as a static page.

- Figures: `plot_memorization_histogram`, `plot_influence_histogram`, `plot_examples`, `plot_pairs`,
  `plot_consistency_by_ratio`, `plot_removal_curve`, `plot_agreement` return Matplotlib figures, to be saved with
  `figure.savefig("name.pdf")` (or png, svg).
- Report: `write_report(gather_statistics(tables_by_ratio, dataset), experiment, dataset, out)`.

Names are imported at their first use. Both need optional packages: `pip install jinja2 matplotlib pillow`.
"""

from typing import TYPE_CHECKING

from heldout_torch.lazy import lazy_names

if TYPE_CHECKING:
    from heldout_torch.report.figures import (
        plot_agreement,
        plot_consistency_by_ratio,
        plot_influence_histogram,
        plot_memorization_histogram,
        plot_removal_curve,
    )
    from heldout_torch.report.pages import write_report
    from heldout_torch.report.picture_figures import plot_examples, plot_pairs
    from heldout_torch.report.statistics import ReportStatistics, gather_statistics

__all__ = [
    "ReportStatistics",
    "gather_statistics",
    "plot_agreement",
    "plot_consistency_by_ratio",
    "plot_examples",
    "plot_influence_histogram",
    "plot_memorization_histogram",
    "plot_pairs",
    "plot_removal_curve",
    "write_report",
]

__getattr__, __dir__ = lazy_names(
    "heldout_torch.report",
    {
        "heldout_torch.report.figures": (
            "plot_agreement",
            "plot_consistency_by_ratio",
            "plot_influence_histogram",
            "plot_memorization_histogram",
            "plot_removal_curve",
        ),
        "heldout_torch.report.pages": ("write_report",),
        "heldout_torch.report.picture_figures": ("plot_examples", "plot_pairs"),
        "heldout_torch.report.statistics": ("ReportStatistics", "gather_statistics"),
    },
)
