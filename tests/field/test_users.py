"""Two users of one machine: what the other wrote is read where it may be, and never changed; one line where it may not.

The tests run as root, and give up its rights for a while.
"""

import os
import pwd
import shutil
import stat
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from heldout_torch import data, load_run
from heldout_torch.cli import main
from heldout_torch.evaluation.verification_log import check_log, default_log
from heldout_torch.stats.published import load_published
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.cache import cache_folder, cache_root
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from tests.helpers.published import served
from tests.helpers.server import Server
from tests.helpers.zoos import export, files_below

RECIPE = "epochs = 1\nbatch_size = 512\nlearning_rate = 0.1\n"
MINE = "--experiment digits-mlp-tf"
EXPERIMENT = "digits-mlp-tf"
READING = {
    "zoo list {zoo}": 0,
    "zoo check {zoo}": 0,
    "verify {zoo} --data {digits} --results {own}/log.jsonl": 0,
    "evaluate {zoo} --data {digits} --out {own}/evaluated": 0,
    "export {zoo} --zoo {own}/copied": 0,
    f"stats memorization {{zoo}} --data {{digits}} {MINE} --out {{own}}/m.npz --table {{own}}/table": 0,
    f"report {{zoo}} --data {{digits}} {MINE} --out {{own}}/page": 0,
}
WRITING = {
    "export {tree} --zoo {zoo}": 1,
    "export {tree} --zoo {zoo} --overwrite": 1,
    "zoo push {tree} {zoo} ": 1,
    "train digits-mlp --data {digits} --subset-ratio 0.7 --runs 0 --recipe {recipe} --zoo {zoo}": 1,
    "evaluate {tree} --data {digits} --out {zoo} --overwrite": 1,
    "evaluate {tree} --data {digits} --out {zoo} --save outputs": 1,
    "verify {zoo} --data {digits} --results {zoo}/log.jsonl": 1,
    f"stats memorization {{zoo}} --data {{digits}} {MINE} --out {{zoo}}/m.npz": 1,
    f"report {{zoo}} --data {{digits}} {MINE} --out {{zoo}}/page": 1,
    'declare mine --dataset digits --architecture mlp --config {{"widths":[8]}} --out {zoo}/mine.toml': 1,
}


# Some verbs read files of the package each time, which may lie where the other user may not look.
if not all(folder.stat().st_mode & stat.S_IXOTH for folder in Path(data.__file__).parents):
    READING = {words: status for words, status in READING.items() if not words.startswith(("stats", "report"))}
    WRITING = {words: status for words, status in WRITING.items() if not words.startswith(("stats", "report"))}


@pytest.fixture
def home(open_folder, monkeypatch, as_nobody):
    """A folder that all users may look into, with one of the other user's own."""
    (open_folder / "own").mkdir()
    os.chmod(open_folder / "own", 0o777)
    (open_folder / "quick.toml").write_text(RECIPE)
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(open_folder / "cache"))
    monkeypatch.setenv("HOME", str(open_folder / "own"))
    monkeypatch.chdir(open_folder)
    return open_folder


@pytest.fixture
def by_other(home, as_nobody):
    """What runs a command as the other user, and gives its status, and what it told."""
    recipe = home / "quick.toml"
    # Modules lie where the other user may not look: they are loaded before.
    warm, digits = home / "warm", shutil.copy(Path(data.__file__).parent / "digits.npz", home / "digits.npz")
    for words in (*READING, *WRITING, "zoo index {zoo}"):
        main(words.format(tree=sample_zoo(), zoo=warm, own=warm, digits=digits, recipe=recipe).split())
    shutil.rmtree(warm, ignore_errors=True)
    tree = shutil.copytree(sample_zoo(), home / "tree")

    def run(words, **places):
        names = {"tree": tree, "own": home / "own", "digits": digits, "recipe": recipe, **places}

        def work():
            with open(home / "own/told", "w") as told, redirect_stdout(told), redirect_stderr(told):
                return main(words.format(**names).split())

        status = as_nobody(work)
        return status, (home / "own/told").read_text()

    return run


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_anothers_zoo_is_read_where_it_may_be_and_never_written(umask, home, by_other):
    before = os.umask(umask)
    try:
        export(sample_zoo(), home / "zoo")
    finally:
        os.umask(before)
    there = files_below(home / "zoo")
    for words, status in READING.items():
        got, told = by_other(words, zoo=home / "zoo")
        assert got == str(status if umask == 0o022 else 1), (words, told)
        assert "Traceback" not in told
        assert umask == 0o022 or "Permission denied" in told, (words, told)
    for words, status in WRITING.items():
        got, told = by_other(words, zoo=home / "zoo")
        assert got == str(status), (words, told)
        assert "ermission denied" in told, (words, told)
        assert "Traceback" not in told
        assert len([line for line in told.splitlines() if line.startswith("error: ")]) == 1, (words, told)
    assert files_below(home / "zoo") == there


