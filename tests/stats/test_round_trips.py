"""What is written, read and written again is the same to the byte, and what could not be read again is not written.

Also of stats/result_tables.py.
"""

from dataclasses import replace

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from heldout_torch import DataError
from heldout_torch.stats import (
    ClasswiseInfluence,
    ExampleFacts,
    RunTable,
    Scores,
    classwise_influence,
    influence_pairs,
    load_classwise,
    load_imagenet_memorization,
    load_indices,
    load_pairs,
    load_scores,
    memorization,
    memorization_scores,
    save_classwise,
    save_imagenet_index,
    save_indices,
    save_pairs,
    save_scores,
    write_pairs,
    write_scores,
)
from tests.stats.reference import random_runs

N, M = 12, 7
LABELS = np.arange(N) % 3, np.arange(M) % 3
TABLE = RunTable.from_arrays(*random_runs(70, N, M, seed=0), mix_ratios=True)
PAIRS = influence_pairs(TABLE, *LABELS, min_influence=0.0, min_memorization=None)
NAMES = np.array([f"n{i}.JPEG" for i in range(N)])
VALUES = np.random.default_rng(0).random(N)


def classes(change=lambda one: one, level=None):
    found = [change(one) for one in classwise_influence(TABLE, *LABELS, level=level)]
    return ClasswiseInfluence(found, *LABELS, memorization(TABLE), "original")


def save_classes(path, found):
    rows = found.labels_train, found.labels_test, found.memorization
    save_classwise(path, found.classes, *rows, found.order)


def comes_back(folder, save, load, given):
    """Save, load and save again; the two files have the same bytes. Returns what is loaded of the second."""
    save(folder / "one", given)
    save(folder / "other", load(folder / "one"))
    assert (folder / "one").read_bytes() == (folder / "other").read_bytes()
    return load(folder / "other")


@pytest.mark.parametrize(
    "scores",
    [
        Scores(VALUES, order="original"),
        Scores(VALUES.astype(np.float16), LABELS[0].astype(np.uint8), order="published"),
        Scores(VALUES.astype(">f8"), LABELS[0].astype(">i4"), order="original"),
        Scores(np.repeat(VALUES, 2)[::2], filenames=NAMES, order="published"),
        Scores(np.broadcast_to(0.5, N), filenames=NAMES.astype("S"), order="published"),
        Scores(VALUES.tolist(), LABELS[0].tolist(), NAMES.tolist(), order="original"),
        Scores(np.where(VALUES > 0.5, np.nan, VALUES), LABELS[0], NAMES, VALUES, VALUES, VALUES, "published"),
        Scores(VALUES[:0], order="original"),
    ],
)
def test_scores(tmp_path, scores):
    back = comes_back(tmp_path, save_scores, load_scores, scores)
    np.testing.assert_array_equal(back.scores, scores.scores)


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        PAIRS[::-2],
        PAIRS[:0],
        replace(PAIRS, influence=PAIRS.influence.astype(">f8"), train_index=PAIRS.train_index.astype(">u2")),
        replace(PAIRS, standard_error=np.full(len(PAIRS), np.nan), low=None, high=None, p_value=None, order="original"),
    ],
)
def test_pairs(tmp_path, pairs):
    back = comes_back(tmp_path, save_pairs, load_pairs, pairs)
    np.testing.assert_array_equal(back.influence, pairs.influence)


@pytest.mark.parametrize(
    "found",
    [
        classes(),
        classes(level=0.9),
        replace(classes(), order="published"),
        classes(lambda one: replace(one, influence=np.asfortranarray(one.influence).astype(">f4"))),
        replace(classes(), labels_train=LABELS[0].tolist(), labels_test=LABELS[1].astype(np.uint8)),
    ],
)
def test_matrices_of_classes(tmp_path, found):
    back = comes_back(tmp_path, save_classes, load_classwise, found)
    for one, loaded in zip(found.classes, back.classes, strict=True):
        np.testing.assert_array_equal(loaded.influence, one.influence)


