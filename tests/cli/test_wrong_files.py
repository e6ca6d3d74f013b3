"""A file of a wrong kind is told in one line that names it and what it is, or what was expected, before the work.

Also of storage/kinds.py.
"""

import io
import re

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.storage.kinds import kind_of

EXPERIMENT = "digits-mlp-tf"
# What Python and libraries say of such files in words of their own.
JARGON = re.compile(r"codec|Errno|is not a zip file|Expecting value|HeaderToo|Traceback|None")


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(5))
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.arange(5))
    return buffer.getvalue()


CONTENTS = {
    "text": (b"my notes\n", "text that begins with 'my notes'"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "a picture"),
    "photograph": (b"\xff\xd8\xff\xe0" + bytes(200), "a picture"),
    "empty": (b"", "empty"),
    "json": (b'\xef\xbb\xbf{"a": 1}', "JSON"),
    "page": (b"<!doctype html><p>404", "a web page"),
    "npz": (npz(), "a zip file, as npz files and PyTorch's are"),
    "cut": (npz()[:100], "a zip file, as npz files and PyTorch's are"),
    "npy": (npy(), "an npy file"),
    "pickle": (b"\x80\x04]q\x00.", "a pickle"),
    "weights": (b"\x10" + bytes(7) + b'{"w": 1}', "a safetensors file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "a file packed by gzip"),
    "zeros": (bytes(100), r"a file that begins with b'\x00\x00\x00\x00\x00\x00\x00\x00'"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "a pointer of Git LFS, not the file itself, which `git lfs pull` fetches",
    ),
}
TRAIN = ["train", "digits-mlp", "--runs", "0", "--zoo", "NEW"]
OWN = ["--name", "mine", "--subset", "X"]
DECLARE = ["declare", "mine", "--architecture", "mlp", "--config", '{"widths": [4]}', "--out", "mine.toml"]
READERS = {  # the words, and the endings under which the file is given
    "archive index": (["archive", "index", "X"], [".tar.gz", ".txt"]),
    "zoo list": (["zoo", "list", "X"], [".zip", ".npz"]),
    "verify": (["verify", "X"], [".safetensors", ""]),
    "verify --data": (["verify", "ZOO", "--data", "X"], [".npz", ".txt"]),
    "stats": (["stats", "memorization", "X", "--out", "out.npz"], [".npz"]),
    "stats --labels": (["stats", "pairs", "ZOO", "--out", "out.npz", "--labels", "X"], [".npz", ".csv", ".txt"]),
    "report": (["report", "X", "--out", "new"], [".html"]),
    "report --stats": (["report", "ZOO", "--out", "new", "--stats", "X"], [".npz", ""]),
    "report --classes": (["report", "ZOO", "--out", "new", "--classes", "X"], [".txt"]),
    "train": ([*TRAIN[:1], "X", *TRAIN[2:], "--subset-ratio", "0.5"], [".toml", ".json"]),
    "train --subset": ([*TRAIN, *OWN], [".npz", ".npy", ".csv", ".parquet", ".txt", ".json"]),
    "train --subset --order": ([*TRAIN, *OWN, "--order", "original"], [".npz", ".csv", ".png"]),
    "train --recipe": ([*TRAIN, "--subset-ratio", "0.5", "--recipe", "X"], [".toml"]),
    "train --data": ([*TRAIN, "--subset-ratio", "0.5", "--data", "X"], [".npz", ".csv"]),
    "declare --data": ([*DECLARE, "--data", "X"], [".npz", ".h5"]),
    "declare CIFAR": ([*DECLARE, "--dataset", "cifar10", "--data", "X"], [".npz", ".tar.gz"]),
    "declare ImageNet": ([*DECLARE, "--dataset", "imagenet", "--data", "X"], [".npz", ""]),
    "declare --recipe": ([*DECLARE, "--dataset", "digits", "--recipe", "X"], [".toml"]),
    "export": (["export", "X", "--zoo", "NEW"], [".tar.gz", ".npz"]),
    "evaluate": (["evaluate", "X", "--out", "new.npz", "--experiment", EXPERIMENT, "--subset", "X"],
                 [".safetensors", ".pt", ".txt"]),
    "evaluate --subset": (["evaluate", "MODEL", "--out", "new.npz", "--experiment", EXPERIMENT, "--subset", "X"],
                          [".npz", ".npy", ".csv", ".txt"]),
}  # fmt: skip


def wrong_files(folder, ending):
    for name, (content, _) in CONTENTS.items():
        path = folder / f"{name}{ending}"
        path.write_bytes(content)
        yield path
    (folder / f"folder{ending}").mkdir()
    yield folder / f"folder{ending}"
    yield folder / f"missing{ending}"


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_another_kind_is_one_line_and_nothing_is_written(reader, made, tmp_path, monkeypatch, capsys):
    words, endings = READERS[reader]
    (tmp_path / "wrong").mkdir()
    monkeypatch.chdir(tmp_path)
    names = {"ZOO": made / "zoo", "MODEL": made / "model.safetensors", "NEW": tmp_path / "new"}
    for ending in endings:
        for path in wrong_files(tmp_path / "wrong", ending):
            capsys.readouterr()
            assert main([*map(str, ({**names, "X": path}.get(word, word) for word in words)), "--quiet"]) == 1
            output = capsys.readouterr()
            assert output.out == ""
            (line,) = output.err.splitlines()
            assert line.startswith("error: ")
            assert path.name in line or re.search("class names? given|need a .safetensors file", line), line
            assert not JARGON.search(line), line
            assert {there.name for there in tmp_path.iterdir()} <= {"wrong", "cache"}, line


@pytest.mark.parametrize(("content", "kind"), CONTENTS.values(), ids=CONTENTS)
def test_a_kind_is_said_by_the_first_bytes(content, kind, tmp_path):
    (tmp_path / "x").write_bytes(content)
    assert kind_of(content) == kind_of(tmp_path / "x") == kind
    assert kind_of(tmp_path) == kind_of(tmp_path / "missing") == "unreadable"
