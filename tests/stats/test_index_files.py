"""Files of indices say how they count, and are brought to published indices; nothing is guessed."""

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.data import tfds_order
from heldout_torch.stats import (
    ClasswiseInfluence,
    InfluencePairs,
    Scores,
    load_indices,
    load_published_indices,
    save_indices,
)
from heldout_torch.stats.columns import write_columns

ORIGINAL_INDEX = tfds_order("train", 100)


@pytest.mark.parametrize("order", ["original", "published"])
def test_indices_come_back_with_their_order(tmp_path, order):
    save_indices(tmp_path / "kept.npz", np.array([5, 2, 9]), order)
    indices, said = load_indices(tmp_path / "kept.npz")
    assert (indices.tolist(), said) == ([5, 2, 9], order)
    assert load_indices(tmp_path / "kept.npz", order)[1] == order
    published = load_published_indices(tmp_path / "kept.npz", 100, ORIGINAL_INDEX)
    if order == "original":
        assert ORIGINAL_INDEX[published].tolist() == [5, 2, 9]
    else:
        assert published.tolist() == [5, 2, 9]


def test_bare_arrays_need_to_be_told_how_they_count(tmp_path):
    np.save(tmp_path / "kept.npy", np.array([5, 2, 9]))
    np.savez(tmp_path / "kept.npz", indices=np.array([5, 2, 9]))
    for name in ("kept.npy", "kept.npz"):
        with pytest.raises(DataError, match="how it counts examples; pass order='original' or order='published'"):
            load_indices(tmp_path / name)
        assert load_indices(tmp_path / name, "original")[1] == "original"
        published = load_published_indices(tmp_path / name, 100, ORIGINAL_INDEX, "original")
        assert ORIGINAL_INDEX[published].tolist() == [5, 2, 9]


@pytest.mark.parametrize("order", ["Original", "orig", "", 0, True, b"original", ["original"]])
def test_an_order_that_is_none_is_refused(order, tmp_path):
    np.save(tmp_path / "kept.npy", np.array([5, 2, 9]))
    for call in (
        lambda: load_indices(tmp_path / "kept.npy", order),
        lambda: load_published_indices(tmp_path / "kept.npy", 100, None, order),
        lambda: Scores(np.zeros(3), order=order),
        lambda: InfluencePairs(*np.zeros((5, 3)), order),
        lambda: ClasswiseInfluence([], np.zeros(3, int), np.zeros(3, int), np.zeros(3), order),
    ):
        with pytest.raises(DataError, match=r"order is .*, expected 'original' or 'published'"):
            call()


def test_what_contradicts_itself_or_cannot_be_mapped_is_refused(tmp_path):
    save_indices(tmp_path / "kept.npz", np.array([5, 99]), "original")
    with pytest.raises(DataError, match="has original indices, not published ones"):
        load_indices(tmp_path / "kept.npz", "published")
    with pytest.raises(DataError, match=r"outside 0 ... 98"):
        load_published_indices(tmp_path / "kept.npz", 99, np.arange(99))
    with pytest.raises(DataError, match="only the data set can map; pass its original_index"):
        load_published_indices(tmp_path / "kept.npz", 100, None)


@pytest.mark.parametrize("indices", [[-1, 2], [0.5, 1], [[1, 2]], [3, 3], [True, False], [2**40]])
def test_what_is_no_row_of_indices_is_refused(tmp_path, indices):
    np.save(tmp_path / "kept.npy", np.array(indices))
    with pytest.raises(DataError, match=r"kept\.npy"):
        load_indices(tmp_path / "kept.npy", "published")


def test_a_mask_in_place_of_indices_is_told_how_to_become_them(tmp_path):
    np.save(tmp_path / "kept.npy", np.arange(9) > 4)
    with pytest.raises(DataError, match=r"is a mask, bool \(9,\), expected indices: numpy\.flatnonzero\(mask\)"):
        load_indices(tmp_path / "kept.npy", "original")


@pytest.mark.parametrize("indices", [[3, 3], [-1, 0], [1.0, 2.0], [[1, 2]], [True, False], [2**31]])
def test_what_could_not_be_read_back_is_not_written(tmp_path, indices):
    with pytest.raises(DataError, match="indices"):
        save_indices(tmp_path / "kept.npz", np.array(indices), "original")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("order", ["original", "published"])
