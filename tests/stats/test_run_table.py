"""Run tables: what goes in comes out, and bad input is refused by the names of the runs.

Also of stats/counting/bits.py, stats/counting/packing.py, stats/joining.py, stats/table_files.py, stats/table_rows.py,
stats/who_trained_on.py.
"""

import subprocess
import sys

import numpy as np
import pytest

from heldout_torch import AuxArrays, DataError, ZooError, load_run
from heldout_torch.cli import main
from heldout_torch.stats import OutputTable, RunTable, influence, memorization
from heldout_torch.stats.counting import bits
from heldout_torch.stats.counting.bits import unpack
from heldout_torch.zoo import RunKey, sample_zoo
from heldout_torch.zoo.open import open_zoo
from tests.helpers.server import Server
from tests.stats.reference import random_runs

ARRAYS = ("trained_on", "correct_train", "correct_test")


def assert_holds(table, arrays):
    for name, expected in zip(ARRAYS, arrays, strict=True):
        words = getattr(table, f"packed_{name}")
        assert words.dtype == np.uint64
        np.testing.assert_array_equal(unpack(words, 64 * words.shape[1])[:, : table.runs].T, expected)
        assert not unpack(words, 64 * words.shape[1])[:, table.runs :].any()  # bits behind the last run


def aux_of(trained_on, correct_train, correct_test, seed=0):
    rng = np.random.default_rng(seed)
    index_train, index_removed = rng.permutation(np.flatnonzero(trained_on)), np.flatnonzero(~trained_on)
    index_test = rng.permutation(len(correct_test))
    return AuxArrays(
        correctness_train=correct_train[index_train].astype(np.float32),
        correctness_removed=correct_train[index_removed].astype(np.float32),
        correctness_test=correct_test[index_test].astype(np.float32),
        index_train=index_train,
        index_removed=index_removed,
        index_test=index_test,
        subsample_idx=np.sort(index_train),
    )


@pytest.mark.parametrize("runs", [1, 7, 8, 63, 64, 65, 128, 200])
def test_table_holds_the_bits_of_its_arrays(runs):
    arrays = random_runs(runs, 37, 11, seed=runs)
    table = RunTable.from_arrays(*arrays, mix_ratios=True)
    assert (table.runs, table.train_examples, table.test_examples) == (runs, 37, 11)
    assert_holds(table, arrays)
    np.testing.assert_array_equal(table.subset_sizes, arrays[0].sum(1))
    assert table.subset_ratio == pytest.approx(arrays[0].mean())


def test_numbers_0_and_1_are_taken_for_bits():
    arrays = random_runs(5, 37, 11, seed=0)
    numbers = [array.astype(dtype) for array, dtype in zip(arrays, (np.uint8, np.int64, np.float32), strict=True)]
    assert_holds(RunTable.from_arrays(*numbers, mix_ratios=True), arrays)


def test_table_from_aux_arrays_goes_by_their_indices():
    arrays = random_runs(70, 37, 11, seed=0)
    aux = (aux_of(*rows, seed=r) for r, rows in enumerate(zip(*arrays, strict=True)))
    assert_holds(RunTable.from_aux(aux, mix_ratios=True), arrays)


def test_table_from_a_zoo_reads_the_runs_of_one_ratio():
    zoo = open_zoo(sample_zoo())
    runs = [key for key in zoo.keys() if key.subset_ratio == 0.7]
    table = RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7)
    assert table.keys == tuple(str(run) for run in runs)
    aux = [zoo.aux(run) for run in runs]
    assert_holds(table, [np.array([getattr(one, name) for one in aux]) for name in ARRAYS])
    last = runs[-1].run
    assert RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7, runs=[last]).keys == table.keys[-1:]


@pytest.mark.parametrize(("ratio", "runs"), [(0.123, None), (0.7, [999_999])])
def test_runs_that_are_not_in_the_zoo_are_named(ratio, runs):
    with pytest.raises(ZooError, match=rf"(999999 of )?digits-mlp-tf/{ratio} are not in"):
        RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", ratio, runs)


