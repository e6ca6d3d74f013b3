"""Statistics over thousands of held-out runs: memorization, influence, consistency scores, and their uncertainty.

Statistics are plain functions of a run table; indices are published indices. Examples and runs are selected by
positions from 0, a slice or a bool mask; negative positions are refused.

- Run table: `RunTable` (`from_arrays`, `from_aux`, `from_zoo`, `save`, `load`, `concat`, `select_runs`,
  `mask`, `correct`, `who_trained_on`); `run_accuracies(table)`, `split_by_ratio(table)`.
- Output table: `OutputTable` (`load`, `from_arrays`, `from_files`), margins instead of right or wrong; estimates,
  errors, pairs and tops take it in place of a run table.
- Estimates: `memorization(table)`, `influence(table, train, test)`, `consistency(tables_by_ratio)`,
  `influence_pairs(table, labels_train, labels_test)`, `top_influences(table, k, per)`,
  `classwise_influence(table, labels_train, labels_test)`.
- Uncertainty: `example_counts`, `influence_counts`, `memorization_error`, `influence_error`, `pair_error`,
  `error_bound`, `reliability(table, statistic)`; scores, pairs and tops carry their standard errors.
- Attribution: `lds(scores, table)` measures any attribution against runs, `datamodels(table, targets, penalty)` fits
  one by ridge regression or LASSO.
- Without some examples: `group_influence(table, group)`, `class_summary`, `removal_curves(table, ranking)`,
  `brittleness`, `mislabel_auc`; runs of several subset ratios: `stratified_memorization`, `stratified_influence`.
- Intervals: `memorization_interval(table, level)`, `influence_interval`, `pair_interval`, `consistency_interval`;
  chances: `pair_p_values(table, train_index, test_index)`, `false_discovery_rate`.
- Published files by name: `load_published(name, order)`, `fetch_published`, `list_published`.
- Files in the published formats: `load_scores`, `save_scores`, `load_pairs`, `save_pairs`,
  `load_classwise`, `save_classwise`, `load_imagenet_memorization`, `save_imagenet_index`; orders of examples:
  `original_index(dataset, split)`, `to_original`, `to_published`.
- As `heldout stats` writes them, with labels and both indices from `facts_of(dataset, split)`: `memorization_scores`,
  `consistency_scores`, `write_scores`, `write_pairs`.
- Subsets to train on: `keep_indices(scores, fraction)`, `save_indices`, `load_indices`.
- Analyses: `histogram`, `pair_agreement`, `score_agreement`, `accuracy_by_ratio`.

Names are imported, and kernels are compiled, at their first use, so importing the package is fast.
"""

from typing import TYPE_CHECKING

from heldout_torch.lazy import lazy_names

if TYPE_CHECKING:
    from heldout_torch.stats.accuracies import Accuracies, Spread, accuracy_columns, run_accuracies
    from heldout_torch.stats.analyses import (
        PUBLISHED_BINS,
        accuracy_by_ratio,
        histogram,
        keep_indices,
        pair_agreement,
        score_agreement,
    )
    from heldout_torch.stats.attribution import DatamodelingScores, lds
    from heldout_torch.stats.classwise import ClassInfluence, classwise_influence
    from heldout_torch.stats.counterfactuals import (
        ClassSummary,
        RemovalCurves,
        brittleness,
        class_summary,
        group_influence,
        mislabel_auc,
        removal_curves,
    )
    from heldout_torch.stats.estimators import (
        ConsistencyScores,
        ExampleCounts,
        consistency,
        example_counts,
        influence,
        memorization,
    )
    from heldout_torch.stats.example_facts import ExampleFacts, facts_of, find_facts, original_index
    from heldout_torch.stats.index_files import load_indices, load_published_indices, save_indices
    from heldout_torch.stats.influence_files import (
        ClasswiseInfluence,
        load_classwise,
        load_imagenet_memorization,
        load_pairs,
        save_classwise,
        save_imagenet_index,
        save_pairs,
    )
    from heldout_torch.stats.intervals import (
        consistency_interval,
        influence_interval,
        memorization_interval,
        pair_interval,
    )
    from heldout_torch.stats.orders import to_original, to_published
    from heldout_torch.stats.outputs import OutputTable
    from heldout_torch.stats.pairs import InfluencePairs, TopInfluences, influence_pairs, top_influences
    from heldout_torch.stats.published import load_published
    from heldout_torch.stats.published_files import fetch_published
    from heldout_torch.stats.published_list import list_published
    from heldout_torch.stats.regressions import Datamodels, datamodels
    from heldout_torch.stats.run_table import RunTable
    from heldout_torch.stats.score_files import Scores, load_scores, save_scores
    from heldout_torch.stats.significance import false_discovery_rate, pair_p_values
    from heldout_torch.stats.strata import (
        StratifiedEstimate,
        split_by_ratio,
        stratified_influence,
        stratified_memorization,
    )
    from heldout_torch.stats.summary import consistency_scores, memorization_scores, write_pairs, write_scores
    from heldout_torch.stats.uncertainty import (
        Reliability,
        error_bound,
        influence_counts,
        influence_error,
        memorization_error,
        pair_error,
        reliability,
    )

