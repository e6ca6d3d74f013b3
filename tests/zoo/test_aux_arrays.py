"""aux_arrays.npz: read without unpickling, refused when it cannot be a run's."""

import io
import random
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from heldout_torch import AuxArrays, ZooError
from heldout_torch.storage.npz import npz_bytes
from heldout_torch.zoo import known_experiments, sample_zoo
from heldout_torch.zoo.aux_arrays import read_aux
from tests.soak.mutants import of_bytes

SAMPLE = sample_zoo() / "digits-mlp-tf/0.7/0/aux_arrays.npz"


def make_aux(train=6, removed=3, test=4, seed=0):
    random = np.random.RandomState(seed)
    order = random.permutation(train + removed)
    return AuxArrays(
        correctness_train=random.randint(0, 2, train),
        correctness_removed=random.randint(0, 2, removed).astype(np.float32),
        correctness_test=random.rand(test) < 0.5,
        index_train=order[:train],
        index_removed=order[train:],
        index_test=random.permutation(test),
        subsample_idx=random.permutation(order[:train]),
    )


def test_arrays_survive_writing_and_reading(tmp_path):
    aux = make_aux()
    aux.write(tmp_path / "aux_arrays.npz")
    found = AuxArrays.read(tmp_path / "aux_arrays.npz")
    for key, array in asdict(aux).items():
        assert getattr(found, key).dtype == (bool if key.startswith("correct") else array.dtype)
        np.testing.assert_array_equal(getattr(found, key), array)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64, bool])
def test_correctness_that_was_read_is_a_mask(dtype, tmp_path):
    """Of 0 and 1, as files hold them, NumPy would take the examples 0 and 1, and `~` would make 255 and 254."""
    aux = replace(make_aux(), correctness_test=np.array([0, 1, 0, 1], dtype))
    aux.write(tmp_path / "aux_arrays.npz")
    found = AuxArrays.read(tmp_path / "aux_arrays.npz")
    assert found.index_test[found.correctness_test].tolist() == aux.index_test[[1, 3]].tolist()
    assert found.index_test[~found.correctness_test].tolist() == aux.index_test[[0, 2]].tolist()
    with np.load(io.BytesIO(found.to_bytes())) as written:
        assert written["correctness_test"].dtype == np.uint8
    with np.load(tmp_path / "aux_arrays.npz") as written:
        assert written["correctness_test"].dtype == (np.uint8 if dtype is bool else dtype)


def test_equal_arrays_give_equal_bytes():
    assert make_aux().to_bytes() == make_aux().to_bytes()
    assert make_aux().to_bytes() != make_aux(seed=1).to_bytes()


def test_numpy_reads_what_we_write():
    with np.load(io.BytesIO(make_aux().to_bytes()), allow_pickle=False) as npz:
        assert set(npz.files) == set(asdict(make_aux()))


def test_masks_are_by_published_index():
    aux = replace(make_aux(), correctness_removed=np.array([1, 0, 1]))
    assert set(np.flatnonzero(aux.trained_on)) == set(aux.subsample_idx)
    for index, correct in zip(aux.index_removed, aux.correctness_removed, strict=True):
        assert not aux.trained_on[index]
        assert aux.correct_train[index] == correct
    for index, correct in zip(aux.index_test, aux.correctness_test, strict=True):
        assert aux.correct_test[index] == correct


def test_a_run_is_made_from_a_mask_as_from_indices():
    subset, right, test = np.array([0, 2, 3]), np.array([1, 0, 1, 1, 0]), np.array([1, 1])
    mask = np.isin(np.arange(5), subset)
    assert AuxArrays.of(mask, right, test) == AuxArrays.of(subset, right, test)
    assert AuxArrays.of(mask, right, test).trained_on.tolist() == mask.tolist()
    with pytest.raises(ZooError, match=r"the subset is a mask of shape \(4,\), but there are 5 training examples"):
        AuxArrays.of(mask[:4], right, test)