def test_a_table_says_by_its_column_how_it_counts(tmp_path, order, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"kept{suffix}"
    write_columns(path, {"label": np.array([1, 1, 3]), f"{order}_index": np.array([5, 2, 9])})
    assert (load_indices(path)[0].tolist(), load_indices(path)[1]) == ([5, 2, 9], order)
    published = load_published_indices(path, 100, ORIGINAL_INDEX)
    assert (ORIGINAL_INDEX[published] if order == "original" else published).tolist() == [5, 2, 9]
    with pytest.raises(DataError, match=f"has {order} indices, not"):
        load_indices(path, {"original": "published", "published": "original"}[order])


def test_a_table_of_both_indices_gives_the_one_asked_for(tmp_path):
    write_columns(tmp_path / "both.csv", {"published_index": np.array([1, 2]), "original_index": np.array([7, 8])})
    assert load_indices(tmp_path / "both.csv", "published")[0].tolist() == [1, 2]
    assert load_indices(tmp_path / "both.csv")[0].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no column original_index or published_index"),
        ("index\n1\n", "has no column original_index or published_index"),
        ("original_index\n1.5\n", "cannot be read as a table"),
        ("original_index,label\n1\n", "cannot be read as a table .a row of 1 fields, expected 2"),
        ("original_index\n99999999999999999999\n", "cannot be read as a table"),
        ("original_index\n-1\n", "-1|negative|0 "),
        ("original_index\n4\n4\n", "names an example twice"),
    ],
)
def test_a_table_of_anything_else_is_one_line(tmp_path, text, why):
    (tmp_path / "kept.csv").write_text(text)
    with pytest.raises(DataError, match=why):
        load_indices(tmp_path / "kept.csv")


@pytest.mark.parametrize("name", ["kept.csv", "kept.parquet"])
def test_a_table_that_is_none_is_one_line(tmp_path, name):
    with pytest.raises(DataError, match="cannot be read"):
        load_indices(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\x00PAR1" * 9)
    with pytest.raises(DataError, match="cannot be read as a table"):
        load_indices(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_indices_of_another_training_set_are_refused(tmp_path, suffix):
    """Of CSV and Parquet nobody could tell."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"kept{suffix}"
    save_indices(path, np.array([5, 2]), "original", "cifar10", 100)
    assert load_indices(path)[0].tolist() == [5, 2]
    assert load_published_indices(path, 100, np.arange(100), dataset="cifar10").tolist() == [5, 2]
    with pytest.raises(DataError, match=r"about a training set of dataset cifar10, not cifar100; .* as an npy file"):
        load_published_indices(path, 100, np.arange(100), dataset="cifar100")
    with pytest.raises(DataError, match="about a training set of examples 100, not 200"):
        load_published_indices(path, 200, np.arange(200))


def test_a_table_about_two_data_sets_is_about_none(tmp_path):
    (tmp_path / "kept.csv").write_text("original_index,dataset\n1,cifar10\n2,mnist\n")
    with pytest.raises(DataError, match="column dataset says cifar10 and mnist, expected the same in all rows"):
        load_indices(tmp_path / "kept.csv")


def test_indices_outside_the_training_set_are_told_with_its_range(tmp_path):
    for indices in ([3, -1], [3, 100], [2**40]):
        np.save(tmp_path / "kept.npy", np.array(indices))
        with pytest.raises(DataError, match=r"kept\.npy has indices outside 0 \.\.\. 99, those of the training set"):
            load_published_indices(tmp_path / "kept.npy", 100, ORIGINAL_INDEX, "original")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_two_columns_of_indices_that_contradict_each_other_are_refused(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path, published = tmp_path / f"both{suffix}", np.array([5, 2, 9])
    write_columns(path, {"original_index": ORIGINAL_INDEX[published], "published_index": published})
    for order in (None, "original", "published"):
        assert load_published_indices(path, 100, ORIGINAL_INDEX, order).tolist() == [5, 2, 9]
    write_columns(path, {"original_index": ORIGINAL_INDEX[published], "published_index": published[[1, 0, 2]]})
    for order in (None, "original", "published"):
        with pytest.raises(DataError, match=r"of one row are different examples of this data set \(2 such rows\)"):
            load_published_indices(path, 100, ORIGINAL_INDEX, order)