__all__ = [
    "Accuracies",
    "ClassInfluence",
    "ClassSummary",
    "ClasswiseInfluence",
    "ConsistencyScores",
    "DatamodelingScores",
    "Datamodels",
    "ExampleCounts",
    "ExampleFacts",
    "InfluencePairs",
    "OutputTable",
    "PUBLISHED_BINS",
    "Reliability",
    "RemovalCurves",
    "RunTable",
    "Scores",
    "Spread",
    "StratifiedEstimate",
    "TopInfluences",
    "accuracy_by_ratio",
    "accuracy_columns",
    "brittleness",
    "class_summary",
    "classwise_influence",
    "consistency",
    "consistency_interval",
    "consistency_scores",
    "datamodels",
    "error_bound",
    "example_counts",
    "facts_of",
    "false_discovery_rate",
    "fetch_published",
    "find_facts",
    "group_influence",
    "histogram",
    "influence",
    "influence_counts",
    "influence_error",
    "influence_interval",
    "influence_pairs",
    "keep_indices",
    "lds",
    "list_published",
    "load_classwise",
    "load_imagenet_memorization",
    "load_indices",
    "load_pairs",
    "load_published",
    "load_published_indices",
    "load_scores",
    "memorization",
    "memorization_error",
    "memorization_interval",
    "memorization_scores",
    "mislabel_auc",
    "original_index",
    "pair_agreement",
    "pair_error",
    "pair_interval",
    "pair_p_values",
    "reliability",
    "removal_curves",
    "run_accuracies",
    "save_classwise",
    "save_imagenet_index",
    "save_indices",
    "save_pairs",
    "save_scores",
    "score_agreement",
    "split_by_ratio",
    "stratified_influence",
    "stratified_memorization",
    "to_original",
    "to_published",
    "top_influences",
    "write_pairs",
    "write_scores",
]

__getattr__, __dir__ = lazy_names(
    "heldout_torch.stats",
    {
        "heldout_torch.stats.accuracies": ("Accuracies", "Spread", "accuracy_columns", "run_accuracies"),
        "heldout_torch.stats.analyses": (
            "PUBLISHED_BINS",
            "accuracy_by_ratio",
            "histogram",
            "keep_indices",
            "pair_agreement",
            "score_agreement",
        ),
        "heldout_torch.stats.attribution": ("DatamodelingScores", "lds"),
        "heldout_torch.stats.classwise": ("ClassInfluence", "classwise_influence"),
        "heldout_torch.stats.counterfactuals": (
            "ClassSummary",
            "RemovalCurves",
            "brittleness",
            "class_summary",
            "group_influence",
            "mislabel_auc",
            "removal_curves",
        ),
        "heldout_torch.stats.estimators": (
            "ConsistencyScores",
            "ExampleCounts",
            "consistency",
            "example_counts",
            "influence",
            "memorization",
        ),
        "heldout_torch.stats.example_facts": ("ExampleFacts", "facts_of", "find_facts", "original_index"),
        "heldout_torch.stats.index_files": ("load_indices", "load_published_indices", "save_indices"),
        "heldout_torch.stats.influence_files": (
            "ClasswiseInfluence",
            "load_classwise",
            "load_imagenet_memorization",
            "load_pairs",
            "save_classwise",
            "save_imagenet_index",
            "save_pairs",
        ),
        "heldout_torch.stats.intervals": (
            "consistency_interval",
            "influence_interval",
            "memorization_interval",
            "pair_interval",
        ),
        "heldout_torch.stats.orders": ("to_original", "to_published"),
        "heldout_torch.stats.outputs": ("OutputTable",),
        "heldout_torch.stats.pairs": ("InfluencePairs", "TopInfluences", "influence_pairs", "top_influences"),
        "heldout_torch.stats.published": ("load_published",),
        "heldout_torch.stats.published_files": ("fetch_published",),
        "heldout_torch.stats.published_list": ("list_published",),
        "heldout_torch.stats.regressions": ("Datamodels", "datamodels"),
        "heldout_torch.stats.run_table": ("RunTable",),
        "heldout_torch.stats.score_files": ("Scores", "load_scores", "save_scores"),
        "heldout_torch.stats.significance": ("false_discovery_rate", "pair_p_values"),
        "heldout_torch.stats.strata": (
            "StratifiedEstimate",
            "split_by_ratio",
            "stratified_influence",
            "stratified_memorization",
        ),
        "heldout_torch.stats.summary": ("consistency_scores", "memorization_scores", "write_pairs", "write_scores"),
        "heldout_torch.stats.uncertainty": (
            "Reliability",
            "error_bound",
            "influence_counts",
            "influence_error",
            "memorization_error",
            "pair_error",
            "reliability",
        ),
    },
)
