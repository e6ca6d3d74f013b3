"""Where nothing can be written is told in one line, before the work, by every option that names an output."""

import importlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.storage.files import write_atomically

EXPERIMENT = "digits-mlp-tf"
TRAIN = ["digits-mlp", "--runs", "0", "--subset-ratio", "0.5"]
FILES = {
    "stats memorization": (["stats", "memorization", "ZOO", "--out", "X"], "x.npz"),
    "stats consistency": (["stats", "consistency", "ZOO", "--out", "X"], "x.parquet"),
    "stats influence": (["stats", "influence", "ZOO", "--out", "X"], "x.npz"),
    "stats pairs": (["stats", "pairs", "ZOO", "--out", "X"], "x.csv"),
    "stats keep": (["stats", "keep", "ZOO", "--by", "memorization", "--fraction", "1", "--out", "X"], "x.csv"),
    "stats accuracy": (["stats", "accuracy", "ZOO", "--out", "X"], "x.csv"),
    "export --index": (["export", "ZOO", "--zoo", "new", "--index", "X"], "x.seek"),
    "evaluate": (["evaluate", "MODEL", "--experiment", EXPERIMENT, "--subset", "s.npy", "--out", "X"], "x.npz"),
    "declare": (["declare", "x", "--dataset", "digits", "--architecture", "mlp", "--out", "X"], "x.toml"),
    "archive index": (["archive", "index", "ZOO", "--out", "X"], "x.seek"),
    "verify": (["verify", "ZOO", "--results", "X"], "x.jsonl"),
}
FOLDERS = {
    "stats --table": ["stats", "memorization", "ZOO", "--out", "new.npz", "--table", "X"],
    "report": ["report", "ZOO", "--out", "X"],
    "experiment --out": ["experiment", *TRAIN, "--zoo", "new", "--out", "X"],
    "experiment --zoo": ["experiment", *TRAIN, "--zoo", "X"],
    "train": ["train", *TRAIN, "--zoo", "X"],
    "train --save": ["train", *TRAIN, "--zoo", "X", "--save", "outputs"],
    "export": ["export", "ZOO", "--zoo", "X"],
    "evaluate": ["evaluate", "ZOO", "--out", "X"],
    "evaluate --save": ["evaluate", "ZOO", "--out", "X", "--save", "outputs"],
    "zoo push": ["zoo", "push", "ZOO", "X"],
    "zoo index": ["zoo", "index", "X"],
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    for module, name in (
        ("cli.tables", "RunTable"), ("cli.evaluate_file", "load_file"), ("cli.verify", "verify_runs"),
        ("training.worker", "fit"), ("evaluation.save", "evaluate_splits"),
    ):  # fmt: skip
        module = importlib.import_module(f"heldout_torch.{module}")
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("work has begun"))


def refused(words, names, capsys):
    capsys.readouterr()
    assert main([*map(str, (names.get(word, word) for word in words)), "--quiet"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("option", FILES)
def test_what_is_no_file_is_not_replaced(option, made, tmp_path, monkeypatch, capsys):
    """A device was, for the superuser: `archive index RUNS --out /dev/null` left a file in its place."""
    words, name = FILES[option]
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a file")
    Path("folder", name).mkdir(parents=True)
    Path("pipe").mkdir()
    os.mkfifo(Path("pipe", name))
    names = {"ZOO": made / "zoo", "MODEL": made / "model.safetensors"}
    for place, why in (
        ("file", "is a file, expected a folder"),
        ("folder", "is a folder, expected the name of a file"),
        ("pipe", "is a device or a pipe, expected the name of a file"),
    ):
        assert why in refused(words, {**names, "X": Path(place, name)}, capsys)
    assert stat.S_ISFIFO(Path("pipe", name).stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "folder", "pipe", "cache"}


@pytest.mark.parametrize("option", FOLDERS)
def test_a_folder_is_not_made_in_a_file_or_a_device(option, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a file")
    for place in ("file/x", "file", "/dev/full", "/proc/x"):
        line = refused(FOLDERS[option], {"ZOO": made / "zoo", "X": place}, capsys)
        assert place.split("/x")[0] in line
    assert Path("file").read_text() == "a file"
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "cache"}


def test_a_pipe_is_not_replaced_in_python_either(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="It is a device or a pipe"):
        write_atomically(tmp_path / "pipe", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_other_places_take_what_is_written(made, tmp_path, monkeypatch):
    """What the others refuse for another reason would prove nothing."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    np.save("s.npy", np.arange(700))
    names = {"ZOO": made / "zoo", "MODEL": made / "model.safetensors"}
    for option in ("stats memorization", "stats keep", "evaluate"):
        words, name = FILES[option]
        more = ["--order", "published"] if option == "evaluate" else ["--empty-zero"]
        assert main([*map(str, ({**names, "X": name}.get(word, word) for word in words)), *more]) == 0
