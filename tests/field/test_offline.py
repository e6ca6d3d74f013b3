"""`HELDOUT_TORCH_OFFLINE=1`: everything that would use the network says so in one line, at once, without a try.

Also of storage/offline.py.
"""

import socket
import time

import pytest

import hubconf
from heldout_torch import HeldoutError, list_runs, load_dataset, load_run
from heldout_torch.archives.remote_stream import open_stream, version_of
from heldout_torch.cli import main
from heldout_torch.stats.published import load_published
from heldout_torch.stats.run_table import RunTable
from heldout_torch.storage import hub, retries
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import check_ranges, read_file, read_range, remove_file, write_file
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.server import Server
from tests.helpers.zoos import export

FORBIDDEN = "HELDOUT_TORCH_OFFLINE forbids the use of the network"
WEB, BUCKET, HUB = "http://127.0.0.1:1/zoo", "s3://bucket/zoo", "hf://datasets/me/zoo"
PLACES = (WEB, BUCKET, HUB, f"{WEB}.tar.gz", f"{BUCKET}.tar.gz")
MINE = "--experiment digits-mlp-tf --subset-ratio 0.7"
KEY = RunKey("digits-mlp-tf", 0.7, 0)
TRAIN = "train digits-mlp --subset-ratio 0.5 --runs 0"

READING = f"""
export PLACE --zoo copied
verify PLACE --results log.jsonl
evaluate PLACE --out evaluated
evaluate PLACE {MINE} --save outputs --out evaluated
stats memorization PLACE {MINE} --out scores.npz
stats pairs PLACE {MINE} --out pairs.csv
stats accuracy PLACE
report PLACE --experiment digits-mlp-tf --out page
zoo list PLACE
zoo check PLACE
zoo push PLACE copied
zoo pull PLACE"""
WRITING = f"""
zoo index PLACE
{TRAIN} --zoo PLACE
experiment{TRAIN.removeprefix("train")} --zoo PLACE --out made
evaluate TREE --out PLACE
evaluate TREE --save outputs --out PLACE
export TREE --zoo PLACE
zoo push TREE PLACE"""
OTHERS = f"""
archive inspect {WEB}.tar.gz
archive inspect {BUCKET}.tar.gz
archive index {WEB}.tar.gz --out i.seek
archive index {BUCKET}.tar.gz --out i.seek
export cifar10-inception --zoo copied
published fetch cifar10-cscores
stats keep --fraction 0.5 --out keep.npz --by cifar10-cscores
train cifar10-inception --subset-ratio 0.5 --runs 0 --zoo out --data empty --download
train cifar100-inception --subset-ratio 0.5 --runs 0 --zoo out --data empty --download
train mnist-mlp --subset-ratio 0.5 --runs 0 --zoo out --data empty --download
declare mine --dataset cifar100 --architecture small_inception --data empty --download"""
VERBS = [
    *(line.replace("PLACE", place) for place in PLACES for line in READING.strip().split("\n")),
    *(line.replace("PLACE", place) for place in (BUCKET, HUB) for line in WRITING.strip().split("\n")),
    *OTHERS.strip().split("\n"),
]

CALLS = {
    "load_run": lambda: load_run(*vars_of(KEY), WEB),
    "list_runs": lambda: list_runs(BUCKET),
    "hubconf": lambda: hubconf.digits_mlp_tf(run=0, zoo=WEB),
    "hubconf hub": lambda: hubconf.digits_mlp_tf(run=0, zoo=HUB),
    "published": lambda: load_published("cifar10-cscores"),
    "cifar10": lambda: load_dataset("cifar10", "empty", download=True),
    "cifar100": lambda: load_dataset("cifar100", "empty", download=True),
    "mnist": lambda: load_dataset("mnist", "empty", download=True),
    "table": lambda: RunTable.from_zoo(BUCKET, "digits-mlp-tf", 0.7),
    "open_writable": lambda: open_writable(BUCKET),
    "read_file": lambda: read_file(f"{WEB}/a"),
    "read_range": lambda: read_range(f"{BUCKET}/a", 0, 9),
    "write_file": lambda: write_file(f"{BUCKET}/a", b""),
    "remove_file": lambda: remove_file(f"{BUCKET}/a"),
    "check_ranges": lambda: check_ranges(f"{WEB}/a", 9),
    "list_files": lambda: list_files(BUCKET),
    "open_stream": lambda: open_stream(f"{WEB}.tar.gz"),
    "open_stream bucket": lambda: open_stream(f"{BUCKET}.tar.gz"),
    "version_of": lambda: version_of(f"{WEB}.tar.gz"),
    "hub listing": lambda: hub.list_files(HUB),
    "hub access": lambda: hub.check_access(HUB),
    "hub commit": lambda: hub.commit(HUB, [], "nothing"),
    "hub upload": lambda: hub.upload(HUB, []),
    **{
        f"{name} of {place}": lambda name=name, place=place: getattr(open_zoo(place), name)(KEY)
        for place in (WEB, BUCKET, HUB)
        for name in ("record", "metadata", "aux", "state", "files", "__contains__")
    },
    **{
        f"fetch of {place}": lambda place=place: open_zoo(place).fetch(KEY, lambda count: None)
        for place in (WEB, BUCKET, HUB)
    },
}  # fmt: skip


