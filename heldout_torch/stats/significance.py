"""Significance of pairs: exact p-values of influences, and false-discovery rates.

P-values come from Fisher's exact test, because up to 64e9 pairs are searched: for probabilities such as 1e-10 a normal
approximation is wrong by factors, most of all where nearly all runs are right. Example: with 2,000 runs at ratio 0.7
and a test example on which half of the runs are right, an influence of 0.15 or more has a probability of 3.7e-10
without any effect, so 23 of 64e9 such pairs would be selected.
"""

import math

import numpy as np

from heldout_torch.errors import DataError
from heldout_torch.stats.arguments import as_number, as_row_of_numbers
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.uncertainty import pair_counts


def pair_p_values(table: RunTable, train_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """Compute the probability of an influence at least as large if the training example has no effect.

    Subsets are random. Without an effect, the number of runs that trained on the training example and are right on the
    test example has a hypergeometric distribution. The p-value is its upper tail: R. A. Fisher's exact test, one-sided.
    It is valid for any number of runs of one subset ratio.

    Args:
        table: The runs.
        train_index: Published indices, integers of shape (pairs,).
        test_index: The same of the test examples.

    Returns:
        float64 of shape (pairs,), 0 ... 1.

    Raises:
        DataError: If examples are named that do not exist, or the two are not of one length.
    """
    both, trained, correct = pair_counts(table, train_index, test_index)
    p_values = np.empty(len(both))
    large = both * table.runs > trained * correct  # more than expected
    p_values[large] = _tail(table.runs, trained[large], correct[large], both[large])
    # Of the others the chance of less: that more of the runs trained are among the wrong ones.
    trained, wrong, both = trained[~large], table.runs - correct[~large], both[~large]
    p_values[~large] = 1 - _tail(table.runs, trained, wrong, trained - both + 1)
    return np.clip(p_values, 0, 1)  # (pairs,)


def false_discovery_rate(p_values: np.ndarray, tests: int | None = None) -> np.ndarray:
    """Compute for each pair a bound on the share of false pairs among all that are at least as significant.

    Source: Y. Benjamini and Y. Hochberg, "Controlling the False Discovery Rate" (1995), as adjusted p-values; with
    pairs that share examples it holds as far as they are positively dependent (Y. Benjamini and D. Yekutieli, 2001).

    Args:
        p_values: Float of shape (pairs,), 0 ... 1.
        tests: Number of pairs that were searched, such as all of equal class; by default the number of p-values. Pairs
            that are not given count as not significant, so the rate can only be overestimated.

    Returns:
        float64 of shape (pairs,), 0 ... 1.

    Raises:
        DataError: If values are not probabilities, or there are fewer tests than values.
    """
    p_values = as_row_of_numbers(p_values, "p_values").astype(np.float64)
    number = len(p_values) if tests is None else as_number(tests, "tests")
    if (outside := p_values[~((p_values >= 0) & (p_values <= 1))]).size:
        raise DataError(f"p_values hold {outside[0]}, expected p-values in 0 ... 1")
    if not len(p_values) <= number < math.inf:
        raise DataError(f"tests is {tests}, expected at least {len(p_values)}, the number of p-values")
    order = np.argsort(-p_values)
    ranks = np.arange(len(p_values), 0, -1)
    rates = np.empty(len(p_values))
    rates[order] = np.minimum.accumulate(np.minimum(p_values[order] * number / ranks, 1))
    return rates  # (pairs,)


def _tail(runs: int, trained: np.ndarray, correct: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Compute the chances that at least so many of the runs trained are correct, more than are expected.

    Args:
        runs: Number of runs.
        trained: Of these, int64 of shape (pairs,).
        correct: Of these, int64 of shape (pairs,).
        least: At least so many, int64 of shape (pairs,).
    """
    log_factorial = np.array([math.lgamma(count + 1) for count in range(runs + 1)])

    def log_choices(whole: np.ndarray | int, part: np.ndarray) -> np.ndarray:
        return log_factorial[whole] - log_factorial[part] - log_factorial[whole - part]

    possible = least <= np.minimum(trained, correct)
    trained, correct, common = trained[possible], correct[possible], least[possible]
    log_chance = log_choices(correct, common) + log_choices(runs - correct, trained - common)
    term = np.exp(log_chance - log_choices(runs, trained))
    tail = term.copy()
    while (term > 1e-17 * tail).any():  # beyond the expected number each term is less than the one before
        common = common + 1
        term *= (trained - common + 1) * (correct - common + 1) / (common * (runs - trained - correct + common))
        tail += term
    tails = np.zeros(len(least))
    tails[possible] = tail
    return tails  # (pairs,)
