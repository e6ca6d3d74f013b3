"""load_run and list_runs: a zoo, a TensorFlow tree, the bundled sample.

Also of zoo/find.py, zoo/open.py.
"""

import copy
import json
import pickle
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from heldout_torch import HeldoutError, ZooError, list_runs, load_dataset, load_run, load_runs, predict
from heldout_torch.stats import RunTable
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from heldout_torch.zoo.run_list import RunList
from heldout_torch.zoo.selection import described
from tests.helpers.zoos import export, manifest_of

EXPERIMENT = "digits-mlp-tf"
KEY = RunKey(EXPERIMENT, 0.7, 3)


@pytest.fixture
def zoo(tree, tmp_path):
    export(tree, tmp_path / "zoo")
    return tmp_path / "zoo"


def test_a_tree_and_its_export_give_the_same_run(tree, zoo):
    assert list_runs(tree) == list_runs(zoo) == [RunKey(EXPERIMENT, 0.7, run) for run in range(6)]
    for root in (tree, tree / EXPERIMENT):
        direct, exported = load_run(EXPERIMENT, 0.7, 4, root), load_run(EXPERIMENT, 0.7, 4, zoo)
        assert direct.metadata == exported.metadata
        assert not exported.model.training
        for name, tensor in direct.model.state_dict().items():
            assert torch.equal(tensor, exported.model.state_dict()[name])
        assert (direct.aux.index_train == exported.aux.index_train).all()


def test_a_tree_may_spell_the_ratio_otherwise(tree):
    (tree / EXPERIMENT / "0.7").rename(tree / EXPERIMENT / "0.70")
    assert load_run(EXPERIMENT, 0.7, 4, tree).metadata.subset_ratio == 0.7


def test_the_environment_names_a_zoo_else_the_sample_serves(zoo, monkeypatch):
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)
    assert load_run(EXPERIMENT, 0.7, 1).zoo.location.endswith("sample")
    monkeypatch.setenv("HELDOUT_TORCH_ZOO", str(zoo))
    assert load_run(EXPERIMENT, 0.7, 1).zoo.location == str(zoo)


def test_a_loaded_model_can_be_trained_on(zoo):
    model = load_run(EXPERIMENT, 0.7, 0, zoo).model
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_is_there_is_named_where_a_run_is_missing(zoo):
    with pytest.raises(ZooError, match=r"digits-mlp-tf/0.7/99 is not in .*; it has digits-mlp-tf/0.7 runs 0-5$"):
        load_run(EXPERIMENT, 0.7, 99, zoo)
    with pytest.raises(ZooError, match=r"runs 0-5; to get it .*: heldout export cifar10-inception"):
        load_run("cifar10-inception", 0.7, 123, zoo)
    with pytest.raises(ZooError, match="no such folder"):
        load_run(EXPERIMENT, 0.7, 0, zoo / "absent")
    kinds = (
        r"runs are read from the folder or URL of a zoo, an unpacked TensorFlow archive, or a packed one \(\.tar\.gz\)"
    )
    (zoo / "sample.zip").touch()
    for name in ("absent.zip", "sample.zip"):
        with pytest.raises(ZooError, match=kinds):
            load_run(EXPERIMENT, 0.7, 0, zoo / name)


@pytest.mark.parametrize(
    "named",
    [
        (EXPERIMENT, 0.1 * 7, np.int64(3)),
        (EXPERIMENT, "0.7", 3),
        (f"{EXPERIMENT}/0.7/3",),
        (RunKey(EXPERIMENT, 0.7, 3),),
    ],
    ids=str,
)
def test_a_run_is_named_in_every_way(tree, zoo, named):
    for place in (tree, zoo, str(zoo), f"{zoo}/", f"file://{zoo}", open_zoo(zoo)):
        assert load_run(*named, zoo=place).key == KEY


def test_a_folder_of_other_things_is_no_zoo(tmp_path):
    assert list_runs(tmp_path) == []
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ZooError, match="holds no runs, expected a zoo or an unpacked TensorFlow archive"):
        list_runs(tmp_path)


