"""Notebooks show results short, and names out of files as text.

Also of zoo/run_list.py.
"""

import numpy as np
import pytest

from heldout_torch import RunKey, list_runs, load_dataset, load_run
from heldout_torch.data import ArrayDataset, as_stored
from heldout_torch.stats import InfluencePairs, RunTable, Scores
from heldout_torch.zoo.run_list import RunList

NAME = "<script>alert('x')</script>&"


def shown():
    digits = load_dataset("digits")
    rows = as_stored(digits.test.images, digits.test.labels)
    many = np.arange(5000)
    return {
        "scores": Scores(many / 7, filenames=np.array([NAME] * 5000), order="original"),
        "empty scores": Scores(np.zeros(0)),
        "pairs": InfluencePairs(many, many, many / 7, many / 7, many / 7),
        "runs": RunList([RunKey(NAME, 0.7, run) for run in range(5000)]),
        "no runs": RunList(),
        "data": ArrayDataset(NAME, rows, rows, 10, 16.0),
        "split": ArrayDataset(NAME, rows, rows, 10, 16.0).split("test"),
        "table": RunTable.from_arrays(
            np.eye(2, dtype=bool), np.eye(2, dtype=bool), np.eye(2, dtype=bool), keys=[NAME, "b"]
        ),
        "run": load_run("digits-mlp-tf", 0.7, 3),
        "aux": load_run("digits-mlp-tf", 0.7, 3).aux,
    }


@pytest.mark.parametrize("kind", sorted(shown()))
def test_a_notebook_shows_little_and_no_markup_of_a_name(kind):
    page = shown()[kind]._repr_html_()
    assert page.startswith("<code>")
    assert len(page) < 4000
    assert "<script" not in page
    assert "&'" not in page


def test_a_list_of_runs_is_a_list_and_a_table():
    runs = list_runs()
    assert runs == list(runs)
    assert runs[0] == RunKey("digits-mlp-tf", 0.7, 0)
    assert "<td>digits-mlp-tf</td><td>0.7</td><td>5</td>" in runs._repr_html_()
    pandas = pytest.importorskip("pandas")
    frame = runs.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["run"].tolist() == [0, 1, 2, 3, 4, 5]
    assert load_run(*frame.iloc[3]).key == runs[3]