def repeated(array):
    return np.concatenate([array[:1], array[:-1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"correctness_train": a.correctness_train[1:]}, "correctness_train has 5 values, index_train 6"),
        (lambda a: {"correctness_test": np.full(4, 0.5)}, "correctness_test has values other than 0 and 1"),
        (lambda a: {"correctness_test": np.full(4, np.nan)}, "correctness_test has values other than 0 and 1"),
        (lambda a: {"index_train": repeated(a.index_train)}, "index_train names an example twice"),
        (lambda a: {"index_test": repeated(a.index_test)}, "index_test names an example twice"),
        (lambda a: {"index_removed": a.index_removed + 9}, "not together 0 ... 8"),
        (lambda a: {"index_removed": a.index_train[:3]}, "not together 0 ... 8"),
        (lambda a: {"index_test": a.index_test + 2**31 - 3}, "index_test has indices outside"),
        (lambda a: {"index_removed": a.index_removed - 20}, "index_removed has indices outside"),
        (lambda a: {"index_train": a.index_train.astype(float)}, "index_train is float64, expected integers"),
        (lambda a: {"index_test": a.index_test[:, None]}, "expected a row of numbers"),
        (lambda a: {"subsample_idx": repeated(a.subsample_idx)}, "subsample_idx names an example twice"),
        (lambda a: {"subsample_idx": a.subsample_idx[1:]}, "name different examples"),
        (lambda a: {"subsample_idx": np.append(a.subsample_idx[1:], a.index_removed[0])}, "name different examples"),
    ],
)
def test_arrays_that_cannot_be_a_runs_are_neither_read_nor_written(change, message, tmp_path):
    aux = make_aux()
    aux.validate()
    bad = replace(aux, **change(aux))
    for use in (
        lambda: bad.validate("run-7"), lambda: AuxArrays.read(bad.to_bytes(), "run-7"),
        lambda: bad.write(tmp_path / "run-7"),
    ):  # fmt: skip
        with pytest.raises(ZooError, match=f"run-7: .*{message}"):
            use()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("part", "more"), [("removed", 1), ("test", 1), ("test", -1)])
def test_arrays_of_another_data_set_are_refused(part, more):
    digits = known_experiments()["digits-mlp"]
    sizes = {"train": 1000, "removed": digits.train_examples - 1000, "test": digits.test_examples}
    assert read_aux(make_aux(**sizes).to_bytes(), digits, "a.npz").train_examples == digits.train_examples
    assert len(read_aux(make_aux(**sizes | {"test": 0}).to_bytes(), digits, "a.npz").index_test) == 0
    sizes[part] += more
    with pytest.raises(ZooError, match=r"a\.npz: is about .* is it another experiment's"):
        read_aux(make_aux(**sizes).to_bytes(), digits, "a.npz")


def test_a_part_of_a_test_set_makes_no_row_of_a_table():
    aux = replace(make_aux(), index_test=np.array([0, 1, 2, 4]))
    aux.validate()
    with pytest.raises(ZooError, match=r"index_test is not 0 \.\.\. 3 in some order"):
        _ = aux.correct_test


def test_pickled_arrays_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    path = tmp_path / "aux_arrays.npz"
    np.savez(path, **asdict(make_aux()) | {"index_test": np.array([Bomb()], dtype=object)})
    (tmp_path / "touched").unlink(missing_ok=True)
    with pytest.raises(ZooError, match=r"aux_arrays.npz: is not a readable npz"):
        AuxArrays.read(path)
    assert not (tmp_path / "touched").exists()


def test_missing_arrays_are_named(tmp_path):
    arrays = asdict(make_aux())
    arrays["extra"] = arrays.pop("index_train")
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ZooError, match=r"has no index_train, only .*extra"):
        AuxArrays.read(tmp_path / "a.npz")
    arrays = asdict(make_aux())
    del arrays["index_test"]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ZooError, match=r"holds only one of correctness_test and index_test"):
        AuxArrays.read(tmp_path / "a.npz")


def test_other_arrays_stay_unread_even_pickled_ones(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    extra = {"loss": np.ones(3), "config": np.array([Trap()], object)}
    np.savez(tmp_path / "a.npz", **asdict(make_aux()), **extra)
    assert np.array_equal(AuxArrays.read(tmp_path / "a.npz").index_train, make_aux().index_train)
    assert not (tmp_path / "sprung").exists()


def test_a_file_without_the_test_set_has_none(tmp_path):
    arrays = asdict(make_aux())
    del arrays["index_test"], arrays["correctness_test"]
    np.savez(tmp_path / "a.npz", **arrays)
    aux = AuxArrays.read(tmp_path / "a.npz")
    assert (len(aux.index_test), len(aux.correct_test), aux.train_examples) == (0, 0, 9)


def test_damaged_files_give_one_line_or_the_same_arrays():
    data = SAMPLE.read_bytes()
    expected = asdict(AuxArrays.read(data))
    chance = random.Random(0)
    for _ in range(500):
        try:
            found = asdict(AuxArrays.read(of_bytes(data, chance)))
        except ZooError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array)


def test_a_file_that_unpacks_to_too_much_is_refused():
    arrays = asdict(make_aux())
    del arrays["index_test"]
    buffer = io.BytesIO(npz_bytes(arrays))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("index_test.npy", "w") as member:
        for _ in range(100):
            member.write(bytes(2**20))
    with pytest.raises(ZooError, match=r"unpacks to .* more than the largest"):
        AuxArrays.read(buffer.getvalue())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ZooError, match=r"aux_arrays.npz: cannot be read \(No such file"):
        AuxArrays.read(tmp_path / "aux_arrays.npz")


def test_aux_arrays_are_compared_and_printed_in_short():
    aux = make_aux()
    assert aux == make_aux()
    assert aux != replace(aux, correctness_test=1 - aux.correctness_test)
    assert aux != "aux"
    assert len(repr(aux)) < 120
    assert repr(aux).startswith("AuxArrays(train: ")
