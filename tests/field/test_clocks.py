"""Clocks of other machines, two hours ahead or behind: nobody's work is removed, and nothing is stale by a clock."""

import contextlib
import errno
import fcntl
import os
import time

import pytest

from heldout_torch.cli import main
from heldout_torch.storage.files import new_folder, write_plainly
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.indexing import index_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable
from tests.helpers.server import Server
from tests.helpers.zoos import export, files_below
from tests.storage.test_files import HOURS

RECIPE = "epochs = 1\nbatch_size = 512\nlearning_rate = 0.1\n"
MINE = "--experiment digits-mlp-tf"
# Commands that clean up after killed writers, with the run that is still to do.
WRITING = {
    "export": "export {tree} --zoo {out}/zoo --runs RUN",
    "train": "train digits-mlp --subset-ratio 0.7 --runs RUN --recipe {out}/quick.toml --zoo {out}/zoo",
    "evaluate": "evaluate {tree} --runs RUN --out {out}/zoo",
    "push": "zoo push {tree} {out}/zoo --runs RUN",
    "scores": f"stats memorization {{tree}} {MINE} --subset-ratio 0.7 --table {{out}}/table --out {{out}}/RUN.npz",
    "pairs": f"stats pairs {{tree}} {MINE} --subset-ratio 0.7 --out {{out}}/RUN.csv",
    "report": f"report {{tree}} {MINE} --out {{out}}/pageRUN",
}


def run(words, out):
    return main(words.format(tree=sample_zoo(), out=out).split())


def shift(path, seconds):
    """Set the times of a file, or of a folder and what is in it, so far from now."""
    for each in [path, *(path.rglob("*") if path.is_dir() else [])]:
        os.utime(each, (time.time() + seconds,) * 2)


@pytest.fixture
def no_locks(monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("hours", [-2, 2])
@pytest.mark.parametrize("verb", WRITING)
def test_what_another_machine_is_writing_stays(verb, hours, locks, tmp_path, monkeypatch, request):
    (tmp_path / "quick.toml").write_text(RECIPE)
    assert run(WRITING[verb].replace("RUN", "0"), tmp_path) == 0
    if not locks:
        request.getfixturevalue("no_locks")
    now = time.time
    with contextlib.ExitStack() as stack:
        # The folder of a table appears as a whole, and nobody writes within it.
        folders = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir() and not path.match("table/*/*")]
        written = [stack.enter_context(new_folder(folder / "9999")) for folder in folders]
        for folder in written:
            write_plainly(folder / "file", b"half")
            shift(folder, hours * HOURS)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now() - hours * HOURS)
            assert run(WRITING[verb].replace("RUN", "1"), tmp_path) == 0
        assert all((folder / "file").read_bytes() == b"half" for folder in written)


@pytest.mark.parametrize("hours", [-2, 2])
def test_nothing_is_done_again_or_stale_by_a_clock(hours, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    zoo, out = tmp_path / "zoo", tmp_path / "out"
    export(sample_zoo(), zoo)
    with Server(zoo).running() as server:
        commands = {
            f"export {sample_zoo()} --zoo {zoo}": "skipped 6 already there",
            f"evaluate {zoo} --out {out}": "6 already there",
            f"verify {zoo} --results {tmp_path}/log.jsonl": "6 runs verified",
            f"zoo index {zoo}": "6 runs",
            f"zoo check {zoo}": "0 wrong",
            f"zoo pull {server.url}": "6 runs in",
            f"zoo list {server.url}": "digits-mlp-tf/0.7/5",
            f"zoo push {zoo} {out}": "6 already there",
        }
        for words in commands:
            assert main(words.split()) == 0
        before = files_below(tmp_path)
        shift(tmp_path, hours * HOURS)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - hours * HOURS)
        capsys.readouterr()
        for words, told in commands.items():
            assert main(words.split()) == 0
            said = capsys.readouterr()
            assert told in said.out, words
            assert "stale" not in said.out + said.err
    assert files_below(tmp_path) == before


def test_a_model_replaced_while_the_clock_was_put_back_gets_a_new_record(tmp_path):
    """Times of the system are not ours to set: the listing of the zoo says that the model is the older file."""
    key, zoo = RunKey("digits-mlp-tf", 0.7, 0), open_writable(tmp_path)
    export(sample_zoo(), tmp_path, runs=[0, 1])
    path = tmp_path / str(key) / "model.safetensors"
    listing, record = type(zoo).listing, zoo.record(key)
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))

    class PutBack(type(zoo)):
        def listing(self):
            name = f"{key}/model.safetensors"
            return {**(found := listing(self)), name: found[name]._replace(changed=1)}

    index_zoo(PutBack(tmp_path))
    assert open_writable(tmp_path).record(key) != record


def test_a_table_is_not_taken_for_one_of_other_runs_by_times(tmp_path, capsys):
    zoo, table = tmp_path / "zoo", tmp_path / "table"
    export(sample_zoo(), zoo, runs=[0, 1, 2])
    words = f"stats memorization {zoo} {MINE} --subset-ratio 0.7 --table {table} --out {tmp_path}/"
    assert main([*words.split()[:-1], f"{tmp_path}/a.npz"]) == 0
    shift(table, 2 * HOURS)
    export(sample_zoo(), zoo, runs=[3])
    shift(zoo, -2 * HOURS)
    assert main([*words.split()[:-1], f"{tmp_path}/b.npz"]) == 1
    assert "holds 3 runs, not the 4 asked for" in capsys.readouterr().err