def test_no_runs_asked_for_are_told_as_that():
    with pytest.raises(ZooError, match=r"no runs of digits-mlp-tf/0.7 are selected"):
        RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7, [])


@pytest.mark.parametrize("examples", [5, [5], [0, 5, 36], slice(3, 30, 9), np.arange(37) % 11 == 2, np.int64(36)])
def test_who_trained_on_examples(examples):
    trained_on, *others = random_runs(130, 37, 11, seed=0)
    keys = [f"digits/0.7/{run}" for run in range(60, 190)]
    table = RunTable.from_arrays(trained_on, *others, keys=keys, mix_ratios=True)
    chosen = trained_on[:, np.atleast_1d(np.arange(37)[examples])]
    for how, mask in (("all", chosen.all(1)), ("any", chosen.any(1)), ("none", ~chosen.any(1))):
        expected = [RunKey("digits", 0.7, run) for run in range(60, 190) if mask[run - 60]]
        assert table.who_trained_on(examples, how) == expected
    assert table.who_trained_on(examples) == table.who_trained_on(examples, how="all")


def test_who_trained_on_gives_keys_whose_runs_did():
    table = RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7, runs=[3, 5, 1])
    for how in ("all", "none"):
        for key in table.who_trained_on(7, how):
            run = load_run(key.experiment, key.subset_ratio, key.run, zoo=sample_zoo())
            assert (7 in run.aux.index_train) == (how == "all")
    names = RunTable.from_arrays(*random_runs(3, 5, 5, seed=0), mix_ratios=True).who_trained_on(1)
    assert names == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("examples", "how", "message"),
    [
        (37, "all", "examples: cannot select .* from 0 ... 36"),
        ([1, 99], "any", "examples: cannot select .* from 0 ... 36"),
        ([], "all", "no examples given"),
        (1.5, "all", "examples: cannot select"),
        (1, "some", "how is 'some', expected"),
    ],
)
def test_who_trained_on_refuses_what_is_no_example(examples, how, message):
    table = RunTable.from_arrays(*random_runs(3, 37, 5, seed=0), mix_ratios=True)
    with pytest.raises(DataError, match=message):
        table.who_trained_on(examples, how)


@pytest.mark.parametrize("rows", [None, [2], [129, 0, 64], slice(60, 70), np.arange(130) % 7 == 3, []])
def test_masks_and_correctness_come_out_as_they_went_in(rows, monkeypatch):
    monkeypatch.setattr(bits, "CHUNK_BITS", 500)  # so that several chunks are needed
    arrays = random_runs(130, 37, 11, seed=0)
    table = RunTable.from_arrays(*arrays, mix_ratios=True)
    index = slice(None) if rows is None else np.array(rows, int) if isinstance(rows, list) else rows
    for found, expected in zip(
        (table.mask(rows), table.correct("train", rows), table.correct("test", rows)), arrays, strict=True
    ):
        assert found.dtype == bool
        np.testing.assert_array_equal(found, expected[index])


