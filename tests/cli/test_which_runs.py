"""Which runs a verb takes: what is asked for and not there, patterns of experiments, and one look at the place."""

import shutil

import pytest

from heldout_torch.cli import main
from heldout_torch.experiments import known_experiments
from heldout_torch.zoo.folder import FolderZoo
from tests.helpers.archives import EXPERIMENT, multiply, pack
from tests.helpers.server import Server
from tests.helpers.zoos import declare, export

KEY = f"{EXPERIMENT}/0.7"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    return multiply(tmp_path / "tree", 6)


@pytest.fixture
def zoo(tree, tmp_path):
    """A zoo of `digits-mlp-tf`, and of `digits-other` with less runs."""
    export(tree, tmp_path / "zoo")
    other = tmp_path / "other" / "digits-other"
    shutil.copytree(tree / EXPERIMENT, other)
    shutil.rmtree(other / "0.7" / "5")
    declare(known_experiments()[EXPERIMENT], other)
    export(other.parent, tmp_path / "zoo")
    return tmp_path / "zoo"


def errors(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("verb", ["export", "export packed", "push", "check", "pull", "verify", "evaluate"])
def test_a_run_that_is_asked_for_and_not_there_is_an_error_and_the_others_are_taken(verb, zoo, tree, tmp_path, capsys):
    """Most verbs took what was there, and ended well."""
    new = tmp_path / "new"
    packed = pack(tree, tmp_path / "archive.tar.gz") if verb == "export packed" else None
    words, place = {
        "export": (["export", tree, "--zoo", new], tree),
        "export packed": (["export", packed, "--zoo", new], "archive.tar.gz"),
        "push": (["zoo", "push", zoo, new], zoo),
        "check": (["zoo", "check", zoo], zoo),
        "pull": (["zoo", "pull", "URL"], "URL"),
        "verify": (["verify", zoo], zoo),
        "evaluate": (["evaluate", zoo, "--out", new], zoo),
    }[verb]
    with Server(zoo).running() as server:
        words = [str(server.url if word == "URL" else word) for word in words]
        place = server.url if place == "URL" else place
        assert main([*words, "--experiment", EXPERIMENT, "--runs", "0,99"]) == 1
        assert errors(capsys) == [f"error: run {KEY}/99: is not in {place}"]
        assert main([*words, "--experiment", EXPERIMENT, "--runs", "0-99"]) == 1
        assert errors(capsys)[-1] == f"error: 74 more of the selected runs are not in {place}"
        assert main([*words, "--experiment", EXPERIMENT, "--subset-ratio", "0.7", "0.25"]) == 1
        assert errors(capsys) == [f"error: {place}: holds no such runs of subset ratio 0.25"]
        assert main([*words, "--experiment", EXPERIMENT, "--runs", "0-5"]) == 0
    if new.exists():
        assert len(list((new / KEY).glob("*/run.json"))) == 6


def test_shards_of_an_archive_share_what_is_not_there(tree, tmp_path, capsys):
    packed, told = pack(tree, tmp_path / "archive.tar.gz"), []
    for shard in range(2):
        words = ["export", str(packed), "--zoo", str(tmp_path / "new"), "--runs", "0,7-9", "--shard", f"{shard}/2"]
        assert main(words) == 1
        told += errors(capsys)
    assert told == [
        f"error: run {KEY}/7: is not in archive.tar.gz",
        f"error: run {KEY}/9: the same as run {KEY}/7",
        f"error: run {KEY}/8: is not in archive.tar.gz",
    ]


def test_a_list_is_of_what_is_there(zoo, capsys):
    assert main(["zoo", "list", str(zoo), "--runs", "0,99"]) == 0
    assert not errors(capsys)
    for verb in (["zoo", "list"], ["zoo", "check"]):
        with pytest.raises(SystemExit):
            main([*verb, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "such as 0-9,42; those that are there" in told
    assert "such as 0-9,42; one that is not there is an error" in told


def test_a_pattern_names_several_experiments(zoo, tree, tmp_path, capsys):
    """Only in Python it did."""
    new = str(tmp_path / "new")
    for words, line in (
        (["zoo", "list", zoo], None),
        (["zoo", "check", zoo], f"checked 11 runs of {zoo}, 0 wrong"),
        (["zoo", "push", zoo, new], f"copied 11 runs to {new}, 0 already there, 0 failed"),
        (["export", zoo, "--zoo", new], f"exported 0 runs to {new}, skipped 11 already there, 0 failed"),
    ):
        assert main([*map(str, words), "--experiment", "digits-*"]) == 0
        output = capsys.readouterr().out.splitlines()
        assert len(output) == 12 if line is None else output[-1] == line
    assert main(["zoo", "list", str(zoo), "--experiment", "*-tf"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    packed = str(pack(tree, tmp_path / "archive.tar.gz"))
    for source in (str(tree), str(tree / EXPERIMENT), packed):
        where = tmp_path / "out"
        assert main(["export", source, "--zoo", str(where), "--experiment", "*-mlp-*", "--runs", "0"]) == 0
        assert [path.name for path in where.iterdir() if path.is_dir()] == [EXPERIMENT]
        shutil.rmtree(where)


def test_a_verb_about_one_experiment_takes_a_pattern_that_one_fits(zoo, tmp_path, capsys):
    """Statistics took the pattern for a name."""
    scores, out = ["--out", str(tmp_path / "m.npz")], ["--out", str(tmp_path / "out")]
    page = ["--out", str(tmp_path / "page")]
    for words, line in (
        (["verify", str(zoo)], "holds runs of digits-mlp-tf, digits-other; choose one with --experiment"),
        (["evaluate", str(zoo), *out], "holds runs of digits-mlp-tf, digits-other; choose one with --experiment"),
        (["stats", "memorization", str(zoo), *scores], "give --experiment, one of digits-mlp-tf, digits-other"),
        (["report", str(zoo), *page], "give --experiment, one of digits-mlp-tf, digits-other"),
    ):
        assert main([*words, "--experiment", "digits-*"]) == 1
        assert errors(capsys) == [f"error: {zoo}: {line}"]
        assert main([*words, "--experiment", "x-*"]) == 1
        assert errors(capsys)[0].startswith(f"error: {zoo}: holds no such run; it has digits-mlp-tf/0.7 runs 0-5, ")
        assert main([*words, "--experiment", "*-tf"]) == 0


@pytest.mark.parametrize("named", [[], ["--experiment", EXPERIMENT]], ids=["alone", "named"])
def test_a_verb_lists_the_runs_of_a_place_once(named, tree, tmp_path, monkeypatch):
    """It was done again for every subset ratio, data set and run table: on a disk each is a look into all folders."""
    zoo, listed, keys = tmp_path / "zoo", [], FolderZoo.keys
    export(tree, zoo)

    def counted(self, experiment=None):
        listed.append(self.location)
        return keys(self, experiment)

    monkeypatch.setattr(FolderZoo, "keys", counted)
    for words in (
        ["stats", "memorization", zoo, "--out", tmp_path / "m.npz"],
        ["stats", "consistency", zoo, "--out", tmp_path / "c.npz", "--runs", "0-3"],
        ["stats", "consistency", zoo, "--out", tmp_path / "c.npz", "--table", tmp_path / "tables"],
        ["report", zoo, "--out", tmp_path / "report"],
        ["verify", zoo, "--runs", "0"],
        ["evaluate", zoo, "--out", tmp_path / "out", "--save", "outputs", "--shard", "0/2"],
        ["zoo", "check", zoo, "--runs", "0"],
    ):
        listed.clear()
        assert main([*map(str, words), *named]) == 0
        assert listed.count(str(zoo)) == 1, words
