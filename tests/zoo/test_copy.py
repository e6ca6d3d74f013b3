"""Copying: whole runs only, equal bytes for equal input, bad runs reported and the others exported.

Also of zoo/base.py, zoo/selection.py.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from heldout_torch import ZooError, copy_runs, list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.data import load_digits
from heldout_torch.experiments import Experiment, known_experiments
from heldout_torch.training import train_runs
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.indexing import index_zoo
from heldout_torch.zoo.open import open_source
from heldout_torch.zoo.selection import Selection
from tests.helpers.training import DIGITS, SHORT, replace_labels, train, work
from tests.helpers.zoos import declare, errors, export
from tests.helpers.zoos import files_below as contents
from tests.reference import run_reference

EXPERIMENT = "digits-mlp-tf"
REPOSITORY = Path(__file__).parent.parent.parent


def test_the_same_input_gives_the_same_bytes(tree, tmp_path):
    export(tree, tmp_path / "a")
    export(tree, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 18


def test_places_and_keys_are_taken_as_people_write_them(tmp_path):
    (copied,) = copy_runs(sample_zoo(), str(tmp_path / "zoo"), [f"{EXPERIMENT}/0.7/3"])
    assert copied.error is None
    assert [str(key) for key in list_runs(tmp_path / "zoo")] == [f"{EXPERIMENT}/0.7/3"]
    (again,) = copy_runs(tmp_path / "zoo", tmp_path / "other", list_runs(tmp_path / "zoo"))
    assert again.error is None
    run = load_run(EXPERIMENT, 0.7, 2)
    for place, keys in (("a", [run]), ("b", run), ("c", run.key)):  # as `load_run` and `load_runs` take them
        assert [outcome.key for outcome in copy_runs(None, tmp_path / place, keys)] == [run.key]
    for wrong in (None, 3, [3], b"digits"):
        with pytest.raises(ZooError, match="names no run, expected an experiment or a key"):
            list(copy_runs(None, tmp_path / "d", wrong))
    for dtype in ("f4", "Float16", "", float):
        with pytest.raises(ZooError, match=r"dtype is .*, expected bfloat16 or float16, or none for float32"):
            list(copy_runs(tmp_path / "zoo", tmp_path / "third", list_runs(tmp_path / "zoo"), dtype=dtype))
    assert not (tmp_path / "third").exists()


def test_aux_arrays_are_copied_byte_for_byte(tree, tmp_path):
    export(tree, tmp_path / "zoo")
    for run in range(6):
        name = f"{EXPERIMENT}/0.7/{run}/aux_arrays.npz"
        assert (tmp_path / "zoo" / name).read_bytes() == (tree / name).read_bytes()


def test_metadata_is_one_key_of_sorted_json(tree, tmp_path):
    export(tree, tmp_path / "zoo", runs=[2])
    with safe_open(tmp_path / "zoo" / EXPERIMENT / "0.7/2/model.safetensors", framework="pt") as file:
        header = file.metadata()
    record = json.loads(header.pop("heldout_torch"))
    assert header == {}
    assert list(record) == sorted(record)
    prefix = tree / EXPERIMENT / "0.7/2/checkpoints"
    digest = hashlib.sha256((prefix / "ckpt-30.index").read_bytes())
    digest.update((prefix / "ckpt-30.data-00000-of-00001").read_bytes())
    assert record == {
        "format_version": 1, "experiment": EXPERIMENT, "dataset": "digits", "subset_ratio": 0.7, "run": 2,
        "architecture": "mlp", "config": {"in_features": 64, "num_classes": 10, "widths": [64]},
        "preprocessing": {"divide_by": 16}, "epoch": 30, "global_step": 930, "source_sha256": digest.hexdigest(),
        "recipe": None,
    }  # fmt: skip


def test_ratio_spellings_of_a_source_are_normalised(tree, tmp_path):
    (tree / EXPERIMENT / "0.7").rename(tree / EXPERIMENT / "7e-1")
    export(tree, tmp_path / "zoo")
    assert [path.name for path in (tmp_path / "zoo" / EXPERIMENT).iterdir()] == ["0.7"]


def chosen(source, **options):
    selection = Selection(**options)
    place = open_source(source, selection)
    return selection.choose(place.keys(), place.location)


def test_selection(tree):
    assert [key.run for key in chosen(tree, runs=[1, 4, 9])] == [1, 4]
    assert [key.run for key in chosen(tree / EXPERIMENT, shard=(1, 4))] == [1, 5]
    assert chosen(tree, subset_ratios=[0.1 * 7]) == chosen(tree, experiment=EXPERIMENT)
    one = chosen(tree / EXPERIMENT / "0.7" / "3", experiment=EXPERIMENT, subset_ratios=[0.5], runs=[77])
    assert list(map(str, one)) == [f"{EXPERIMENT}/0.5/77"]
    renamed = Path(shutil.move(tree / EXPERIMENT, tree / "unpacked"))
    assert {key.experiment for key in chosen(renamed, experiment=EXPERIMENT)} == {EXPERIMENT}
    wrong = [(tree / "absent", {}), (tree, {"runs": [9]}), (tree, {"experiment": "other"}), (renamed / "0.7" / "3", {})]
    for source, options in wrong:
        with pytest.raises(ZooError):
            chosen(source, **options)


def test_a_shard_that_takes_no_run_is_one_line(tree, tmp_path, capsys):
    for words in (
        ["verify", tree],
        ["evaluate", tree, "--out", tmp_path / "out"],
        ["export", tree, "--zoo", tmp_path / "zoo"],
        ["train", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0-5", "--zoo", tmp_path / "zoo"],
    ):
        assert main([*map(str, words), "--shard", "6/7"]) == 1
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert "shard 6/7 takes none of the 6 " in said.err


def test_shards_together_are_everything(tree, tmp_path):
    for i in range(4):
        export(tree, tmp_path / "zoo", shard=(i, 4))
    export(tree, tmp_path / "whole")
    assert contents(tmp_path / "zoo") == contents(tmp_path / "whole")


def test_runs_in_the_zoo_are_skipped_unless_overwritten(tree, tmp_path):
    zoo = tmp_path / "zoo"
    export(tree, zoo)
    model = zoo / EXPERIMENT / "0.7/0/model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(b"x")
    assert all(result.skipped for result in export(tree, zoo))
    assert model.read_bytes() == b"x"
    assert not any(result.skipped for result in export(tree, zoo, overwrite=True))
    assert model.read_bytes() == whole
    assert [path.name for path in sorted((zoo / EXPERIMENT / "0.7").iterdir())] == list("012345")


def test_a_run_that_another_writer_was_quicker_with_counts_as_skipped(tree, tmp_path):
    class Late(FolderZoo):
        def missing(self, keys, model=True):
            return list(keys)

    export(tree, tmp_path, runs=[0])
    outcomes = copy_runs(tree, Late(tmp_path), [f"{EXPERIMENT}/0.7/{run}" for run in (0, 1)])
    assert {outcome.key.run: outcome.skipped for outcome in outcomes} == {0: True, 1: False}


def checkpoint(tree, run, suffix="index"):
    return next((tree / EXPERIMENT / "0.7" / str(run) / "checkpoints").glob(f"*.{suffix}*"))


def test_bad_runs_are_named_and_the_others_exported(tree, tmp_path):
    folder = tree / EXPERIMENT / "0.7"
    checkpoint(tree, 0, "data").unlink()
    shutil.copy(checkpoint(tree, 1), checkpoint(tree, 1).with_name("ckpt-31.index"))
    checkpoint(tree, 2).unlink()
    (folder / "3" / "aux_arrays.npz").write_bytes(b"PK")
    (folder / "4" / "aux_arrays.npz").unlink()
    results = export(tree, tmp_path / "zoo")
    found = errors(results)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert "0/checkpoints/ckpt-30: expected the files of one ckpt-30.data-00000-of-0000N" in found[0]
    assert "1/checkpoints: expected one checkpoint (ckpt-<epoch>.index), found ckpt-30.index, ckpt-31.index" in found[1]
    assert "2/checkpoints: expected one checkpoint (ckpt-<epoch>.index), found none" in found[2]
    assert "3/aux_arrays.npz: is not a readable npz file" in found[3]
    assert "4/aux_arrays.npz: cannot be read (No such file" in found[4]
    assert all("\n" not in error for error in found.values())
    assert [key.run for key in FolderZoo(tmp_path / "zoo").keys()] == [5]


def test_an_aux_file_of_another_data_set_is_refused(tree, tmp_path):
    from tests.zoo.test_aux_arrays import make_aux

    make_aux().write(tree / EXPERIMENT / "0.7/0/aux_arrays.npz")
    found = errors(export(tree, tmp_path / "zoo", runs=[0]))
    assert "0/aux_arrays.npz: is about 9 training and 4 test examples, digits-mlp-tf has 1437 and 360" in found[0]


def test_another_networks_checkpoint_is_refused(tree, tmp_path):
    run_reference("network_logits", tmp_path / "other", "mlp", 12, 1, 0, 2, 8)  # widths 48, 24 and 12 classes
    target = tree / EXPERIMENT / "0.7/0/checkpoints"
    shutil.rmtree(target)
    shutil.copytree(tmp_path / "other" / "checkpoints", target)
    found = errors(export(tree, tmp_path / "zoo", runs=[0]))
    assert "0/checkpoints/ckpt-7: does not fit mlp of digits-mlp-tf: layers.0.bias is float32 [48]" in found[0]
    assert "expected float32 [64]" in found[0]


def test_a_wrong_number_of_classes_is_refused(tree, tmp_path):
    record = known_experiments()[EXPERIMENT]
    config = record.config | {"num_classes": 12}
    mine = Experiment("mine", "digits", "mlp", config, record.train_examples, record.test_examples)
    declare(mine, tree / EXPERIMENT)
    renamed = tree / EXPERIMENT
    renamed.rename(tree / "mine")
    found = errors(export(tree, tmp_path / "zoo", runs=[0]))
    assert "layers.1.bias is float32 [10], expected float32 [12]" in found[0]


def test_a_users_experiment_takes_its_declaration_along(tree, tmp_path):
    record = known_experiments()[EXPERIMENT]
    mine = Experiment("mine", "digits", "mlp", record.config, record.train_examples, record.test_examples)
    declare(mine, tree / EXPERIMENT)
    (tree / EXPERIMENT).rename(tree / "mine")
    assert not errors(export(tree, tmp_path / "zoo"))
    assert load_run("mine", 0.7, 1, tmp_path / "zoo").metadata.experiment == "mine"
    assert json.loads((tmp_path / "zoo" / "mine" / "experiment.json").read_text())["dataset"] == "digits"


def test_an_undeclared_experiment_is_refused_before_anything_is_written(tree, tmp_path):
    (tree / EXPERIMENT).rename(tree / "mine")
    with pytest.raises(ZooError, match="'mine' is not known"):
        export(tree, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_zoo_that_cannot_be_written_is_one_error(tree, tmp_path):
    (tmp_path / "zoo").write_text("a file")
    with pytest.raises(ZooError, match=r"zoo: is a file, expected the folder of a zoo"):
        export(tree, tmp_path / "zoo")


def test_runs_that_were_trained_otherwise_do_not_join_those_of_a_zoo(tmp_path):
    zoo, faster, labels = tmp_path / "zoo", replace(SHORT, learning_rate=0.2), replace_labels(load_digits())
    assert not train(zoo, 1)[0].error
    assert not train(tmp_path / "recipe", 2, DIGITS, faster, 0.5)[0].error
    assert not next(train_runs(work(2, ratio=0.5), labels, tmp_path / "data")).error
    for other, words in (
        ("recipe", "by another recipe (learning_rate is 0.1, not 0.2)"),
        ("data", "on other data (images, labels or their scale)"),
    ):
        outcomes = list(copy_runs(tmp_path / other, zoo, list_runs(tmp_path / other)))
        assert {one.error for one in outcomes} == {
            f"run digits-mlp/0.7/0 in {zoo} was trained {words}; name another zoo"
        }
    assert len(list_runs(zoo)) == 1


def test_runs_that_were_trained_alike_join_and_those_that_are_replaced_do_not_count(tmp_path):
    zoo, same, faster = tmp_path / "zoo", tmp_path / "same", tmp_path / "faster"
    assert not train(zoo, 1)[0].error
    assert not train(faster, 1, DIGITS, replace(SHORT, learning_rate=0.2))[0].error
    assert [one.error for one in copy_runs(faster, zoo, list_runs(faster), overwrite=True)] == [None]
    assert not train(same, 2, DIGITS, replace(SHORT, learning_rate=0.2), 0.5)[0].error
    assert [one.error for one in copy_runs(same, zoo, list_runs(same))] == [None, None]


@pytest.mark.parametrize("experiments", [1, 4])
def test_the_list_of_a_target_is_read_once_for_all_experiments(tmp_path, monkeypatch, experiments):
    """It was read for each: 200 of them took an hour into a zoo of 50,000 runs."""
    train(tmp_path / "zoo", 1)
    for number in range(experiments):
        train(tmp_path / "source", 1, replace(DIGITS, name=f"mine-{number}"))
    read, names = FolderZoo.read, []

    def note(self, name):
        if self.root == tmp_path / "zoo":
            names.append(name)
        return read(self, name)

    def index_unnoted(zoo):  # reads it to bring it up to date
        before = list(names)
        found = index_zoo(zoo)
        names[:] = before
        return found

    monkeypatch.setattr(FolderZoo, "read", note)
    monkeypatch.setattr("heldout_torch.zoo.writing.index_zoo", index_unnoted)
    outcomes = list(copy_runs(tmp_path / "source", tmp_path / "zoo", list_runs(tmp_path / "source")))
    assert [one.error for one in outcomes] == [None] * experiments
    assert names.count("manifest.json") == 1
