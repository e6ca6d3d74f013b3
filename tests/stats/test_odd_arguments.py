"""What people pass by mistake, or as another kind of array, to functions of statistics: one line, or the same numbers.

Also of stats/arguments.py.
"""

from types import MappingProxyType

import numpy as np
import pytest
import torch

from heldout_torch import DataError, HeldoutError
from heldout_torch.stats import (
    ExampleFacts,
    InfluencePairs,
    OutputTable,
    RunTable,
    Scores,
    accuracy_by_ratio,
    accuracy_columns,
    brittleness,
    class_summary,
    classwise_influence,
    consistency,
    datamodels,
    false_discovery_rate,
    find_facts,
    group_influence,
    histogram,
    influence,
    influence_pairs,
    keep_indices,
    lds,
    load_published,
    load_published_indices,
    memorization,
    memorization_scores,
    mislabel_auc,
    original_index,
    pair_agreement,
    pair_error,
    pair_p_values,
    reliability,
    removal_curves,
    run_accuracies,
    save_classwise,
    save_indices,
    save_scores,
    score_agreement,
    to_original,
    to_published,
    top_influences,
    write_pairs,
    write_scores,
)
from heldout_torch.stats.output_files import start_outputs
from tests.stats.reference import random_runs

MASKS, CORRECT, CORRECT_TEST = random_runs(80, 10, 6, seed=0)
MARGINS = CORRECT_TEST + np.random.default_rng(1).normal(0, 1, CORRECT_TEST.shape)
BITS = RunTable.from_arrays(MASKS, CORRECT, CORRECT_TEST, mix_ratios=True)
OUTPUTS = OutputTable.from_arrays(MASKS, MARGINS, CORRECT + 0.5)
SCORES = np.random.default_rng(2).integers(-99, 99, (6, 10)) / 8  # whose sums are exact in any order

# Functions of an array of numbers, by the shape that they take.
OF_ROWS = [histogram, false_discovery_rate, lambda row: keep_indices(row, 0.5), lambda row: score_agreement(row, row),
           lambda row: mislabel_auc(row, np.arange(10) < 3), lambda row: to_original(row, np.arange(10)),
           lambda row: to_published(row, np.arange(10))]  # fmt: skip
OF_INDICES = [BITS.select_runs, BITS.mask, BITS.who_trained_on, OUTPUTS.mask,
              lambda some: OUTPUTS.margins("test", some),
              lambda some: influence(BITS, some), lambda some: influence(OUTPUTS, None, some),
              lambda some: pair_error(BITS, some, some), lambda some: pair_error(OUTPUTS, some, some),
              lambda some: pair_p_values(BITS, some, some), lambda some: datamodels(OUTPUTS, some).weights]  # fmt: skip
OF_MATRICES = [lambda matrix: lds(matrix, OUTPUTS, resamples=1).correlation]
OF_LABELS = [lambda labels: class_summary(BITS, labels, np.arange(6)).influence,
             lambda labels: removal_curves(BITS, np.reshape(labels, (1, -1)), [0]).outcome,
             lambda labels: to_original(np.arange(10), labels)]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(3, requires_grad=True),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, device="meta"),  # as of a GPU, it has no numbers in this machine's memory
        torch.eye(3).to_sparse(),
        [[1, 2], [3]],
        np.ma.array([1, 2, 0], mask=[True, False, False]),
    ],
    ids=["grad", "bfloat16", "elsewhere", "sparse", "ragged", "masked"],
)
def test_what_is_no_array_is_one_line(wrong):
    calls = [*OF_ROWS, *OF_INDICES, *OF_MATRICES, *OF_LABELS[::2], lambda it: removal_curves(BITS, it)]
    calls += [lambda it: OutputTable.from_arrays(it, MARGINS), lambda it: OutputTable.from_arrays(MASKS, it)]
    calls += [lambda it: OutputTable.from_arrays(MASKS, MARGINS, it), lambda it: RunTable.from_arrays([it], [it], [it])]
    calls += [lambda it: lds(lambda test: it, OUTPUTS), lambda it: reliability(BITS, lambda half: it)]
    calls += [
        lambda it: mislabel_auc(np.ones(3), it),
        lambda it: save_scores("scores.npz", Scores(it, order="original")),
    ]
    calls += [lambda it: save_indices("indices.npz", it, "published")]
    for call in calls:
        with pytest.raises(DataError) as error:
            call(wrong)
        assert "\n" not in str(error.value)