def test_a_network_keeps_its_weights_when_its_file_changes(zoo):
    run = load_run(EXPERIMENT, 0.7, 0, zoo)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    path = zoo / EXPERIMENT / "0.7/0/model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    with open(path, "r+b") as file:
        file.truncate(10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


def change(zoo, tensors=None, metadata=None):
    path = zoo / EXPERIMENT / "0.7/0/model.safetensors"
    state = load_file(path)
    save_file(tensors(state) if tensors else state, path, metadata)
    return path


def header(zoo, **changes):
    return replace(load_run(EXPERIMENT, 0.7, 0, zoo).metadata, **changes).to_header()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"run": 5}, "says that it is digits-mlp-tf/0.7/5, but is in the folder of digits-mlp-tf/0.7/0"),
     ({"format_version": 2}, "has format version 2, this package reads 1"),
     ({"run": 2**40}, "is not an integer from 0")],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused(zoo, changes, message):
    change(zoo, metadata=header(zoo, **changes))
    with pytest.raises(HeldoutError, match=message):
        load_run(EXPERIMENT, 0.7, 0, zoo)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"architecture": "resnet50", "config": {}}, "resnet50"),
     ({"config": {"in_features": 64, "widths": [64], "num_classes": 11}}, "mlp"),
     ({"architecture": "nonsense"}, "'nonsense' is not known"), ({"config": [1]}, "field 'config'")],
)  # fmt: skip
def test_a_record_that_says_something_else_is_refused(zoo, changes, message):
    path = zoo / EXPERIMENT / "0.7/0/run.json"
    record = json.loads(path.read_bytes())
    record["metadata"] |= changes
    path.write_text(json.dumps(record))
    with pytest.raises(HeldoutError, match=message):
        load_run(EXPERIMENT, 0.7, 0, zoo)


def test_a_file_without_our_record_is_refused(zoo):
    change(zoo)
    with pytest.raises(ZooError, match="was not written by heldout_torch"):
        load_run(EXPERIMENT, 0.7, 0, zoo)


