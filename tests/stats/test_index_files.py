"""Files of indices say how they count, and are brought to published indices; nothing is guessed."""

import numpy as np
import pytest

from heldout_torch import DataError
from heldout_torch.data import tfds_order
from heldout_torch.stats import load_indices, load_published_indices, save_indices

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
        with pytest.raises(DataError, match="does not say how it counts examples: give --order original or published"):
            load_indices(tmp_path / name)
        assert load_indices(tmp_path / name, "original")[1] == "original"
        published = load_published_indices(tmp_path / name, 100, ORIGINAL_INDEX, "original")
        assert ORIGINAL_INDEX[published].tolist() == [5, 2, 9]


def test_what_contradicts_itself_or_cannot_be_mapped_is_refused(tmp_path):
    save_indices(tmp_path / "kept.npz", np.array([5, 99]), "original")
    with pytest.raises(DataError, match="has original indices, not published ones"):
        load_indices(tmp_path / "kept.npz", "published")
    with pytest.raises(DataError, match=r"outside 0 ... 98"):
        load_published_indices(tmp_path / "kept.npz", 99, np.arange(99))
    with pytest.raises(DataError, match="only the data set itself can map: give --data"):
        load_published_indices(tmp_path / "kept.npz", 100, None)


@pytest.mark.parametrize("indices", [[-1, 2], [0.5, 1], [[1, 2]], [3, 3], [True, False], [2**40]])
def test_what_is_no_row_of_indices_is_refused(tmp_path, indices):
    np.save(tmp_path / "kept.npy", np.array(indices))
    with pytest.raises(DataError, match=r"kept\.npy"):
        load_indices(tmp_path / "kept.npy", "published")


@pytest.mark.parametrize("indices", [[3, 3], [-1, 0], [1.0, 2.0], [[1, 2]], [True, False], [2**31]])
def test_what_could_not_be_read_back_is_not_written(tmp_path, indices):
    with pytest.raises(DataError, match="indices"):
        save_indices(tmp_path / "kept.npz", np.array(indices), "original")
    assert not list(tmp_path.iterdir())