@pytest.mark.parametrize("examples", [3, [10, 0, 4], slice(2, 9, 3), np.arange(11) % 2 == 0, []])
def test_of_some_examples_come_masks_and_correctness_of_these(examples):
    trained_on, correct_train, correct_test = random_runs(130, 11, 11, seed=0)
    table = RunTable.from_arrays(trained_on, correct_train, correct_test, mix_ratios=True)
    index = np.arange(11)[np.array(examples, int) if isinstance(examples, list) else examples].ravel()
    found = {
        "mask": table.mask([129, 2], examples),
        "train": table.correct("train", [129, 2], examples),
        "test": table.correct("test", examples=examples),
    }
    expected = {
        "mask": trained_on[[129, 2]][:, index],
        "train": correct_train[[129, 2]][:, index],
        "test": correct_test[:, index],
    }
    for name, array in expected.items():
        assert found[name].dtype == bool
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "ask",
    [
        lambda table: table.select_runs(5),
        lambda table: table.select_runs("ab"),
        lambda table: table.select_runs([7]),
        lambda table: table.select_runs([[1]]),
        lambda table: table.select_runs(np.ones(4, bool)),
        lambda table: table.mask(-1),
        lambda table: table.mask([-6]),
        lambda table: table.mask([0.5]),
        lambda table: table.correct("trian"),
        lambda table: table.correct("test", [5]),
        lambda table: table.mask(train=[37]),
        lambda table: table.correct("test", examples=11),
        lambda table: table.correct("train", examples=np.ones(11, bool)),
    ],
)
def test_what_selects_no_runs_or_examples_is_one_line(ask):
    with pytest.raises(DataError) as error:
        ask(RunTable.from_arrays(*random_runs(5, 37, 11, seed=0), mix_ratios=True))
    assert "\n" not in str(error.value)


def test_a_table_is_shown_in_one_line_and_is_only_equal_to_itself():
    arrays = random_runs(2000, 37, 11, seed=0)
    table, other = (
        RunTable.from_arrays(*arrays, keys=[f"<b>/{r}" for r in range(2000)], mix_ratios=True) for _ in "ab"
    )
    assert repr(table) == "RunTable(2000 runs: <b>/0 ... <b>/1999; 37 training, 11 test examples)"
    assert "<b>" not in table._repr_html_()
    assert table == table
    assert table != other
    assert len({table, other}) == 2


@pytest.mark.parametrize("array", range(3))
def test_bits_behind_the_last_run_are_refused(tmp_path, array):
    table = RunTable.from_arrays(*random_runs(70, 37, 37, seed=0), mix_ratios=True)
    packed = [table.packed_trained_on.copy(), table.packed_correct_train.copy(), table.packed_correct_test.copy()]
    RunTable(table.keys, *packed).save(tmp_path / "table")
    packed[array][30, -1] |= np.uint64(2**6)
    with pytest.raises(DataError, match="bits behind the last of 70 runs, at example 30"):
        RunTable(table.keys, *packed)
    np.save(tmp_path / "table" / f"{ARRAYS[array]}.npy", packed[array])
    with pytest.raises(DataError, match="bits behind the last of 70 runs, at example 30"):
        RunTable.load(tmp_path / "table")


@pytest.mark.parametrize("array", range(3))
def test_saved_arrays_of_another_shape_are_refused(tmp_path, array):
    table = RunTable.from_arrays(*random_runs(70, 37, 20, seed=0), mix_ratios=True)
    table.save(tmp_path / "table")
    for wrong in (np.uint64(3), np.zeros(3, np.uint64), table.packed_trained_on[:, :1], table.packed_trained_on.T):
        np.save(tmp_path / "table" / f"{ARRAYS[array]}.npy", wrong)
        with pytest.raises(DataError, match=f"packed {ARRAYS[array]} is uint64|packed correct_train is uint64"):
            RunTable.load(tmp_path / "table")


def test_a_table_put_together_by_hand_is_checked():
    table = RunTable.from_arrays(*random_runs(3, 37, 11, seed=0), mix_ratios=True)
    packed = table.packed_trained_on, table.packed_correct_train, table.packed_correct_test
    for keys, arrays in (
        (("a", "b", "a"), packed),
        ((), packed),
        (table.keys, (packed[0][:5], *packed[1:])),
        (table.keys, (packed[0].astype(np.int64), *packed[1:])),
        (tuple(map(str, range(65))), packed),
    ):
        with pytest.raises(DataError):
            RunTable(keys, *arrays)