def test_damaged_files_are_refused(zoo):
    path = zoo / EXPERIMENT / "0.7/0/model.safetensors"
    data = path.read_bytes()
    for damaged in (b"", data[:100], data[:-1], struct.pack("<Q", 2**60) + data[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ZooError, match=r"model.safetensors: is not a readable safetensors"):
            load_run(EXPERIMENT, 0.7, 0, zoo)


def test_a_missing_aux_file_is_told_when_asked_for(zoo):
    (zoo / EXPERIMENT / "0.7/0/aux_arrays.npz").unlink()
    run = load_run(EXPERIMENT, 0.7, 0, zoo)
    with pytest.raises(ZooError, match=r"aux_arrays.npz: is missing"):
        _ = run.aux


def test_an_empty_folder_is_no_run(zoo):
    shutil.rmtree(zoo / EXPERIMENT / "0.7/0")
    (zoo / EXPERIMENT / "0.7/0").mkdir()
    with pytest.raises(HeldoutError, match=r"0.7/0 is not in .*; it has digits-mlp-tf/0.7 runs 1-5"):
        load_run(EXPERIMENT, 0.7, 0, zoo)


def test_many_runs_come_in_the_order_asked_for(zoo):
    assert [run.key.run for run in load_runs(EXPERIMENT, 0.1 * 7, [4, np.int64(1)], zoo)] == [4, 1]
    assert [run.key.run for run in load_runs(EXPERIMENT, zoo=zoo)] == list(range(6))
    assert [run.key.run for run in load_runs(EXPERIMENT, runs=[5], zoo=zoo)] == [5]
    with pytest.raises(ZooError, match=r"0.7/9 is not in .*; it has digits-mlp-tf/0.7 runs 0-5"):
        list(load_runs(EXPERIMENT, 0.7, [0, 9], zoo))
    with pytest.raises(ZooError, match=r"holds no such run; it has"):
        list(load_runs("other", zoo=zoo))


@pytest.mark.parametrize("key", [f"{KEY}/", f" {KEY}\n", KEY, f"{EXPERIMENT}/0.70/03"])
def test_a_key_is_taken_as_it_is_copied(zoo, key):
    assert load_run(key, zoo=zoo).key == KEY
    assert [run.key for run in load_runs([key], zoo=zoo)] == [KEY]
    for more in ({"subset_ratio": 0.5}, {"run": 3}, {"subset_ratio": 0.7, "run": 3}):
        with pytest.raises(ZooError, match=r"names the run; leave out its subset ratio and its number"):
            load_run(key, zoo=zoo, **more)


def test_the_nearest_decimal_of_a_bfloat16_is_meant(zoo):
    for ratio in (torch.tensor(0.7, dtype=torch.bfloat16), torch.tensor([0.7]).half(), torch.tensor(0.7)):
        assert load_run(EXPERIMENT, ratio, torch.tensor(3), zoo).key == KEY


@pytest.mark.parametrize("name", ["", "digits-mlp-tf/0.7/3", "../zoo", 3, KEY, ["digits-mlp-tf"]])
def test_what_is_no_name_lists_nothing_without_a_word(zoo, name):
    with pytest.raises(ZooError, match=r"is not a name|names the run"):
        list_runs(zoo, name)


def test_what_a_zoo_gives_is_shown_short_and_hashed(zoo):
    opened = open_zoo(zoo)
    opened.index()
    run, files = load_run(KEY, zoo=zoo), opened.files(KEY)
    assert repr(manifest_of(opened)) == "<Manifest of 6 runs>"
    assert len(repr(files)) < 1000
    for one, same in (
        (run.metadata, opened.metadata(KEY)), (opened.record(KEY), open_zoo(zoo).record(KEY)),
        (files, opened.files(KEY)), (run.key, KEY),
    ):  # fmt: skip
        assert one == same
        assert len({one, same}) == 1
    few, many = RunList([KEY] * 20), RunList([KEY] * 2000)
    assert repr(few) == str(few) == repr(list(few))
    assert repr(many) == str(many) == f"[{KEY!r}, ..., {KEY!r}] (2,000 runs)"
    runs = RunList(RunKey(EXPERIMENT, 0.7, run) for run in range(6))
    for part in (runs[4:], runs[::-3], runs.copy(), copy.copy(runs), runs[:2] + runs[4:], runs[:0]):
        assert isinstance(part, RunList)
        assert part.to_pandas()["run"].tolist() == [key.run for key in part]
    assert runs[-1] == RunKey(EXPERIMENT, 0.7, 5)


def test_what_names_no_run_is_shown_short(zoo):
    run = load_run(KEY, zoo=zoo)
    for other in (run.metadata, run.model, {"run": list(range(1000))}):
        with pytest.raises(ZooError, match=r"names no run, expected an experiment or a key") as error:
            load_run(other, zoo=zoo)
        assert len(str(error.value)) < 200


def test_what_is_not_there_is_answered_by_what_is_most_like_it():
    keys = [RunKey("digits-mlp", ratio / 100, run) for ratio in range(2, 100, 2) for run in range(3)]
    keys += [RunKey("cifar10-inception", 0.7, run) for run in range(0, 4000, 2)]
    assert described(keys, "digits-mlp", [0.61]).startswith("it has digits-mlp/0.6 runs 0-2, digits-mlp/0.62 runs")
    assert described(keys, "digits-mlp", [0.6]) == "it has digits-mlp/0.6 runs 0-2"
    assert described(keys, "digits-mlp", [0.6 + 1e-9]) == "it has digits-mlp/0.6 runs 0-2"
    assert described(keys, "digits-mlp").endswith(" and 39 more subset ratios")
    whole = "it has cifar10-inception/0.7 runs 0 ... 3998 (2000 runs"
    assert described(keys, "cifar10-inception", [0.1]) == f"{whole})"
    assert described(keys, "cifar10-inception", [], [1235]) == f"{whole}, nearest 1234)"
    assert described(keys, "cifar10-inceptoin", [0.7]).endswith("; did you mean 'cifar10-inception'?")
    assert described(keys, "cifar100-inceptoin").endswith("; did you mean 'cifar10-inception'?")  # which is there
    half = RunKey("digits-half", 718 / 1437, 0)  # a name that is there is not doubted
    assert described([half], "digits-half", [0.5]) == f"it has digits-half/{718 / 1437!r} runs 0"
    assert described([half], "digits-half", [718 / 1437], [5]) == f"it has digits-half/{718 / 1437!r} runs 0"
    assert described([], "mnist-mpl") == "it has no runs; did you mean 'mnist-mlp'?"


def test_how_to_have_runs_that_nobody_gave(zoo, monkeypatch):
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)
    sample = r"; this is the bundled sample, name another place: pass zoo='ZOO', or set HELDOUT_TORCH_ZOO$"
    train = "; to train it: heldout train mnist-mlp --zoo ZOO --subset-ratio 0.7 --runs 3"
    with pytest.raises(ZooError, match=train + sample):
        load_run("mnist-mlp", 0.7, 3)
    with pytest.raises(ZooError, match=f"{train}$"):
        load_run("mnist-mlp/0.7/3", zoo=zoo)
    with pytest.raises(ZooError, match=rf"heldout export cifar10-inception .* --runs 3{sample}"):
        load_run("cifar10-inception", 0.7, 3)
    with pytest.raises(ZooError, match=r"did you mean 'digits-mlp-tf'\?$"):
        load_run("digits-mpl-tf", 0.7, 3, zoo)
    with pytest.raises(ZooError, match=r"give a subset ratio .* did you mean 'digits-mlp-tf'\?$"):
        load_run("digits-mpl-tf", zoo=zoo)