def same(one, other):
    """Whether all fields are the same, of the same types."""
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        assert getattr(other, name) is value or value is not None, name
        if isinstance(value, np.ndarray):
            assert getattr(other, name).dtype == value.dtype, name
            np.testing.assert_array_equal(getattr(other, name), value)
        else:
            assert getattr(other, name) == value, name


FACTS = [
    ExampleFacts(N),
    ExampleFacts(N, np.random.default_rng(1).permutation(N), LABELS[0]),
    ExampleFacts(N, np.random.default_rng(2).permutation(N), LABELS[0], NAMES),
]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("train", FACTS)
def test_tables_are_read_as_the_npz_file_that_is_written_beside_them(tmp_path, train, suffix):
    test = ExampleFacts(M, None if train.original_index is None else np.arange(M)[::-1], LABELS[1])
    scores = memorization_scores(TABLE, train)
    assert np.isnan(scores.standard_error).any() or scores.scores.dtype == np.float32
    for given in (scores, replace(scores, scores=np.where(VALUES > 0.5, np.nan, VALUES), standard_error=None)):
        for ending in (suffix, ".npz"):
            write_scores(tmp_path / f"scores{ending}", given, train)
        same(load_scores(tmp_path / "scores.npz"), load_scores(tmp_path / f"scores{suffix}"))
    for given in (PAIRS, PAIRS[:0], replace(PAIRS, standard_error=np.full_like(PAIRS.influence, np.nan), low=None)):
        for ending in (suffix, ".npz"):
            write_pairs(tmp_path / f"pairs{ending}", given, train, test)
        same(load_pairs(tmp_path / "pairs.npz"), load_pairs(tmp_path / f"pairs{suffix}"))


def test_rows_of_scores_may_come_in_any_order_and_a_data_frame_is_read_back(tmp_path):
    facts = FACTS[2]
    scores = Scores(VALUES, facts.labels, NAMES, order="published")
    write_scores(tmp_path / "scores.csv", scores, facts)
    frame = pandas.read_csv(tmp_path / "scores.csv", float_precision="round_trip").sort_values("score")
    frame.to_csv(tmp_path / "sorted.csv")
    same(load_scores(tmp_path / "scores.csv"), load_scores(tmp_path / "sorted.csv"))
    for order in ("original", "published", None):
        replace(scores, order=order).to_pandas().to_parquet(tmp_path / "frame.parquet")
        same(replace(scores, order=order), load_scores(tmp_path / "frame.parquet"))
        replace(PAIRS, order=order).to_pandas().to_csv(tmp_path / "frame.csv", index=False)
        assert load_pairs(tmp_path / "frame.csv").order == order
    frame[:5].to_csv(tmp_path / "some.csv")
    with pytest.raises(DataError, match=r"some\.csv: expected a row for each example; the order of 5 examples"):
        load_scores(tmp_path / "some.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score\n1\n", "has no column original_index or published_index"),
        ("original_index\n0\n", "has no column score"),
        ("original_index,score\n0,high\n", "cannot be read as a table .could not convert"),
        ("original_index,score\n0\n", "a row of 1 fields, expected 2"),
        ("original_index,score\n0.5,1\n", "cannot be read as a table"),
        ("original_index,score,filename\n0,1," + "n" * 200, "a text of 200 letters, expected at most 120"),
        ("", "has no column"),
    ],
)
def test_tables_of_scores_that_cannot_be_read_say_why(tmp_path, text, message):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(DataError, match=rf"scores\.csv: .*{message}"):
        load_scores(tmp_path / "scores.csv")


