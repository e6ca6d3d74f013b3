"""Recorded correctness against the network's."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from heldout_torch.data import load_digits
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate, verify
from heldout_torch.zoo import Run, load_run, sample_zoo
from tests.helpers.devices import on_devices


class Recorded:
    """A place whose run has other aux arrays."""

    def __init__(self, aux):
        aux.validate()
        self._aux = aux

    def aux(self, key):
        return self._aux


def with_aux(run, **changes):
    return Run(run.model, run.metadata, Recorded(replace(run.aux, **changes)))


@on_devices
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_the_sample_is_what_its_networks_say(device, precision):
    for number in range(3):
        run = load_run("digits-mlp-tf", 0.7, number)
        verification = verify(run, load_digits(), device=device, precision=precision)
        assert (verification.matches, verification.examples, verification.mismatches) == (1797, 1797, 0)
        assert {part: split.examples for part, split in verification.splits.items()} == {
            "train": 1005, "removed": 432, "test": 360,
        }  # fmt: skip


def test_mismatches_are_named_with_their_margins():
    run = load_run("digits-mlp-tf", 0.7, 2)
    removed, test = run.aux.correctness_removed.copy(), run.aux.correctness_test.copy()
    removed[[3, 50]], test[7] = 1 - removed[[3, 50]], 1 - test[7]
    changed = with_aux(run, correctness_removed=removed, correctness_test=test)
    verification = verify(changed, load_digits())
    assert verification.splits["train"].matches == 1005
    assert verification.splits["removed"].mismatched.tolist() == sorted(run.aux.index_removed[[3, 50]].tolist())
    assert verification.splits["test"].mismatched.tolist() == [7]
    assert (verification.matches, verification.ties, verification.mismatches) == (1794, 0, 3)
    logits = run.model(load_digits().test.images[7:8] / 16)[0].detach()
    label = load_digits().labels("test")[7]
    others = logits[torch.arange(10) != label].max()
    assert verification.splits["test"].margins[0] == pytest.approx(float(logits[label] - others), abs=1e-4)
    assert verify(changed, load_digits(), ["train"]).matches == 1005


def test_a_mismatch_within_rounding_is_a_tie():
    run, dataset = load_run("digits-mlp-tf", 0.7, 2), load_digits()
    # Move one bias so that test example 7's label and its rival come within one unit in the last place.
    image, label = dataset.test.images[7:8] / 16, int(dataset.labels("test")[7])
    with torch.no_grad():
        for _ in range(3):
            logits = run.model(image)[0]
            rival = max((c for c in range(10) if c != label), key=lambda c: float(logits[c]))
            run.model.layers[-1].bias[label] -= logits[label] - logits[rival]
    first = verify(run, dataset)  # everything else that the bias changed is recorded anew
    parts = {part: getattr(run.aux, f"correctness_{part}").copy() for part in ("train", "removed", "test")}
    for part, split in first.splits.items():
        place = np.isin(getattr(run.aux, f"index_{part}"), split.mismatched)
        parts[part][place] = 1 - parts[part][place]
    changed = with_aux(run, **{f"correctness_{part}": values for part, values in parts.items()})
    assert verify(changed, dataset).matches == 1797
    parts["test"][7] = 1 - parts["test"][7]
    changed = with_aux(run, **{f"correctness_{part}": values for part, values in parts.items()})
    verification = verify(changed, dataset)
    assert (verification.matches, verification.ties, verification.mismatches) == (1796, 1, 0)
    assert 0 < verification.tie_margin < 1e-4


def test_another_data_set_is_refused():
    run, dataset = load_run("digits-mlp-tf", 0.7, 0), load_digits()
    with pytest.raises(DataError, match="is about digits, the data set is mnist"):
        verify(run, replace(dataset, name="mnist"))
    shorter = {key: getattr(dataset.test, key)[:300] for key in ("images", "labels", "index", "original_index")}
    with pytest.raises(DataError, match="about 360 test examples, the data set digits has 300; is it another"):
        verify(run, replace(dataset, test=replace(dataset.test, **shorter)))


def test_examples_that_the_data_lacks_are_counted():
    run, dataset = load_run("digits-mlp-tf", 0.7, 0), load_digits()
    kept = torch.arange(360)[torch.arange(360) % 10 > 0]
    lacking = {key: getattr(dataset.test, key)[kept] for key in ("images", "labels", "index", "original_index")}

    class Lacking(type(dataset)):
        def labels(self, split):
            return load_digits().labels(split)

    verification = verify(run, Lacking("digits", dataset.train, replace(dataset.test, **lacking), 10, 16.0))
    assert (verification.splits["test"].examples, verification.splits["test"].missing) == (324, 36)
    assert verification.matches == verification.examples == 1797 - 36


def test_damaged_aux_arrays_are_an_error(tmp_path):
    shutil.copytree(sample_zoo(), tmp_path / "tree")
    (tmp_path / "tree/digits-mlp-tf/0.7/0/aux_arrays.npz").write_bytes(b"PK")
    with pytest.raises(Exception, match=r"aux_arrays\.npz: is not a readable npz"):
        verify(load_run("digits-mlp-tf", 0.7, 0, tmp_path / "tree"), load_digits())


@pytest.mark.parametrize(
    ("parts", "examples", "lacking"), [(["test"], 360, "train"), (["train", "removed"], 1437, "test")]
)
def test_only_the_split_that_is_compared_is_needed(parts, examples, lacking):
    run, dataset = load_run("digits-mlp-tf", 0.7, 0), load_digits()
    nothing = {key: getattr(dataset.train, key)[:0] for key in ("images", "labels", "index", "original_index")}
    alone = replace(dataset, **{lacking: replace(dataset.train, **nothing)})
    assert verify(run, alone, parts).matches == verify(run, alone, iter(parts)).matches == examples
    assert len(evaluate(run, alone, "test" if lacking == "train" else "train").index) == examples
    with pytest.raises(DataError, match=rf"has no images of {lacking}; give both splits"):
        verify(run, alone)
