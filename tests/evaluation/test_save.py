"""What evaluations are saved as."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from heldout_torch.data import load_digits
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate
from heldout_torch.evaluation.save import has_scores, make_aux, start_scores, write_scores
from heldout_torch.zoo import load_run
from heldout_torch.zoo.keys import make_key

MADE_OF = {"data": "d" * 64, "flips": False}
KEYS = [make_key("e", 0.5, run) for run in (9, 2, 4)]


@pytest.fixture(scope="module")
def run():
    return load_run("digits-mlp-tf", 0.7, 3)


@pytest.fixture(scope="module")
def evaluations(run):
    return tuple(evaluate(run.model, load_digits(), split) for split in ("train", "test"))


def test_aux_arrays_are_those_that_tensorflow_wrote(run, evaluations):
    aux = make_aux(*evaluations, run.aux.subsample_idx, load_digits())
    aux.validate()
    assert np.array_equal(aux.trained_on, run.aux.trained_on)
    assert np.array_equal(aux.correct_train, run.aux.correct_train)
    assert np.array_equal(aux.correct_test, run.aux.correct_test)
    for name in ("index_train", "index_removed", "index_test", "correctness_removed"):
        assert np.array_equal(getattr(aux, name), getattr(run.aux, name))


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (np.array([1, 1, 2]), "names examples twice"),
        (np.array([0, 1437]), "outside 0 ... 1436"),
        (np.array([-1, 4]), "outside 0 ... 1436"),
        (np.array([0.0, 1.0]), "the subset is float64"),
        (np.zeros((2, 2), int), "expected a row of published indices"),
        (np.zeros(0, int), "expected a row of published indices"),
    ],
)
def test_a_subset_that_is_none_is_refused(subset, message, evaluations):
    with pytest.raises(DataError, match=message):
        make_aux(*evaluations, subset, load_digits())


def test_scores_lie_in_rows_by_run(tmp_path, run, evaluations):
    folder = tmp_path / "e" / "0.5" / "scores"
    with ThreadPoolExecutor(4) as pool:  # as several processes begin at once
        list(pool.map(lambda _: start_scores(tmp_path, KEYS, 1437, MADE_OF), range(8)))
    write_scores(folder, 4, evaluations[0], run.aux.trained_on)
    scores, mask, runs = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("scores", "trained_on", "runs"))
    assert runs.tolist() == [2, 4, 9]
    assert (scores.dtype, scores.shape, mask.dtype) == (np.float32, (3, 1437), np.bool_)
    assert np.array_equal(scores[1], evaluations[0].log_odds)
    assert np.array_equal(mask[1], run.aux.trained_on)
    assert not mask[[0, 2]].any()
    assert [has_scores(folder, number) for number in runs] == [False, True, False]
    start_scores(tmp_path, KEYS, 1437, MADE_OF)
    assert has_scores(folder, 4)
    for keys, examples in ((KEYS[:2], 1437), (KEYS, 1436)):
        with pytest.raises(DataError, match="has rows for 3 runs and 1437 examples, not for these"):
            start_scores(tmp_path, keys, examples, MADE_OF)
    for other in ({"data": "e" * 64}, {"flips": True}):
        with pytest.raises(DataError, match="has scores of another data set, or with other --flips"):
            start_scores(tmp_path, KEYS, 1437, {**MADE_OF, **other})