@pytest.mark.parametrize("arguments", [(), (0.7,), (0.7, "0-2"), (None, [1])])
def test_runs_of_a_misspelt_experiment_are_refused_at_once_with_the_nearest(zoo, arguments):
    with pytest.raises(ZooError, match=r"did you mean 'digits-mlp-tf'\?$"):
        next(load_runs("digits-mpl-tf", *arguments, zoo=zoo))
    if len(arguments) != 2 or arguments[0] is None:
        with pytest.raises(ZooError, match=r"did you mean"):  # before any is asked for
            load_runs("digits-mpl-tf", *arguments, zoo=zoo)
    with pytest.raises(ZooError, match=r"did you mean 'digits-mlp-tf'\?$"):
        RunTable.from_zoo(zoo, "digits-mpl-tf", 0.7)


def test_runs_are_listed_by_pattern_ratio_and_number(zoo):
    assert list_runs(zoo, "digits*", "0.7", [1, 9]) == [RunKey(EXPERIMENT, 0.7, 1)]
    assert list_runs(zoo, EXPERIMENT) == list_runs(zoo)
    assert [run.key.run for run in load_runs("digits*", 0.7, [4, 9, 1], zoo)] == [4, 1]
    assert list_runs(zoo, "cifar*") == list_runs(zoo, subset_ratio=0.5) == list_runs(zoo, runs=[9]) == []


def test_a_run_is_hashed_compared_and_printed_in_short(zoo):
    run = load_run(KEY, zoo=zoo)
    assert len({run, run, load_run(KEY, zoo=zoo)}) == 2
    assert run == run
    assert repr(run) == f"Run('{KEY}', mlp from {zoo})"


def test_the_transform_gives_what_the_network_was_trained_on(zoo):
    digits, run = load_dataset("digits"), load_run(KEY, zoo=zoo)
    image, _ = digits.split("test")[3]
    raw = torch.from_numpy(digits.test.images[3].numpy())
    assert torch.equal(run.transform(raw), image)


def test_logits_of_many_runs_are_those_of_each(zoo):
    images = torch.stack([load_dataset("digits").split("test")[i][0] for i in range(50)])
    logits = predict(load_runs(EXPERIMENT, zoo=zoo), images, batch_size=7)
    for number in range(6):
        expected = load_run(EXPERIMENT, 0.7, number, zoo).model(images)
        torch.testing.assert_close(logits[number], expected)