def test_packed_arrays_of_another_layout_are_refused(tmp_path):
    """The kernels read words one after the other."""
    table = RunTable.from_arrays(*random_runs(130, 9, 5, seed=0), mix_ratios=True)
    arrays = table.packed_trained_on, table.packed_correct_train, table.packed_correct_test
    for change in (
        np.asfortranarray,
        lambda words: np.repeat(words, 2, 1)[:, ::2],
        lambda words: np.repeat(words, 2, 0)[::2],
    ):
        with pytest.raises(DataError, match="packed trained_on is not C-contiguous"):
            RunTable(table.keys, change(arrays[0]), *arrays[1:])
    with pytest.raises(DataError, match="packed correct_test is list, expected an array"):
        RunTable(table.keys, *arrays[:2], arrays[2].tolist())
    table.save(tmp_path / "table")
    np.save(tmp_path / "table" / "correct_train.npy", np.asfortranarray(arrays[1]))
    with pytest.raises(DataError, match="packed correct_train is not C-contiguous"):
        RunTable.load(tmp_path / "table")


def test_what_is_no_row_a_run_or_no_example_is_told():
    bits = np.ones((3, 4), bool)
    for wrong in (None, np.array(3), (row for row in bits)):
        with pytest.raises(DataError, match="expected arrays of a row a run"):
            RunTable.from_arrays(wrong, bits, bits)
    for keys in ("abc", 3):
        with pytest.raises(DataError, match="expected a list of names, one a run"):
            RunTable.from_arrays(bits, bits, bits, keys)
    with pytest.raises(DataError, match="has no training examples"):
        RunTable.from_arrays(bits[:, :0], bits[:, :0], bits)
    with pytest.raises(DataError, match="have no training examples"):
        OutputTable.from_arrays(bits[:, :0], bits * 1.0)
    table = RunTable.from_arrays(bits, bits, bits)
    for wrong in (table, {0.5: table}, [table, 3], None, 3, "tables"):
        with pytest.raises(DataError, match="tables to join are not run tables in a list"):
            RunTable.concat(wrong)
    assert RunTable.concat(one for one in [table]).keys == table.keys


def test_saved_table_is_mapped_back(tmp_path):
    arrays = random_runs(70, 37, 11, seed=0)
    table = RunTable.from_arrays(*arrays, mix_ratios=True, keys=[f"digits/0.7/{r}" for r in range(70)])
    table.save(tmp_path / "table")
    table.save(tmp_path / "table")  # replaces
    loaded = RunTable.load(tmp_path / "table")
    assert loaded.keys == table.keys
    assert isinstance(loaded.packed_trained_on, np.memmap)
    assert_holds(loaded, arrays)
    RunTable.from_arrays(*random_runs(3, 5, 5, seed=1), mix_ratios=True).save(tmp_path / "table")
    assert_holds(loaded, arrays)  # whoever has it open keeps what he opened
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_saving_never_replaces_what_is_no_table(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    table = RunTable.from_arrays(*random_runs(3, 5, 5, seed=0), mix_ratios=True)
    with pytest.raises(DataError, match="exists and is not a run table"):
        table.save(tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "table.json").unlink(),
            "holds no run table, for it has no table.json; RunTable.from_zoo",
        ),
        (lambda folder: (folder / "table.json").write_text("{"), "is not a run table"),
        (lambda folder: (folder / "correct_test.npy").write_bytes(b"no array"), "is not a readable npy file"),
        (
            lambda folder: np.save(folder / "correct_test.npy", np.zeros((6, 1), np.uint64)),
            "not about the 5 and 5 examples",
        ),
        (lambda folder: np.save(folder / "trained_on.npy", np.zeros((5, 1))), "expected uint64"),
    ],
)
def test_damaged_table_is_refused(tmp_path, damage, message):
    RunTable.from_arrays(*random_runs(3, 5, 5, seed=0), mix_ratios=True).save(tmp_path / "table")
    damage(tmp_path / "table")
    with pytest.raises(DataError, match=message):
        RunTable.load(tmp_path / "table")


