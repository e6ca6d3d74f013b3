"""Planted runs on the bundled digits: some examples memorized, some of them helping a test example."""

import numpy as np
import pytest

from heldout_torch.data import load_digits
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.stats import RunTable
from heldout_torch.zoo import known_experiments

RUNS = 60
HOSTILE = "<script>window.hacked=1</script>\"'&${x}"


def plant_table(digits, ratio, seed):
    rng = np.random.RandomState(seed)
    labels, labels_test = digits.labels("train").numpy(), digits.labels("test").numpy()
    n, m = len(labels), len(labels_test)
    trained = np.zeros((RUNS, n), bool)
    for run in range(RUNS):
        trained[run, rng.choice(n, int(n * ratio), replace=False)] = True
    held_out = np.where(np.arange(n) % 20 == 0, rng.rand(n), 0.99)  # chance to be right
    correct = rng.rand(RUNS, n) < np.where(trained, 1.0, held_out)
    correct_test = rng.rand(RUNS, m) < 0.95
    memorized = np.flatnonzero(held_out < 0.4)
    for example in memorized:
        for test in rng.choice(np.flatnonzero(labels_test == labels[example]), 2, replace=False):
            correct_test[:, test] = rng.rand(RUNS) < 0.3 + 0.6 * trained[:, example]
    keys = [f"digits-mlp/{ratio}/{run}" for run in range(RUNS)]
    return RunTable.from_arrays(trained, correct, correct_test, keys)


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture(scope="session")
def tables(digits):
    return {ratio: plant_table(digits, ratio, seed) for ratio, seed in ((0.3, 1), (0.7, 2))}


@pytest.fixture(scope="session")
def statistics(tables, digits):
    return gather_statistics(tables, digits)


@pytest.fixture(scope="session")
def experiment():
    return known_experiments()["digits-mlp"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory, statistics, experiment, digits):
    """The folder of a report whose first class and command are named with ill intent."""
    out = tmp_path_factory.mktemp("report") / "out"
    names = [HOSTILE, *(f"digit {label}" for label in range(1, 10))]
    write_report(statistics, experiment, digits, out, names, [f"heldout report {HOSTILE}"])
    return out