def test_an_empty_name_is_no_place_and_never_the_sample(monkeypatch):
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)
    for act in (open_zoo, list_runs, lambda place: load_run(EXPERIMENT, 0.7, 3, zoo=place)):
        with pytest.raises(HeldoutError, match="'' is not a path"):
            act("")


def test_a_file_is_no_zoo(zoo):
    with pytest.raises(ZooError, match=r"manifest.json: is a file of another kind; runs are read from the folder"):
        open_zoo(zoo / "manifest.json")


def test_what_is_left_out_of_a_key_is_asked_for():
    for part, asked in (({}, "a subset ratio and the number of a run"), ({"subset_ratio": 0.7}, "the number of a run")):
        with pytest.raises(ZooError, match=rf"^digits-mlp-tf: give {asked}; .* it has digits-mlp-tf/0.7 runs 0-5$"):
            load_run(EXPERIMENT, **part)


def test_logits_of_nothing_and_of_bytes_are_refused():
    with pytest.raises(HeldoutError, match="no runs are given"):
        predict([], torch.zeros(1, 1, 8, 8))
    with pytest.raises(HeldoutError, match=r"images are torch.uint8, expected float32 as run.transform gives it"):
        predict(load_runs(EXPERIMENT, 0.7, [1]), load_dataset("digits").test.images[:2])


def test_the_transform_of_a_run_goes_to_other_processes():
    images = load_dataset("digits").test.images[:2]
    transform = load_run(EXPERIMENT, 0.7, 3).transform
    assert torch.equal(pickle.loads(pickle.dumps(transform))(images), transform(images))
    assert repr(transform) == "DividedBy(divisor=16.0)"


def test_images_of_another_shape_are_named(zoo):
    with pytest.raises(HeldoutError, match=r"run digits-mlp-tf/0.7/0 cannot take images of shape \(2, 3, 8, 8\)"):
        predict(load_runs(EXPERIMENT, zoo=zoo), torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("runs", [3, np.int64(3), torch.tensor(3), [3], "3", np.array([3]), range(3, 4)])
def test_one_run_or_several_are_chosen_in_any_form(runs):
    assert list_runs(None, EXPERIMENT, runs=runs) == [KEY]
    assert [run.key for run in load_runs(EXPERIMENT, 0.7, runs)] == [KEY]
    assert RunTable.from_zoo(None, EXPERIMENT, 0.7, runs).keys == (str(KEY),)
    assert [run.key.run for run in load_runs(EXPERIMENT, runs="1-2,4")] == [1, 2, 4]


@pytest.mark.parametrize("keys", [KEY, str(KEY), [KEY], [str(KEY)], (key for key in [KEY])])
def test_runs_are_loaded_by_their_keys(keys):
    assert [run.key for run in load_runs(keys)] == [KEY]


def test_runs_are_named_by_runs_and_lists_keep_their_order():
    first = load_run("digits-mlp-tf", 0.7, 4)
    assert [run.key for run in load_runs([first, first])] == [first.key] * 2
    assert load_run(first).key == next(load_runs(first)).key == first.key
    for experiment in ("digits-mlp-tf", "digits*"):
        assert [run.key.run for run in load_runs(experiment, 0.7, "4,0-1,4")] == [4, 0, 1]
    with pytest.raises(ZooError, match=r"b'digits-mlp-tf/0.7/4' names no run"):
        load_runs(b"digits-mlp-tf/0.7/4")
    for name in ("digits-mlp-tf/0.7/4", "digits-mlp-tf/0.7/*", "*/0.7/4"):
        with pytest.raises(ZooError, match="is not a name of experiments; ratio and runs are given by"):
            list_runs(None, name)


def test_runs_are_loaded_by_what_lists_and_tables_return():
    assert [run.key for run in load_runs(list_runs())] == list_runs()
    assert [run.key for run in load_runs("digits-*", runs=[4, 1])] == [RunKey(EXPERIMENT, 0.7, run) for run in (4, 1)]
    some = RunTable.from_zoo(None, EXPERIMENT, 0.7).who_trained_on([5])
    assert [run.key for run in load_runs(some)] == some


@pytest.mark.parametrize(
    "call",
    [
        lambda: list_runs(3), lambda: list_runs(b"zoo"), lambda: list_runs(None, ["a"]), lambda: load_run(3),
        lambda: load_run(None, 0.7, 3), lambda: list(load_runs([3])), lambda: list(load_runs("absent", runs=[1])),
        lambda: list(load_runs("absent*")), lambda: list_runs(None, runs=3.5), lambda: list_runs(None, runs="a"),
    ],
)  # fmt: skip
def test_what_names_no_runs_is_one_line(call):
    with pytest.raises(ZooError):
        call()


def test_a_zoo_whose_first_folders_are_being_made_is_one(tmp_path):
    (tmp_path / "digits-mlp").mkdir()
    assert list_runs(tmp_path) == []
    (tmp_path / "digits-mlp" / ".partial-of-archive.json").touch()
    assert list_runs(tmp_path) == []
    (tmp_path / "digits-mlp" / "archive.json").touch()
    assert list_runs(tmp_path) == []
    (tmp_path / "digits-mlp" / "0.7").mkdir()
    assert list_runs(tmp_path) == []
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "notes.txt").touch()
    (tmp_path / "digits-mlp" / "0.7").rmdir()
    with pytest.raises(ZooError, match="holds no runs, expected a zoo"):
        list_runs(tmp_path)