def test_one_number_selects_one():
    calls = [
        BITS.mask,
        lambda some: BITS.correct("test", some),
        OUTPUTS.mask,
        lambda some: OUTPUTS.margins("test", some),
    ]
    calls += [lambda some: influence(BITS, some), lambda some: influence(OUTPUTS, None, some)]
    calls += [lambda some: group_influence(BITS, some), lambda some: BITS.select_runs(some).mask(), BITS.who_trained_on]
    calls += [
        lambda some: datamodels(OUTPUTS, some).weights,
        lambda some: lds(SCORES[:1], OUTPUTS, test=some).correlation,
    ]
    for call in calls:
        for one in (3, np.int64(3), np.array(3), torch.tensor(3)):
            np.testing.assert_array_equal(call(one), call([3]))
        for wrong in (-1, 10**6, True, 3.0, "3.0"):
            with pytest.raises(DataError):
                call(wrong)
    pairs = influence_pairs(BITS, same_class=False, min_influence=-1, min_memorization=None)
    for call in (list, lambda pairs: pairs[0]):  # a loop over pairs would not know where to end
        with pytest.raises(DataError, match=r"such as pairs\[\[0\]\]"):
            call(pairs)


def test_folders_of_something_else_are_answered_by_what_lies_in_them(tmp_path):
    zoo = tmp_path / "ZOO"
    (zoo / "e" / "0.7" / "0").mkdir(parents=True)
    for folder in (zoo, zoo / "e", zoo / "e" / "0.7"):
        with pytest.raises(
            DataError, match=f"{folder}: holds no outputs, for it has no outputs.json; `heldout evaluate"
        ):
            OutputTable.load(folder)
        with pytest.raises(
            DataError, match=r"holds no run table, for it has no table\.json; RunTable.from_zoo makes one"
        ):
            RunTable.load(folder)
    for ratio in ("0.5", "0.7"):
        start_outputs(zoo / "e" / ratio / "outputs", [f"e/{ratio}/0"], 4, 2)
        BITS.save(zoo / "tables" / "e" / ratio)
    there = f"there are outputs in {zoo}/e/0.5/outputs or {zoo}/e/0.7/outputs$"
    for folder in (zoo, zoo / "e"):
        with pytest.raises(DataError, match=there):
            OutputTable.load(folder)
    with pytest.raises(DataError, match=f"there are outputs in {zoo}/e/0.7/outputs$"):
        OutputTable.load(zoo / "e" / "0.7")
    with pytest.raises(DataError, match=f"there are run tables in {zoo}/tables/e/0.5 or {zoo}/tables/e/0.7$"):
        RunTable.load(zoo)
    for ratio in ("0.1", "0.2"):
        start_outputs(zoo / "e" / ratio / "outputs", [f"e/{ratio}/0"], 4, 2)
    with pytest.raises(DataError, match=f"there are outputs in {zoo}/e/0.1/outputs, .*/0.5/outputs or 1 more$"):
        OutputTable.load(zoo)


def kinds(array, folder):
    """The same numbers in other memory: of another byte order, not contiguous, read-only, mapped, a tensor, a list."""
    yield array.astype(array.dtype.newbyteorder(">"))
    yield np.repeat(array, 2, axis=-1)[..., ::2]
    yield array[..., ::-1].copy()[..., ::-1]
    yield np.asfortranarray(array)
    np.save(folder / "array.npy", array)
    yield np.load(folder / "array.npy", mmap_mode="r")
    yield torch.from_numpy(array)
    yield array.tolist()
    yield np.ma.array(array)  # with nothing masked
    if array.dtype.kind == "i":
        yield array.astype(np.uint64)
        yield array.astype(np.int8)


@pytest.mark.parametrize(
    ("functions", "array"),
    [
        (OF_ROWS, np.random.default_rng(3).random(10)),
        (OF_INDICES, np.array([4, 0, 3])),
        (OF_MATRICES, SCORES),
        (OF_LABELS, np.random.default_rng(4).permutation(10)),
    ],
    ids=["rows", "indices", "matrices", "labels"],
)
def test_the_same_numbers_in_other_memory_give_the_same(functions, array, tmp_path):
    for function in functions:
        expected = function(array)
        for other in kinds(array, tmp_path):
            found = function(other)
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(found, expected)
            elif isinstance(expected, RunTable):
                assert found.keys == expected.keys
            else:
                assert repr(found) == repr(expected)