@pytest.mark.parametrize("cut", [1, 63, 64, 100])
def test_joined_tables_hold_all_runs_and_selected_runs_only_those(cut):
    arrays = random_runs(150, 37, 11, seed=0)
    keys = [str(r) for r in range(150)]
    parts = [
        RunTable.from_arrays(*(array[part] for array in arrays), keys=keys[part], mix_ratios=True)
        for part in (slice(None, cut), slice(cut, None))
    ]
    joined = RunTable.concat(parts, mix_ratios=True)
    assert joined.keys == tuple(keys)
    assert_holds(joined, arrays)
    chosen = [149, 3, cut]
    selected = joined.select_runs(chosen)
    assert selected.keys == tuple(keys[r] for r in chosen)
    assert_holds(selected, [array[chosen] for array in arrays])


def test_runs_are_selected_by_names_as_sets_arrays_and_data_frames_hold_them():
    """As the runs that two calls of `who_trained_on` have in common, or the best of a data frame of runs."""
    table = RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7)
    saw, frame = table.who_trained_on(3), table.to_pandas()
    keys = [str(key) for key in saw]
    assert 1 < len(keys) < table.runs
    assert table.select_runs(set(saw)).keys == table.select_runs({*keys}).keys == tuple(keys)
    assert table.mask(np.array(keys[::-1])).shape == table.mask(np.array(saw, object)).shape == (len(keys), 1437)
    best = frame[frame["accuracy_test"] > 0.9]
    assert table.select_runs(best["run"]).keys == tuple(best["run"]) != ()
    with pytest.raises(DataError, match=r"run digits-mlp-tf/0\.7/9 is not in this table"):
        table.select_runs({"digits-mlp-tf/0.7/9"})
    with pytest.raises(DataError, match="no runs given"):
        table.select_runs(set())


def test_examples_are_selected_by_a_set_in_order():
    table = RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7)
    assert table.who_trained_on({1436, 3}, how="any") == table.who_trained_on([3, 1436], how="any")
    np.testing.assert_array_equal(table.mask({4, 0}, {1436, 3}), table.mask([0, 4], [3, 1436]))
    for wrong in ({3, "4"}, {1437}, {(1, 2)}):
        with pytest.raises(DataError, match="train: "):
            table.mask(train=wrong)
    with pytest.raises(DataError, match="no examples given"):
        table.who_trained_on(set())


def test_the_order_of_joined_tables_changes_no_estimate():
    whole = RunTable.from_arrays(*random_runs(130, 9, 5, seed=0), mix_ratios=True)
    parts = whole.select_runs(slice(0, 70)), whole.select_runs(slice(70, None))
    for order in ((0, 1), (1, 0)):
        joined = RunTable.concat([parts[place] for place in order], mix_ratios=True)
        assert set(joined.keys) == set(whole.keys)
        np.testing.assert_array_equal(memorization(joined), memorization(whole))
        np.testing.assert_array_equal(influence(joined), influence(whole))
        np.testing.assert_array_equal(joined.mask([joined.keys.index("99")]), whole.mask([99]))


def test_joining_refuses_a_run_twice_another_data_set_and_another_ratio():
    arrays = random_runs(4, 20, 11, seed=0)
    arrays[0][:] = np.arange(20) < 14
    table = RunTable.from_arrays(*arrays)
    with pytest.raises(DataError, match="runs given twice: 0, 1, 2, 3"):
        RunTable.concat([table, table])
    keys = ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="run a has 20 training and 10 test examples, run 0 has 20 and 11"):
        RunTable.concat([table, RunTable.from_arrays(*arrays[:2], arrays[2][:, 1:], keys=keys)])
    other = RunTable.from_arrays(~arrays[0], *arrays[1:], keys=keys)
    with pytest.raises(DataError, match="run a trained on 6 examples, run 0 on 14"):
        RunTable.concat([table, other])
    assert RunTable.concat([table, other], mix_ratios=True).runs == 8
    with pytest.raises(DataError, match="no tables"):
        RunTable.concat([])