@pytest.mark.parametrize("keys", [[KEY], KEY, str(KEY), (f"{KEY}/",)])
def test_keys_of_runs_stand_alone(zoo, keys):
    assert [run.key for run in load_runs(keys, zoo=zoo)] == [KEY]
    for more in ({"subset_ratio": 0.5}, {"runs": [1]}, {"subset_ratio": 0.7, "runs": "0-3"}):
        with pytest.raises(ZooError, match="keys name the runs; leave out"):
            load_runs(keys, zoo=zoo, **more)


def test_no_runs_are_told(zoo):
    for few in ([], (), list_runs(zoo, "cifar*")):
        with pytest.raises(ZooError, match="no runs are given"):
            load_runs(few, zoo=zoo)
    with pytest.raises(ZooError, match="no runs are given"):
        load_runs(EXPERIMENT, 0.7, [], zoo)
    for other in (None, 3, [3], [None]):
        with pytest.raises(ZooError, match="names no run, expected an experiment or a key"):
            load_runs(other, zoo=zoo)


def test_the_only_subset_ratio_need_not_be_named_and_several_are_listed(zoo, tmp_path):
    assert load_run(EXPERIMENT, run=3, zoo=zoo).key == KEY
    assert RunTable.from_zoo(zoo, EXPERIMENT).keys == RunTable.from_zoo(zoo, EXPERIMENT, 0.7).keys
    assert RunTable.from_zoo(zoo, EXPERIMENT, runs=[3]).keys == (str(KEY),)
    with pytest.raises(ZooError, match=r"digits-mlp-tf/0\.7/9 is not in .*; it has digits-mlp-tf/0\.7 runs 0-5$"):
        load_run(EXPERIMENT, run=9, zoo=zoo)
    for ask in (lambda name: load_run(name, run=0, zoo=zoo), lambda name: RunTable.from_zoo(zoo, name)):
        with pytest.raises(ZooError, match=r"holds no runs of digits-mpl-tf; .*; did you mean 'digits-mlp-tf'\?$"):
            ask("digits-mpl-tf")
    tree = tmp_path / "several"
    for ratio in ("0.5", "0.7"):
        shutil.copytree(zoo / EXPERIMENT / "0.7" / "3", tree / EXPERIMENT / ratio / "3")
    for ask in (lambda: load_run(EXPERIMENT, run=3, zoo=tree), lambda: RunTable.from_zoo(tree, EXPERIMENT)):
        with pytest.raises(ZooError, match=r"give the subset ratio of digits-mlp-tf, one of 0\.5, 0\.7$"):
            ask()