def test_tables_of_arrays_in_other_memory_are_the_same(tmp_path):
    folders = [tmp_path / name for name in ("masks", "margins")]
    for folder in folders:
        folder.mkdir()
    for masks, margins in zip(kinds(MASKS, folders[0]), kinds(MARGINS, folders[1]), strict=True):
        table = OutputTable.from_arrays(masks, margins)
        np.testing.assert_array_equal(influence(table), influence(OUTPUTS))
        np.testing.assert_array_equal(lds(SCORES, table).correlation, lds(SCORES, OUTPUTS).correlation)
        np.testing.assert_allclose(datamodels(table).weights, datamodels(OUTPUTS).weights)
        bits = RunTable.from_arrays(masks, masks, CORRECT_TEST, mix_ratios=True)
        np.testing.assert_array_equal(influence(bits), influence(BITS))


def test_a_word_of_several_is_text():
    """An array is compared element by element, and lists have no hash."""
    calls = [BITS.correct, OUTPUTS.margins, lambda it: memorization(BITS, it), lambda it: influence(OUTPUTS, empty=it)]
    calls += [
        lambda it: influence(OUTPUTS, dtype=it),
        lambda it: influence(BITS, dtype=it),
        lambda it: consistency(BITS, it),
    ]
    calls += [lambda it: top_influences(BITS, 2, it), lambda it: BITS.who_trained_on([1], it)]
    calls += [lambda it: datamodels(OUTPUTS, [0], it), load_published, lambda it: find_facts("cifar10", it, 10)]
    calls += [lambda it: find_facts("mine", it, 10)]
    calls += [lambda it: find_facts(None if isinstance(it, str) else it, "train", 10)]  # any text names a data set
    calls += [lambda it: RunTable.from_zoo(None, it, 0.7)]
    for call in calls:
        for wrong in (np.arange(3), np.arange(10) < 3, [0, 1], None, "tran", 3):
            with pytest.raises(
                HeldoutError, match=r"expected|is not a published file|is not known|are not in"
            ) as error:
                call(wrong)
            assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="per is 'tran', expected 'test' or 'train'; did you mean 'train'"):
        top_influences(BITS, 2, "tran")


def test_results_of_other_functions_are_asked_for_by_name():
    pairs = InfluencePairs(*np.zeros((2, 0), int), *np.zeros((3, 0), np.float32))
    scores, facts = Scores(np.zeros(10, np.float32)), ExampleFacts(10)
    for call, expected in (
        (lambda it: pair_agreement(it, pairs), "expected InfluencePairs"),
        (lambda it: pair_agreement(pairs, it), "expected InfluencePairs"),
        (accuracy_by_ratio, "expected ConsistencyScores"),
        (lambda it: accuracy_columns({0.5: it}), "expected Accuracies"),
        (lambda it: brittleness(it, 0.5), "expected RemovalCurves"),
        (lambda it: reliability(BITS, it), "expected a function"),
        (lambda it: original_index(it, "train"), "expected a data set"),
        (lambda it: RunTable.from_aux([it]), "expected AuxArrays"),
        (lambda it: memorization_scores(BITS, it), "expected ExampleFacts"),
        (lambda it: write_scores("s.csv", it, facts), "expected Scores"),
        (lambda it: write_scores("s.csv", scores, it), "expected ExampleFacts"),
        (lambda it: write_pairs("p.csv", it, facts, facts), "expected InfluencePairs"),
        (lambda it: write_pairs("p.csv", pairs, facts, it), "expected ExampleFacts"),
    ):
        for wrong in (None, "memorization", BITS, np.zeros(10), {}):
            with pytest.raises(DataError, match=expected):
                call(wrong)
    for wrong in (3, np.array(3), BITS):
        with pytest.raises(DataError, match="expected a list of AuxArrays"):
            RunTable.from_aux(wrong)
        with pytest.raises(DataError, match="expected a list of names"):
            RunTable.from_arrays(MASKS, CORRECT, CORRECT_TEST, wrong, mix_ratios=True)
    for wrong in (None, "influence", BITS, [np.eye(3)]):
        with pytest.raises(DataError, match=r"m\.npz: given \w+, expected (Iterable|ClassInfluence)"):
            save_classwise("m.npz", wrong, np.arange(3), np.arange(3), np.zeros(3))
    with pytest.raises(DataError, match="accuracies: given RunTable"):
        accuracy_columns(BITS)
    assert accuracy_columns(MappingProxyType({0.5: run_accuracies(BITS)}))["runs"].tolist() == [80]


def test_names_of_runs_are_a_tuple_of_text():
    """`select_runs` would not find others by name."""
    arrays = BITS.packed_trained_on, BITS.packed_correct_train, BITS.packed_correct_test
    for keys in (list(BITS.keys), tuple(range(80)), np.array(BITS.keys), (key for key in BITS.keys)):
        with pytest.raises(DataError, match=r"keys are not a tuple of names"):
            RunTable(keys, *arrays)


