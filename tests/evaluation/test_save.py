"""What evaluations are saved as."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from heldout_torch.data import load_digits
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate, save
from heldout_torch.evaluation.evaluate import evaluate_together
from heldout_torch.evaluation.provenance import Provenance
from heldout_torch.evaluation.save import make_aux, outputs_folder, save_runs, start_all_outputs
from heldout_torch.stats import OutputTable
from heldout_torch.stats.output_files import write_outputs
from heldout_torch.zoo import load_run, sample_zoo
from heldout_torch.zoo.keys import make_key
from heldout_torch.zoo.open import open_writable, open_zoo

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


def test_outputs_lie_in_folders_by_ratio(tmp_path):
    out, keys = open_writable(tmp_path), [*KEYS, make_key("e", 0.7, 2)]
    with ThreadPoolExecutor(4) as pool:  # as several processes begin at once
        for filled in pool.map(lambda _: start_all_outputs(out, keys, load_digits(), MADE_OF), range(8)):
            assert filled == set()
    folder = outputs_folder(out, KEYS[0])
    assert folder == tmp_path / "e" / "0.5" / "outputs"
    write_outputs(folder, str(KEYS[2]), np.ones(1437, bool), np.zeros(1437), np.zeros(360))
    assert start_all_outputs(out, keys, load_digits(), MADE_OF) == {KEYS[2]}
    assert start_all_outputs(out, keys[::-1], load_digits(), MADE_OF) == {KEYS[2]}  # rows are in order of the runs
    assert OutputTable.load(folder).keys == ("e/0.5/4",)
    assert start_all_outputs(out, KEYS[:2], load_digits(), MADE_OF) == set()
    for other in ({"data": "e" * 64}, {"flips": True}):
        with pytest.raises(DataError, match="has outputs made with"):
            start_all_outputs(out, KEYS, load_digits(), {**MADE_OF, **other})


def test_rows_of_outputs_are_by_published_index_whatever_the_order_of_images(tmp_path, run, evaluations):
    order = torch.randperm(1437, generator=torch.Generator().manual_seed(0))
    digits = load_digits()
    rows = {name: getattr(digits.train, name)[order] for name in ("images", "labels", "index", "original_index")}
    shuffled = replace(digits, train=replace(digits.train, **rows))
    out = open_writable(tmp_path)
    start_all_outputs(out, [run.key], shuffled, MADE_OF)
    made = Provenance(open_zoo(sample_zoo()), out, "0" * 64, flips=False)
    (aux,) = save_runs([run], shuffled, "cpu", lambda images: None, out=out, made=made, aux=False, outputs=True)
    np.testing.assert_array_equal(aux.correct_train, run.aux.correct_train)
    table = OutputTable.load(outputs_folder(out, run.key))
    np.testing.assert_allclose(table.margins_train[0], evaluations[0].log_odds, atol=1e-4)


def test_a_run_of_other_data_is_refused_before_it_is_evaluated(tmp_path, run):
    """It was evaluated on all images first."""
    digits, out = load_digits(), open_writable(tmp_path)
    other = replace(run, metadata=replace(run.metadata, dataset="mnist"))
    made, images = Provenance(open_zoo(sample_zoo()), out, "0" * 64, flips=False), []
    (wrong,) = save_runs([other], digits, "cpu", images.append, out=out, made=made)
    assert str(wrong) == f"run {run.key} is about mnist, the data set is digits"
    assert images == []
    wrong, aux = save_runs([other, run], digits, "cpu", images.append, out=out, made=made)
    assert isinstance(wrong, DataError)
    np.testing.assert_array_equal(aux.correct_test, run.aux.correct_test)
    assert sum(images) == 1437 + 360


@pytest.mark.parametrize("flips", [False, True])
def test_flips_are_means_over_mirror_images(tmp_path, run, evaluations, flips):
    digits, out = load_digits(), open_writable(tmp_path)
    start_all_outputs(out, [run.key], digits, MADE_OF)
    made = Provenance(open_zoo(sample_zoo()), out, "0" * 64, flips)
    save_runs([run], digits, "cpu", lambda images: None, out=out, made=made, aux=False, outputs=True, flips=flips)
    table = OutputTable.load(outputs_folder(out, run.key))
    for split, plain in zip(("train", "test"), evaluations, strict=True):
        margins = table.margins(split)
        (expected,) = evaluate_together([run.model], digits, split, device="cpu", flips=flips)
        np.testing.assert_array_equal(margins[0], expected.log_odds)
        assert np.array_equal(margins[0], plain.log_odds) != flips


def test_the_folder_of_outputs_is_sought_once_for_each_ratio(tmp_path, monkeypatch):
    """It was sought for each run and each ratio."""
    keys = [make_key("digits-mlp", ratio, run) for run in range(5) for ratio in (0.7, 0.5, 0.9)]
    sought, find = [], save.outputs_folder

    def note(out, key):
        sought.append(key)
        return find(out, key)

    monkeypatch.setattr(save, "outputs_folder", note)
    assert start_all_outputs(open_writable(tmp_path), keys, load_digits(), {}) == set()
    assert len(sought) == 3
    layout = json.loads((tmp_path / "digits-mlp" / "0.5" / "outputs" / "outputs.json").read_text())
    assert layout["keys"] == [f"digits-mlp/0.5/{run}" for run in range(5)]