def test_tables_of_pairs_that_cannot_be_read_say_why(tmp_path):
    path = tmp_path / "pairs.parquet"
    good = {"train_original_index": [1], "test_original_index": [2], "influence": [0.5], "memorization": [0.5]}
    pandas.DataFrame(good).to_parquet(path)
    assert len(load_pairs(path)) == 1
    for change, message in (
        ({"train_original_index": [1.0]}, "column train_original_index holds other than integers"),
        ({"test_original_index": ["2"]}, "column test_original_index holds other than integers"),
        ({"influence": [1]}, "column influence holds other than floats"),
        ({"train_original_index": [-1]}, "indices outside"),
        (
            {"train_original_index": np.array([2**63], np.uint64)},
            "column train_original_index holds 9223372036854775808, expected numbers below 2.63",
        ),
        ({"test_original_index": np.array([2**31], np.uint64)}, "indices outside"),
    ):
        pandas.DataFrame(good | change).to_parquet(path)
        with pytest.raises(DataError, match=message):
            load_pairs(path)
    pandas.DataFrame({name: good[name] for name in list(good)[:3]}).to_parquet(path)
    with pytest.raises(DataError, match="has no column memorization"):
        load_pairs(path)
    pandas.DataFrame({name: good[name] for name in list(good)[1:]}).to_parquet(path)
    with pytest.raises(DataError, match="has no column train_original_index and test_original_index or train_pub"):
        load_pairs(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as a table"):
        load_pairs(path)


def test_tables_of_more_rows_than_any_data_set_has_are_refused_before_they_are_read(tmp_path):
    column = pyarrow.repeat("a.JPEG", 2**21 + 1)  # all the same, which takes a few kilobytes
    pyarrow.parquet.write_table(pyarrow.table({"filename": column}), tmp_path / "many.parquet")
    assert (tmp_path / "many.parquet").stat().st_size < 10**5
    (tmp_path / "many.csv").write_text("filename\n" + "a\n" * (2**21 + 1))
    for suffix in (".parquet", ".csv"):
        with pytest.raises(DataError, match=r"cannot be read as a table \(it has more than 2097152 rows"):
            load_scores(tmp_path / f"many{suffix}")
    (tmp_path / "wide.csv").write_text("original_index,score,filename\n0,1," + "n" * 2**16)
    with pytest.raises(DataError, match="a line of 65536 letters or more"):
        load_scores(tmp_path / "wide.csv")


def test_tables_of_pairs_and_of_scores_are_not_taken_for_each_other(tmp_path):
    for suffix in (".csv", ".parquet"):
        write_scores(tmp_path / f"scores{suffix}", Scores(VALUES, order="published"), FACTS[0])
        write_pairs(tmp_path / f"pairs{suffix}", PAIRS, FACTS[0], ExampleFacts(M))
        with pytest.raises(DataError, match=rf"pairs\{suffix}: holds pairs, not scores"):
            load_scores(tmp_path / f"pairs{suffix}")
        with pytest.raises(DataError, match=rf"scores\{suffix}: holds scores, not pairs"):
            load_pairs(tmp_path / f"scores{suffix}")


def test_an_npz_file_of_other_statistics_is_named(tmp_path):
    readers = {"scores": load_scores, "pairs": load_pairs, "class-wise influence": load_classwise}
    arrays = {"scores": ["scores"], "pairs": ["infl", "mem"], "class-wise influence": ["infl_matrix_class7", "tr_mem"]}
    for held, names in arrays.items():
        np.savez(tmp_path / "file.npz", **{name: np.zeros(2) for name in names})
        for wanted, read in readers.items():
            if wanted != held:
                with pytest.raises(DataError, match=rf"file\.npz: holds {held}, not {wanted}"):
                    read(tmp_path / "file.npz")


@pytest.mark.parametrize("indices", [[5, 1, 3], range(4), np.array([7, 2], ">u4"), [], np.zeros(0, int)])
def test_indices(tmp_path, indices):
    save_indices(tmp_path / "one", indices, "published")
    loaded, order = load_indices(tmp_path / "one")
    save_indices(tmp_path / "other", loaded, order)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert loaded.tolist() == list(indices)


def test_run_tables(tmp_path):
    TABLE.save(tmp_path / "one")
    RunTable.load(tmp_path / "one").save(tmp_path / "other")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def of_label(label):
    """The same matrices with labels -1 or others that the names of arrays have no room for."""
    labels = [np.where(labels == 2, label, labels) for labels in LABELS]
    found = list(classwise_influence(TABLE, *labels))
    return ClasswiseInfluence(found, *labels, memorization(TABLE), "published")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (of_label(-1), "label -1 cannot be written"),
        (of_label(10**9), "label 1000000000 cannot be written"),
        (classes(lambda one: replace(one, influence=one.influence.T)), r"infl_matrix_class0 is float32 \(3, 4\)"),
        (classes(lambda one: replace(one, low=one.influence[:1])), "infl_low_class0 is"),
        (classes(lambda one: replace(one, train_index=one.train_index + 1)), "does not name the examples of label 0"),
        (replace(classes(), labels_train=None), "tr_labels is object"),
        (replace(classes(), labels_test=LABELS[1] * 1.0), "tt_labels is float64"),
        (replace(classes(), memorization=None), "tr_mem is object"),
        (replace(classes(), memorization=VALUES[:3]), "expected a row of floats of length 12"),
    ],
)
def test_matrices_that_could_not_be_read_again_are_not_written(tmp_path, found, message):
    with pytest.raises(DataError, match=message):
        save_classes(tmp_path / "one", found)
    assert not list(tmp_path.iterdir())