def test_original_indices_are_mapped_by_an_order(tmp_path):
    """A row of another length or with a position twice would leave what lay in memory."""
    save_indices(tmp_path / "indices.npz", [2, 0], "original")
    assert load_published_indices(tmp_path / "indices.npz", 3, [1, 2, 0]).tolist() == [1, 2]
    for order in ([0, 1], [0, 0, 1], [0, 1, 3], [0.0, 1.0, 2.0], None, 3, "abc"):
        with pytest.raises(DataError):
            load_published_indices(tmp_path / "indices.npz", 3, order)
    for examples in (None, "3", [3], 3.0):
        with pytest.raises(DataError, match="examples is"):
            load_published_indices(tmp_path / "indices.npz", examples, [1, 2, 0])


@pytest.mark.parametrize("wrong", [3, 0, True, b"table", None])
def test_a_number_is_no_path(wrong):
    """`open(1)` is standard output, and closes it."""
    for call in (RunTable.load, OutputTable.load, lambda it: find_facts("cifar10", "train", 10, [it])):
        with pytest.raises(DataError, match="is not a path"):
            call(wrong)


def test_seeds_are_integers():
    """NumPy takes anything for a seed, and `numpy.matrix` ends the process."""
    for seed in (None, [1, 2], np.matrix([[0, 1]]), True, "1"):
        with pytest.raises(DataError, match=r"seed is .* expected a number from 0"):
            lds(SCORES, OUTPUTS, seed=seed)
    assert lds(SCORES, OUTPUTS, seed=2**70).interval == lds(SCORES, OUTPUTS, seed=2**70).interval


def test_labels_of_two_splits_compare_as_integers():
    """NumPy compares int64 with uint64 as floats, which are the same for labels that are not."""
    large = 2**53 + 1
    labels = np.full(10, large, np.uint64), np.full(6, large, np.int64)
    assert [one.label for one in classwise_influence(BITS, *labels)] == [large]
    assert class_summary(BITS, *labels).labels.tolist() == [large]
    others = labels[0], np.full(6, large - 1, np.int64)
    assert class_summary(BITS, *others).labels.tolist() == [large - 1, large]
    assert len(influence_pairs(BITS, *others, -1, None)) == 0 < len(influence_pairs(BITS, *labels, -1, None))
    with pytest.raises(DataError, match=r"labels_test has a label 9223372036854775808, expected numbers below 2\*\*63"):
        class_summary(BITS, labels[0], np.full(6, 2**63, np.uint64))


def test_sums_of_scores_that_are_infinite_are_no_ties():
    with pytest.raises(DataError, match="sums of scores of test example 4 are infinite"):
        lds(np.where(np.arange(6)[:, None] == 4, 1e308, SCORES), OUTPUTS)
    large = np.ldexp(SCORES.astype(np.float32), 124)  # sums that float32 cannot hold
    np.testing.assert_array_equal(lds(large, OUTPUTS).correlation, lds(SCORES.astype(np.float32), OUTPUTS).correlation)


@pytest.mark.parametrize("margin", [1e300, -1e31, np.nextafter(np.float32(1e30), np.float32(2e30)), np.inf, np.nan])
def test_margins_whose_sums_are_infinite_are_refused(margin):
    """The influence of all of them would be NaN, in silence."""
    margins = MARGINS.astype(getattr(margin, "dtype", float))
    margins[7, 2] = margin
    table = OutputTable.from_arrays(MASKS, margins)
    for call in (influence, top_2, datamodels, lambda table: lds(SCORES, table)):
        with pytest.raises(DataError, match=r"run 7: margin .* on example 2 of test, expected a finite"):
            call(table)
    margins[7, 2] = 1e30
    assert np.isfinite(influence(OutputTable.from_arrays(MASKS, margins))[:, 3:]).any()
    half = OutputTable.from_arrays(MASKS, MARGINS.astype(np.float16))
    np.testing.assert_allclose(influence(half), influence(OUTPUTS), atol=0.01)


def top_2(table):
    return top_influences(table, 2)


def test_text_is_no_number_and_none_is_no_name():
    with pytest.raises(DataError, match=r"is '0\.6', expected"):
        influence_pairs(BITS, None, None, "0.6", same_class=False)
    for call in (lambda it: consistency({it: BITS}), lambda it: accuracy_columns({it: run_accuracies(BITS)})):
        with pytest.raises(DataError, match="is 'half', expected"):
            call("half")
    for keys in ([None] * 80, [b"a"] * 80, np.arange(80).astype("S")):
        with pytest.raises(DataError, match=r"keys hold .* expected a list of names"):
            RunTable.from_arrays(MASKS, CORRECT, CORRECT_TEST, keys, mix_ratios=True)