def test_two_users_fill_one_zoo(home, by_other):
    before = os.umask(0)
    try:
        (home / "zoo").mkdir()
        export(sample_zoo(), home / "zoo", runs=[0, 1])
        assert main(f"evaluate {sample_zoo()} --runs 0-1 --out {home}/evaluated".split()) == 0
        assert main(f"verify {home}/zoo --results {home}/log.jsonl".split()) == 0
        os.chmod(home / "log.jsonl", 0o666)
        for words in (
            "export {tree} --zoo {zoo}",
            "export {tree} --zoo {zoo} --runs 0 --overwrite",
            "zoo index {zoo}",
            "evaluate {tree} --data {digits} --out {zoo}/../evaluated",
            "verify {zoo} --data {digits} --results {zoo}/../log.jsonl",
        ):
            status, told = by_other(words, zoo=home / "zoo")
            assert status == "0", (words, told)
        assert main(f"export {sample_zoo()} --zoo {home}/zoo --runs 5 --overwrite".split()) == 0
        assert main(f"verify {home}/zoo --results {home}/log.jsonl".split()) == 0
    finally:
        os.umask(before)
    assert len(open_zoo(home / "zoo").keys()) == len(open_zoo(home / "evaluated").keys()) == 6
    for path in (home / "zoo").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666), path


@pytest.mark.parametrize("offline", [True, False])
def test_anothers_cache_serves(offline, home, as_nobody):
    export(sample_zoo(), home / "served")
    load_run(EXPERIMENT, 0.7, 0, home / "served")

    with Server(home / "served").running() as server:
        assert main(f"zoo pull {server.url} --runs 0-2".split()) == 0
        there, asked = files_below(home / "cache"), server.requests.total()
        answer = as_nobody(lambda: load_run(EXPERIMENT, 0.7, 1, server.url, offline=offline).key)
        assert answer == f"{EXPERIMENT}/0.7/1"
        assert server.requests.total() == asked
        zoo = open_zoo(server.url, offline)
        answer = as_nobody(lambda: [sorted(zoo.files(key).contents) for key in zoo.keys()[:3]][-1])
        assert answer == "['aux_arrays.npz', 'model.safetensors']"
        if not offline:
            assert as_nobody(lambda: load_run(EXPERIMENT, 0.7, 4, server.url).key) == f"{EXPERIMENT}/0.7/4"
            assert as_nobody(lambda: main(["zoo", "pull", server.url, "--runs", "0-2"])) == "0"
            assert as_nobody(lambda: main(["zoo", "pull", server.url])) == "1"  # they cannot be put there
    assert files_below(home / "cache") == there


@pytest.mark.parametrize("locks", ["there", "absent"])
def test_anothers_published_files_serve(locks, home, published_files, monkeypatch, as_nobody):
    with served(published_files[0], home, monkeypatch) as server:
        expected = load_published("cifar10-cscores").scores.sum()
        if locks == "absent":
            shutil.rmtree(home / "cache/published/.locks")
        there, asked = files_below(home / "cache"), server.requests.total()
        assert as_nobody(lambda: load_published("cifar10-cscores").scores.sum()) == str(expected)
        assert server.requests.total() == asked
        assert "cannot be written (Permission denied); set HELDOUT_TORCH_CACHE" in as_nobody(
            lambda: load_published("cifar100-cscores")
        )
        assert files_below(home / "cache") == there


def test_anothers_lock_is_waited_for_and_a_lock_that_may_not_be_opened_is_told(home, as_nobody):
    export(sample_zoo(), home / "served", runs=[0])
    with Server(home / "served").running() as server:
        folder = cache_folder(server.url)
        (folder / ".locks").mkdir(parents=True)
        for place in (home / "cache", folder, folder / ".locks"):
            os.chmod(place, 0o777)
        key = RunKey(EXPERIMENT, 0.7, 0)
        lock = folder / ".locks" / f"{key}/model.safetensors".replace("/", "_")
        lock.touch(0o600)
        told = as_nobody(lambda: _warned(lambda: open_zoo(server.url).state(key)))
        assert "cannot be written (Permission denied), so fetched files are not kept" in told
        assert not (folder / str(key) / "model.safetensors").exists()


def _warned(action) -> list[str]:
    import warnings

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        action()
    return [str(one.message) for one in seen]


def test_training_goes_on_from_anothers_state(home, by_other):
    before = os.umask(0)
    try:
        words = f"train digits-mlp --subset-ratio 0.7 --runs RUN --recipe {home}/quick.toml --zoo {home}/zoo"
        words += f" --data {home}/digits.npz"
        assert main(words.replace("RUN", "0").split()) == 0
        status, told = by_other(words.replace("RUN", "0-1"))
        assert status == "0", told
        assert main(words.replace("RUN", "0-2").split()) == 0
    finally:
        os.umask(before)
    assert len(open_zoo(home / "zoo").keys()) == 3


def test_a_user_without_a_home_keeps_nothing_in_a_folder_of_that_name(open_folder, monkeypatch, as_nobody):
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "HELDOUT_TORCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # known by number only, as a container's user
    monkeypatch.chdir(open_folder)
    assert cache_root().is_absolute()
    log = default_log(FolderZoo(open_folder))
    said = as_nobody(lambda: check_log(log))
    assert said.startswith("UnwritableError: /~/.cache/torch/hub/heldout_torch/verifications: cannot be written")
    assert not list(open_folder.iterdir())
