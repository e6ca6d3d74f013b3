"""Outputs of runs: the table over arrays, files and folders, and estimates from margins.

Also of stats/mean_differences.py, stats/output_files.py, stats/tables.py.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import ttest_ind

from heldout_torch import DataError
from heldout_torch.stats import (
    OutputTable,
    classwise_influence,
    influence,
    influence_error,
    influence_pairs,
    memorization,
    memorization_error,
    pair_error,
    top_influences,
)
from heldout_torch.stats.output_files import filled_rows, start_outputs, write_outputs

RUNS, N, M = 40, 21, 9


def random_outputs(runs=RUNS, n=N, m=M, seed=0):
    """Masks with examples that were never in (0), never out (1) and in once (2); margins of both splits."""
    rng = np.random.default_rng(seed)
    masks = rng.random((runs, n)) < 0.6
    masks[:, 0], masks[:, 1], masks[:, 2] = False, True, np.arange(runs) == 3
    train, test = (rng.normal(rng.normal(0, 5, k), 2, (runs, k)).astype(np.float32) for k in (n, m))
    train += 3 * masks
    test[:, 4] += 2 * masks[:, 5]
    return masks, train, test


@pytest.fixture
def arrays():
    return random_outputs()


@pytest.fixture
def table(arrays):
    masks, train, test = arrays
    return OutputTable.from_arrays(masks, test, train)


def differences(masks, margins):
    """Estimates and errors by plain means over float64, (margins, masks)."""
    estimate, error = (np.full((margins.shape[1], masks.shape[1]), np.nan) for _ in range(2))
    for i, mask in enumerate(masks.T):
        groups = [margins[chosen].astype(np.float64) for chosen in (mask, ~mask)]
        if min(map(len, groups)) > 0:
            estimate[:, i] = groups[0].mean(0) - groups[1].mean(0)
        if min(map(len, groups)) > 1:
            error[:, i] = np.sqrt(sum(group.var(0, ddof=1) / len(group) for group in groups))
    return estimate, error


def write_folder(folder, masks, train, test, rows):
    keys = [f"e/0.6/{run}" for run in range(len(masks))]
    start_outputs(folder, keys, masks.shape[1], test.shape[1])
    for row in rows:
        write_outputs(folder, keys[row], masks[row], train[row], test[row])
    return keys


def test_a_folder_gives_back_what_was_written_and_only_whole_rows(tmp_path, arrays):
    masks, train, test = arrays
    rows = [3, 4, 17, 39]
    keys = write_folder(tmp_path / "outputs", masks, train, test, rows[::-1])
    table = OutputTable.load(tmp_path / "outputs")
    assert table.keys == tuple(keys[row] for row in rows)
    assert (table.runs, table.train_examples, table.test_examples) == (4, N, M)
    np.testing.assert_array_equal(table.mask(), masks[rows])
    np.testing.assert_array_equal(table.margins_train, train[rows])
    np.testing.assert_array_equal(table.margins_test, test[rows])
    assert filled_rows(tmp_path / "outputs") == set(table.keys)
    assert filled_rows(tmp_path / "nothing") == set()


def test_the_arrays_of_a_whole_folder_stay_on_disk(tmp_path, arrays):
    write_folder(tmp_path / "outputs", *arrays, range(RUNS))
    table = OutputTable.load(tmp_path / "outputs")
    assert isinstance(table.margins_train, np.memmap)
    assert isinstance(table.margins_test, np.memmap)


def test_rows_written_again_replace_what_was_there(tmp_path, arrays):
    masks, train, test = arrays
    keys = write_folder(tmp_path / "outputs", masks, train, test, [0, 1, 2])
    write_outputs(tmp_path / "outputs", keys[1], ~masks[1], -train[1], -test[1])
    table = OutputTable.load(tmp_path / "outputs")
    np.testing.assert_array_equal(table.mask(), [masks[0], ~masks[1], masks[2]])
    np.testing.assert_array_equal(table.margins_train, [train[0], -train[1], train[2]])


def test_a_row_that_could_not_be_written_again_whole_does_not_count(tmp_path, arrays):
    """As when a process is killed between the arrays of a row."""
    masks, train, test = arrays
    keys = write_folder(tmp_path / "outputs", masks, train, test, [0, 1, 2])
    with pytest.raises(DataError, match=r"margins_test\.npy: is float32 .* has a row of 8"):
        write_outputs(tmp_path / "outputs", keys[1], masks[1], -train[1], test[1, :-1])
    assert filled_rows(tmp_path / "outputs") == {keys[0], keys[2]}
    np.testing.assert_array_equal(OutputTable.load(tmp_path / "outputs").margins_train, train[[0, 2]])


def test_npy_files_are_opened_by_path(tmp_path, arrays):
    masks, train, test = arrays
    for name, array in (("masks", masks), ("test", test), ("train", train)):
        np.save(tmp_path / f"{name}.npy", array)
    table = OutputTable.from_files(tmp_path / "masks.npy", tmp_path / "test.npy")
    np.testing.assert_array_equal(influence(table), influence(OutputTable.from_arrays(masks, test)))
    with pytest.raises(DataError, match="no margins on the training set"):
        memorization(table)
    names = [f"run-{number}" for number in range(RUNS)]
    whole = OutputTable.from_files(tmp_path / "masks.npy", str(tmp_path / "test.npy"), tmp_path / "train.npy", names)
    np.testing.assert_array_equal(whole.margins_train, train)
    assert whole.keys == tuple(names)


@pytest.mark.parametrize("packed", [False, True])
def test_masks_and_margins_of_some_runs_and_examples(tmp_path, arrays, packed):
    masks, train, test = arrays
    if packed:
        write_folder(tmp_path / "outputs", *arrays, range(RUNS))
        table = OutputTable.load(tmp_path / "outputs")
    else:
        table = OutputTable.from_arrays(masks, test, train)
    some = table.select_runs([30, 2, 11])
    assert some.keys == (table.keys[30], table.keys[2], table.keys[11])
    for examples in ([20, 3, 3, 8], slice(2, 19), np.arange(N) % 2 == 1, slice(0), slice(8, 16)):
        index = np.arange(N)[examples]
        np.testing.assert_array_equal(some.mask([2, 0], examples), masks[np.ix_([11, 30], index)])
        np.testing.assert_array_equal(some.margins("train", examples), train[np.ix_([30, 2, 11], index)])
    np.testing.assert_array_equal(some.margins_test, test[[30, 2, 11]])


def test_estimates_are_differences_of_means_with_their_errors(arrays, table):
    masks, train, test = arrays
    estimate, error = differences(masks, train)
    np.testing.assert_allclose(memorization(table), estimate.diagonal(), rtol=1e-5)
    np.testing.assert_allclose(memorization_error(table), error.diagonal(), rtol=1e-5)
    estimate, error = differences(masks, test)
    np.testing.assert_allclose(influence(table), estimate, atol=1e-4)
    np.testing.assert_allclose(influence(table, dtype="float64"), estimate, rtol=1e-5)
    np.testing.assert_allclose(influence_error(table), error, rtol=1e-5)
    chosen = influence(table, [20, 4], [7, 1, 0], out=np.empty((3, 2), np.float32))
    np.testing.assert_allclose(chosen, estimate[[7, 1, 0]][:, [20, 4]], atol=1e-4)
    train_index, test_index = np.array([4, 4, 20, 0, 2]), np.array([8, 0, 0, 1, 1])
    np.testing.assert_allclose(pair_error(table, train_index, test_index), error[test_index, train_index], rtol=1e-5)


def test_an_error_is_that_of_welchs_test(arrays, table):
    masks, _, test = arrays
    inside, outside = test[masks[:, 5], 4].astype(float), test[~masks[:, 5], 4].astype(float)
    statistic = ttest_ind(inside, outside, equal_var=False).statistic
    ratio = influence(table, [5], [4], dtype="float64") / influence_error(table, [5], [4])
    assert ratio[0, 0] == pytest.approx(statistic, rel=1e-4)


def test_large_margins_lose_no_digits():
    masks, train, test = random_outputs(seed=1)
    far = OutputTable.from_arrays(masks, test.astype(np.float64) + 1e6, train.astype(np.float64) + 1e6)
    estimate, error = differences(masks, test)
    np.testing.assert_allclose(influence(far), estimate, atol=1e-4)
    np.testing.assert_allclose(influence_error(far), error, rtol=1e-4)
    np.testing.assert_allclose(memorization(far), differences(masks, train)[0].diagonal(), atol=1e-4)


@pytest.fixture(scope="module")
def large():
    """More examples of both splits than one block holds."""
    masks, train, test = random_outputs(runs=30, n=9000, m=1100, seed=2)
    masks[:, 8000] = masks[:, 5]  # equal influences, in other blocks
    return OutputTable.from_arrays(masks, test, train)


def test_pairs_are_those_of_the_matrix(large):
    labels_train, labels_test = np.arange(9000) % 7, np.arange(1100) % 7
    matrix = influence(large)
    pairs = influence_pairs(large, labels_train, labels_test, min_influence=2.5, min_memorization=2.5)
    same = labels_test[:, None] == labels_train
    expected = np.argwhere((matrix >= np.float32(2.5)) & same & (memorization(large) >= np.float32(2.5)))
    assert len(pairs) == len(expected) > 100
    assert set(zip(pairs.test_index, pairs.train_index, strict=True)) == set(map(tuple, expected))
    assert (np.diff(pairs.influence) <= 0).all()
    np.testing.assert_allclose(pairs.influence, matrix[pairs.test_index, pairs.train_index], atol=1e-4)
    np.testing.assert_array_equal(pairs.memorization, memorization(large)[pairs.train_index])
    some = slice(None, None, 40)
    expected = pair_error(large, pairs.train_index[some], pairs.test_index[some])
    np.testing.assert_array_equal(pairs.standard_error[some], expected)


@pytest.mark.parametrize("per", ["test", "train"])
def test_tops_are_those_of_the_sorted_matrix(large, per):
    matrix = influence(large)
    matrix = matrix if per == "test" else matrix.T
    top = top_influences(large, 3, per)
    ascending = np.where(np.isnan(matrix), np.inf, -matrix)
    expected = np.argsort(ascending, axis=1, kind="stable")[:, :3]
    known = ~np.isnan(matrix).all(1)
    np.testing.assert_allclose(top.influence[known], np.take_along_axis(matrix, expected, 1)[known], atol=1e-5)
    assert (top.index[known] == expected[known]).mean() > 0.999  # but for what rounding makes equal
    assert (top.index[~known] == -1).all()
    assert np.isnan(top.influence[~known]).all()


def test_of_equal_influences_the_lower_index_comes_first():
    masks, _, test = random_outputs(runs=30, n=5000, m=5, seed=3)
    masks[:, [4500, 30, 7, 4999]] = masks[:, [100]]
    test += 20 * masks[:, [100]]
    top = top_influences(OutputTable.from_arrays(masks, test), 4)
    assert top.index.tolist() == [[7, 30, 100, 4500]] * 5


def test_tops_without_an_estimate_are_none(table):
    with pytest.raises(DataError, match=f"k is 30, expected at most {N}, the number of training examples"):
        top_influences(table, 30)
    top = top_influences(table, N)
    assert (top.index[:, N - 2 :] == -1).all()
    assert np.isnan(top.influence[:, N - 2 :]).all()
    assert (np.sort(top.index[:, : N - 2]) == np.arange(2, N)).all()


def test_influence_within_classes(table):
    labels_train, labels_test = np.arange(N) % 3, np.arange(M) % 3
    for one in classwise_influence(table, labels_train, labels_test):
        np.testing.assert_allclose(one.influence.T, influence(table, one.train_index, one.test_index), atol=1e-5)


def test_lists_are_arrays_too(arrays, table):
    masks, train, test = arrays
    same = OutputTable.from_arrays(masks.tolist(), test.tolist(), train.tolist())
    np.testing.assert_allclose(influence(same), influence(table), atol=1e-5)
    np.testing.assert_allclose(memorization(same), memorization(table), atol=1e-5)


def test_arrays_that_do_not_fit_are_refused(arrays):
    masks, train, test = arrays
    for bad, message in (
        ((masks.astype(np.uint8), test), "masks"),
        ((masks[0], test), "masks"),
        ((masks, test[:-1]), "margins_test"),
        ((masks, test > 0), "margins_test"),
        ((masks, test, train[:, :-1]), "margins_train"),
        ((masks[:0], test[:0]), "no runs"),
        ((masks, test, train, ["a"] * RUNS), "twice"),
    ):
        with pytest.raises(DataError, match=message):
            OutputTable.from_arrays(*bad)


def test_a_margin_that_is_no_number_names_its_run(arrays):
    masks, _, test = arrays
    test[7, 2] = np.inf
    table = OutputTable.from_arrays(masks, test)
    with pytest.raises(DataError, match="run 7: margin inf on example 2 of test"):
        influence(table)
    influence(table.select_runs(slice(8, None)))


def test_what_cannot_be_estimated_is_refused(table):
    with pytest.raises(DataError, match="only one"):
        influence(table.select_runs([3]))
    with pytest.raises(DataError, match="only one"):
        memorization(table.select_runs([3]))
    for estimate in (memorization, influence):
        with pytest.raises(DataError, match="only 'nan'"):
            estimate(table, empty="zero")
    with pytest.raises(DataError, match="split 'validation' is not known, expected 'train' or 'test'"):
        table.margins("validation")
    with pytest.raises(DataError, match="twice"):
        table.select_runs([1, 1])


def test_a_folder_of_other_examples_is_not_written_into(tmp_path, arrays):
    masks, train, test = arrays
    write_folder(tmp_path / "outputs", *arrays, [0])
    start_outputs(tmp_path / "outputs", [f"e/0.6/{run}" for run in range(RUNS)], N, M)
    assert filled_rows(tmp_path / "outputs") == {"e/0.6/0"}
    for n, m in ((N + 1, M), (N, M + 1)):
        with pytest.raises(DataError, match=f"training and 9 test examples, not on {n} and {m}; write them elsewhere"):
            start_outputs(tmp_path / "outputs", [f"e/0.6/{run}" for run in range(RUNS)], n, m)
    with pytest.raises(DataError, match="no row for run e/0"):
        write_outputs(tmp_path / "outputs", "e/0.7/0", masks[0], train[0], test[0])
    with pytest.raises(DataError, match="row of 20"):
        write_outputs(tmp_path / "outputs", "e/0.6/1", masks[0], train[0][:-1], test[0])
    assert filled_rows(tmp_path / "outputs") == {"e/0.6/0"}


def test_a_folder_gets_rows_for_more_runs(tmp_path, arrays):
    masks, train, test = arrays
    folder, keys = tmp_path / "outputs", [f"e/0.6/{run}" for run in range(RUNS)]
    for some in (keys[10:12], keys[11:20], keys[3:4], keys[11:12]):  # that are there in part, or all; before and after
        start_outputs(folder, some, N, M)
        for key in some[:-1] or some:
            row = keys.index(key)
            write_outputs(folder, key, masks[row], train[row], test[row])
    table = OutputTable.load(folder)
    there = [3, *range(10, 19)]  # in the order of runs; run 11 was filled in when it was there already
    assert table.keys == tuple(keys[row] for row in there)
    np.testing.assert_array_equal(table.mask(), masks[there])
    np.testing.assert_array_equal(table.margins_train, train[there])
    np.testing.assert_array_equal(table.margins_test, test[there])
    with pytest.raises(DataError, match="has outputs made with"):
        start_outputs(folder, keys, N, M, {"flips": True})
    assert OutputTable.load(folder).keys == table.keys


def test_rows_that_others_fill_in_meanwhile_are_kept(tmp_path, arrays):
    masks, train, test = arrays
    folder, keys = tmp_path / "outputs", [f"e/0.6/{run}" for run in range(RUNS)]

    def fill(row):  # as a process that was told of one run does
        start_outputs(folder, [keys[row]], N, M)
        write_outputs(folder, keys[row], masks[row], train[row], test[row])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(RUNS)))
    table = OutputTable.load(folder)
    assert table.keys == tuple(keys)
    np.testing.assert_array_equal(table.margins_train, train)


def test_damaged_folders_are_told(tmp_path, arrays):
    folder = tmp_path / "outputs"
    with pytest.raises(DataError, match="there is no such folder, expected a folder of outputs"):
        OutputTable.load(folder)
    write_folder(folder, *arrays, [])
    with pytest.raises(DataError, match="no run of 40 is evaluated"):
        OutputTable.load(folder)
    np.save(folder / "margins_test.npy", np.zeros((RUNS, M + 1), np.float32))
    with pytest.raises(DataError, match=r"margins_test.npy: is float32 \(40, 10\)"):
        OutputTable.load(folder)
    (folder / "margins_test.npy").write_bytes(b"nonsense")
    remedy = "; remove that folder, and evaluate again"  # to evaluate again alone would end in the same error
    with pytest.raises(DataError, match=f"not a readable npy.*{remedy}"):
        OutputTable.load(folder)
    (folder / "margins_test.npy").unlink()
    with pytest.raises(DataError, match=f"margins_test.npy: cannot be read.*{remedy}"):
        OutputTable.load(folder)
    (folder / "outputs.json").write_text(
        '{"format_version": 7, "keys": [], "train_examples": 1, "test_examples": 1, "made_of": {}}'
    )
    with pytest.raises(DataError, match="format version 7"):
        OutputTable.load(folder)
    (folder / "outputs.json").write_text("[]")
    with pytest.raises(DataError, match="holds no outputs"):
        OutputTable.load(folder)