def vars_of(key):
    return key.experiment, key.subset_ratio, key.run


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and whoever tries to reach it fails the test."""

    def reached(*arguments, **_):
        raise AssertionError(f"the network is used: {arguments}")

    def asleep(seconds):
        raise AssertionError(f"waits for {seconds} s")

    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    for name in ("HELDOUT_TORCH_PUBLISHED", "HELDOUT_TORCH_ZOO"):
        monkeypatch.delenv(name, raising=False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, reached)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, reached)
    monkeypatch.setattr(time, "sleep", asleep)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()


@pytest.mark.parametrize("words", VERBS)
def test_a_verb_says_that_the_network_is_forbidden(words, offline, capfd):
    status = main(words.replace("TREE", str(sample_zoo())).split())
    told = capfd.readouterr().err.splitlines()
    assert status == 1
    assert [line for line in told if FORBIDDEN in line], told
    assert all("Traceback" not in line for line in told)
    assert len(told) == 1, told


@pytest.mark.parametrize("name", CALLS)
def test_a_call_raises_one_line(name, offline):
    with pytest.raises(HeldoutError, match=FORBIDDEN) as error:
        CALLS[name]()
    assert "\n" not in str(error.value)
    assert "; unset it, or" in str(error.value)


def test_what_is_cached_is_served_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    export(sample_zoo(), tmp_path / "served", runs=[0, 1])
    with Server(tmp_path / "served").running() as server:
        assert main(["zoo", "pull", server.url]) == 0
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    for words in ("zoo list", "zoo check", "export --zoo copied", "evaluate --out evaluated", "report --out page"):
        verb, *options = words.split(" --")
        monkeypatch.chdir(tmp_path)
        more = [word for option in options for word in f"--{option}".split()]
        assert main([*verb.split(), server.url, *more]) == 0
    for name in ("0/model.safetensors", "1/aux_arrays.npz", "1/run.json"):
        there, copied = (tmp_path / place / "digits-mlp-tf/0.7" / name for place in ("served", "copied"))
        assert there.read_bytes() == copied.read_bytes()


@pytest.mark.parametrize("place", [WEB, BUCKET, HUB, f"{WEB}.tar.gz", f"{BUCKET}.tar.gz"])
@pytest.mark.parametrize(
    "words",
    [
        "zoo list PLACE",
        "archive index PLACE --out i.seek",
        "archive inspect PLACE",
        "export PLACE --zoo copied",
        "zoo push TREE PLACE",
        f"{TRAIN} --zoo PLACE",
    ],
)
def test_without_a_network_a_verb_ends_within_seconds(words, place, tmp_path, monkeypatch, capfd, request):
    """Nothing answers at port 1; what is waited before further tries is counted, and not waited."""
    if place.startswith("s3"):
        request.getfixturevalue("bucket")
        request.getfixturevalue("turn_off_server")()
    monkeypatch.setattr(retries, "WAITS", (0.2, 1.0, 3.0))
    for name, value in {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_TOKEN": "hf_abcdefghij"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    slept = request.getfixturevalue("slept")  # after those, which wait for the bucket's server
    assert main(words.replace("TREE", str(sample_zoo())).replace("PLACE", place).split()) == 1
    assert sum(slept) < 15
    told = capfd.readouterr().err
    assert told.count("error: ") == 1
    assert "there is no such" not in told
