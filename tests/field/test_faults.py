"""Every verb that writes, on a file system that refuses something at some moment: one line, nothing half-written."""

import builtins
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from heldout_torch.cli import main
from heldout_torch.storage.npz import map_npy
from heldout_torch.zoo import sample_zoo
from tests.helpers.zoos import export

MINE = ["--experiment", "digits-mlp-tf"]
RECIPE = "epochs = 1\nbatch_size = 512\nlearning_rate = 0.1\n"
VERBS = {
    "export": "export {tree} --zoo {out}/zoo --runs 0",
    "train": "train digits-mlp --subset-ratio 0.7 --runs 0 --recipe {tmp}/quick.toml --zoo {out}/zoo",
    "evaluate": "evaluate {tree} --runs 0 --out {out}/zoo",
    "outputs": "evaluate {tree} --runs 0 --out {out}/zoo --save outputs",
    "verify": "verify {tree} --runs 0 --results {out}/log.jsonl",
    "zoo index": "zoo index {out}/there",
    "zoo push": "zoo push {tree} {out}/zoo --runs 0",
    "archive index": "archive index {archive} --out {out}/index.seek",
    "memorization": "stats memorization {tree} --experiment digits-mlp-tf --subset-ratio 0.7 --out {out}/m.npz",
    "table": "stats memorization {tree} --experiment digits-mlp-tf --subset-ratio 0.7 --out {tmp}/m.npz "
    "--table {out}/table",
    "pairs": "stats pairs {tree} --experiment digits-mlp-tf --subset-ratio 0.7 --out {out}/p.csv",
    "report": "report {tree} --experiment digits-mlp-tf --out {out}/page",
    "declare": "declare mine --dataset digits --architecture mlp --config {config} --out {out}/mine.toml",
}
FAULTS = {
    "open": (errno.EACCES, [(builtins, "open")]),
    "write": (errno.EDQUOT, [(os, "fsync")]),  # network file systems tell of a full quota only here
    "full": (errno.ENOSPC, [(os, "fsync")]),
    "rename": (errno.EROFS, [(os, "rename"), (os, "replace")]),
    "mkdir": (errno.EDQUOT, [(os, "mkdir")]),
}

NO_SUCH_CALL = {  # what a verb does not do
    ("verify", "rename"),
    *((verb, "mkdir") for verb in ("verify", "zoo index", "archive index", "memorization", "pairs", "declare")),
}


def fail(monkeypatch, fault, folder):
    """Let calls fail that would write below a folder."""
    number, places = FAULTS[fault]
    for module, name in places:
        real = getattr(module, name)

        def call(*arguments, real=real, name=name, **options):
            what = arguments[0]
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) and name == "fsync" else str(what)
            reads = name == "open" and not set((*arguments[1:2], options.get("mode", "r"))[0]) & set("wxa+")
            if path.startswith(str(folder)) and not reads:
                raise OSError(number, os.strerror(number), path)
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, call)
    return os.strerror(number)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_in_a_line_what_the_file_system_refuses(verb, fault, sources, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "quick.toml").write_text(RECIPE)
    if verb == "zoo index":
        export(sample_zoo(), out / "there", runs=[0])
        (out / "there/manifest.json").unlink()
    before = sorted(out.rglob("*"))
    words = [word.format(**sources, out=out, tmp=tmp_path) for word in VERBS[verb].split()]
    with monkeypatch.context() as patch:
        message = fail(patch, fault, out)
        status = main(words)
    lines = capsys.readouterr().err.splitlines()
    if status == 0:  # it makes no such call
        assert (verb, fault) in NO_SUCH_CALL
        return
    assert status == 1
    assert any(message in line for line in lines if line.startswith("error: "))
    assert not any(line.startswith(("Traceback", "  File")) for line in lines)
    left = [path for path in out.rglob("*") if path not in before and path.is_file()]
    assert not [path for path in left if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["ENODEV", "ENOSYS", "EINVAL"])
def test_where_no_file_is_mapped_it_is_read(tmp_path, monkeypatch, name):
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    assert isinstance(map_npy(tmp_path / "a.npy"), np.memmap)

    def refuse(*_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(np, "memmap", refuse)
    np.testing.assert_array_equal(map_npy(Path(tmp_path / "a.npy")), array)