def test_an_index_of_imagenet_is_of_rows_of_one_length(tmp_path):
    names, labels, values = ["a.JPEG", "b.JPEG"], np.arange(2), VALUES[:2]
    for change, message in (
        ({0: ["ü.JPEG", "b.JPEG"]}, "is not ASCII text"),
        ({0: ["a.JPEG"]}, "tr_labels is int64"),
        ({0: None}, "tr_filenames is object"),
        ({3: [1, 2]}, "tt_filenames is int64"),
        ({4: np.array([1, None])}, "tt_labels is object"),
        ({2: VALUES}, "tr_mem is float64"),
    ):
        arguments = [names, labels, values, names, labels]
        for place, wrong in change.items():
            arguments[place] = wrong
        with pytest.raises(DataError, match=message):
            save_imagenet_index(tmp_path / "index.npz", *arguments)
    save_imagenet_index(tmp_path / "index.npz", names, labels, values, names, labels)
    np.testing.assert_array_equal(load_imagenet_memorization(tmp_path / "index.npz"), values)


def test_what_is_no_result_is_not_written(tmp_path):
    for save, wrong, message in (
        (save_scores, VALUES, "given ndarray, expected Scores, such as Scores\\(values, order='published'\\)"),
        (save_pairs, VALUES, "given ndarray, expected InfluencePairs"),
        (save_scores, Scores(None), "scores is object"),
        (save_scores, Scores(VALUES), "would not say how it counts examples; give what is written order='published'"),
        (save_pairs, replace(PAIRS, order=None), "would not say how it counts examples"),
        (save_classes, replace(classes(), order=None), "would not say how it counts examples"),
        (lambda path, wrong: save_indices(path, wrong, None), [1], "order is 'None', expected 'original'"),
    ):
        with pytest.raises(DataError, match=message):
            save(tmp_path / "one", wrong)
    assert not list(tmp_path.iterdir())


def test_files_are_named_as_people_write_them(tmp_path):
    save_pairs(tmp_path / "pairs.npz", PAIRS)
    save_classes(tmp_path / "classes.npz", classes())
    for load, name in ((load_pairs, "pairs.npz"), (load_classwise, "classes.npz")):
        load(f"file://{tmp_path}/{name}")
        load(f" '{tmp_path}/{name}' ")
        for wrong, message in (("https://server/x.npz", "is a URL"), (None, "None is not a path")):
            with pytest.raises(DataError, match=message):
                load(wrong)