@pytest.mark.parametrize("value", [np.nan, 2.0, -1.0, 0.5])
def test_values_other_than_0_and_1_are_refused(value):
    trained_on, correct_train, correct_test = random_runs(5, 20, 11, seed=0)
    broken = correct_train.astype(np.float64)
    broken[3, 7] = value
    with pytest.raises(DataError, match="run d: correct_train has values other than 0 and 1"):
        RunTable.from_arrays(trained_on, broken, correct_test, keys=list("abcde"), mix_ratios=True)


def test_runs_that_do_not_go_together_are_refused():
    trained_on, correct_train, correct_test = random_runs(5, 20, 11, seed=0)
    trained_on[:] = np.arange(20) < 14
    trained_on[4, 0] = False
    with pytest.raises(DataError, match=r"run 4 trained on 13 examples, run 0 on 14.*mix_ratios=True"):
        RunTable.from_arrays(trained_on, correct_train, correct_test)
    with pytest.raises(DataError, match="run 0: trained_on has 19 values, correct_train 20"):
        RunTable.from_arrays(trained_on[:, 1:], correct_train, correct_test)
    with pytest.raises(DataError, match="5, 4 and 5 rows"):
        RunTable.from_arrays(trained_on, correct_train[1:], correct_test)
    with pytest.raises(DataError, match="runs given twice: a"):
        RunTable.from_arrays(trained_on[:3], correct_train[:3], correct_test[:3], keys=["a", "b", "a"])
    with pytest.raises(DataError, match="2 keys given for 3 runs"):
        RunTable.from_arrays(trained_on[:3], correct_train[:3], correct_test[:3], keys=["a", "b"])
    with pytest.raises(DataError, match="no runs given"):
        RunTable.from_arrays(trained_on[:0], correct_train[:0], correct_test[:0])
    with pytest.raises(DataError, match="no runs given"):
        RunTable.from_aux([])
    aux = [aux_of(*rows) for rows in zip(trained_on[:2], correct_train, correct_test, strict=False)]
    for keys in (["a"], ["a", "b", "c"]):
        with pytest.raises(DataError, match=r"keys? given for"):
            RunTable.from_aux(aux, keys=keys)
    with pytest.raises(DataError, match=r"runs: cannot select \[2\] from 0 ... 1"):
        RunTable.from_aux(aux).select_runs([2])


def test_run_whose_test_indices_have_gaps_is_named():
    aux = aux_of(*(array[0] for array in random_runs(1, 20, 11, seed=0)))
    aux.index_test[np.argmax(aux.index_test)] = 100
    with pytest.raises(ZooError, match=r"run digits/0.7/5: index_test is not 0 ... 10"):
        RunTable.from_aux([aux], keys=["digits/0.7/5"])


def test_import_of_stats_is_light():
    code = (
        "import sys, heldout_torch.stats; heldout_torch.stats.RunTable; "
        "print(*{'torch', 'numba', 'matplotlib', 'tensorflow', 'torchvision'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""


def test_statistics_of_a_web_server_s_zoo_fetch_its_manifest_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    zoo = tmp_path / "zoo"
    for ratio in ("0.3", "0.5", "0.7"):
        assert main(["train", "digits-mlp", "--subset-ratio", ratio, "--runs", "0-2", "--zoo", str(zoo)]) == 0
    with Server(zoo).running() as server:
        words = ["stats", "consistency", server.url, "--experiment", "digits-mlp"]
        assert main([*words, "--table", str(tmp_path / "tables"), "--out", str(tmp_path / "cscores.npz")]) == 0
        assert server.requests["manifest.json"] == 1
        assert main([*words, "--out", str(tmp_path / "again.npz")]) == 0
        assert server.requests["manifest.json"] == 2
    assert (tmp_path / "cscores.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
