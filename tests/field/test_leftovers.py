"""What killed writers left goes with the next one, wherever a verb writes; a cache keeps no parts of old versions."""

import shutil

import pytest

from heldout_torch import ZooError, load_run
from heldout_torch.cli import main
from heldout_torch.stats import load_published
from heldout_torch.zoo import cache, sample_zoo
from heldout_torch.zoo.keys import RunKey
from tests.helpers.archives import EXPERIMENT
from tests.helpers.server import Server
from tests.helpers.zoos import export
from tests.storage.test_files import HOURS, age

LEFT = f".partial-{1:032x}"
MINE = f"--experiment {EXPERIMENT} --subset-ratio 0.7"
# Commands, and folders in which others that were killed had begun files; RUN is a run that is still to do.
VERBS = {
    "export {tree} --zoo {out}/zoo --runs RUN": ["zoo", f"zoo/{EXPERIMENT}", f"zoo/{EXPERIMENT}/0.7"],
    "evaluate {tree} --out {out}/zoo --runs RUN": ["zoo", f"zoo/{EXPERIMENT}/0.7/evaluations"],
    "archive index {archive} --out {out}/indices/RUN.seek": ["indices"],
    f"stats pairs {{tree}} {MINE} --out {{out}}/tables/RUN.csv": ["tables"],
    f"stats memorization {{tree}} {MINE} --out {{out}}/tables/RUN.npz": ["tables"],
    "declare mine-RUN --dataset digits --architecture mlp --config {config} --out {out}/own/mine-RUN.toml": ["own"],
}


def leave(folder):
    """Leave what a writer that was killed two hours ago had begun."""
    (folder / LEFT).write_bytes(b"half")
    age(folder / LEFT, 2 * HOURS)
    return folder / LEFT


@pytest.mark.parametrize("words", VERBS)
def test_what_a_killed_verb_left_goes_with_the_next_one(words, sources, tmp_path):
    def run(number):
        command = words.replace("RUN", number).split()
        assert main([word.format(**sources, out=tmp_path) for word in command]) == 0

    run("0")
    left = [leave(tmp_path / folder) for folder in VERBS[words]]
    run("1")
    assert not [path for path in left if path.exists()]


def test_what_a_killed_fetch_of_a_published_file_left_goes(published_server, tmp_path):
    load_published("cifar10-cscores")
    left = leave(tmp_path / "cache/published")
    load_published("cifar100-pairs")
    assert not left.exists()


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    export(sample_zoo(), tmp_path / "zoo", runs=[0, 1])
    with Server(tmp_path / "zoo").running() as server:
        yield server


def test_a_cache_of_a_zoo_keeps_no_leavings(served):
    main(["zoo", "list", served.url])
    left = leave(cache.cache_folder(served.url))
    main(["zoo", "list", served.url])
    assert not left.exists()


def test_a_cache_keeps_no_parts_of_a_version_that_was_replaced(served, tmp_path, monkeypatch):
    key = RunKey(EXPERIMENT, 0.7, 0)
    name = f"{key}/model.safetensors"
    monkeypatch.setattr(cache, "CHUNK", 1000)
    served.faults[name] = [""] * 5 + ["500"] * 100
    with pytest.raises(ZooError, match="cannot be reached"):
        load_run(str(key), zoo=served.url)
    incoming = cache.cache_folder(served.url) / ".incoming"
    assert [path.stat().st_size for path in incoming.rglob("*") if path.is_file()] == [5000]
    served.faults.clear()
    shutil.rmtree(tmp_path / "zoo")
    main(["export", str(sample_zoo()), "--zoo", str(tmp_path / "zoo"), "--runs", "0", "--dtype", "bfloat16"])
    assert load_run(str(key), zoo=served.url).metadata.dtype == "bfloat16"
    assert not [path for path in incoming.rglob("*") if path.is_file()]
