"""Exports by URL as large as a test can be: killed at any moment, from a server with every fault, in bounded memory."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from isal import igzip

from heldout_torch.archives.remote_stream import HttpStream
from heldout_torch.archives.stream import export_archive
from heldout_torch.zoo import sample_zoo
from tests.helpers.archives import contents
from tests.helpers.scripted import Script, serving
from tests.helpers.zoos import export as export_tree
from tests.reference import run_reference

EXPERIMENT, RUNS = "cifar10-inception", 8


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An archive of 8 runs of SmallInception, 110 MB, and the contents of its tree's export."""
    folder = tmp_path_factory.mktemp("large")
    tree = folder / "tree"
    run_reference("published_runs", tree, "cifar10-inception", "0.5", 0, 1)
    for run in range(2, RUNS):
        shutil.copytree(tree / EXPERIMENT / "0.5" / str(run % 2), tree / EXPERIMENT / "0.5" / str(run))
    archive = folder / "runs.tar.gz"
    subprocess.run(f"tar cf - -C {tree} {EXPERIMENT} | gzip -1 > {archive}", shell=True, check=True)
    export_tree(tree, folder / "zoo")
    shutil.rmtree(tree)
    expected = contents(folder / "zoo")
    shutil.rmtree(folder / "zoo")
    return archive.read_bytes(), expected


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_cost_little_each(tmp_path):
    """Each cost 1.7 MB on a busy machine: a tenth of an archive of 340 MB for twenty; 12,000 runs gave 1.069."""
    data = small_runs(tmp_path / "runs.tar.gz", 4000)
    zoo, moments, kills = tmp_path / "zoo", random.Random(0), 0
    with serving(script := Script(data)) as url:
        script.pace = 2**16 / 30e6
        command = [sys.executable, "-c", _EXPORT, "export", url, "--zoo", str(zoo), "--workers", "2"]
        while kills < 20:
            before, wanted = script.sent, moments.uniform(0.005, 0.08) * len(data)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and script.sent < before + wanted:
                    time.sleep(0.002)
                if process.poll() is not None:
                    break
                os.kill(process.pid, signal.SIGKILL)
            kills += 1
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"{kills} kills: {script.sent} bytes sent of an archive of {len(data)}: {script.sent / len(data):.3f}")
    assert done.returncode == 0, done.stderr
    assert "going on at byte" in done.stderr
    with open(tmp_path / "runs.tar.gz", "rb") as stream:
        assert all(outcome.error is None for outcome in export_archive(stream, "x", tmp_path / "once", workers=2))
    assert contents(zoo) == contents(tmp_path / "once")
    assert kills >= 15
    assert script.sent <= len(data) + 4e6 * kills


def small_runs(archive, count):
    """Pack the sample's runs under many numbers, one after another, as gzip does."""
    sources = sorted((sample_zoo() / "digits-mlp-tf" / "0.7").iterdir())
    with (
        open(archive, "wb") as file,
        subprocess.Popen(["gzip", "-1"], stdin=subprocess.PIPE, stdout=file) as gzip,
        tarfile.open(fileobj=gzip.stdin, mode="w|") as tar,
    ):
        for run in range(count):
            tar.add(sources[run % len(sources)], f"digits-mlp-tf/0.7/{run}")
    return archive.read_bytes()


def steps_of(chance, size):
    """Ten faults of a server, of every kind that may pass."""
    for _ in range(10):
        cut = {"cut": chance.randrange(2**16, size // 6)}
        refused = ({"status": 503, "headers": {"Retry-After": "0"}}, {"status": 429}, {"status": 500})
        yield chance.choice([cut, cut, cut | {"stall": 1.0}, chance.choice(refused)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_servers_with_every_fault_give_the_folder_exports_bytes(large, tmp_path):
    data, expected = large
    equal = 0
    for number in range(20):
        script = Script(data, *steps_of(random.Random(number), len(data)))
        script.ranges = number % 5 != 4
        zoo = tmp_path / str(number)
        with serving(script) as url, HttpStream(url, waits=(0.01,) * 11, silence=0.5) as stream:
            outcomes = list(export_archive(stream, "runs.tar.gz", zoo, md5=hashlib.md5(data).hexdigest(), workers=2))
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        assert script.steps == []
        equal += contents(zoo) == expected
        shutil.rmtree(zoo)
    assert equal == 20


@pytest.mark.slow
def test_five_runs_of_resnet50_take_at_most_1300_megabytes(tmp_path):
    tree, archive = tmp_path / "tree", tmp_path / "runs.tar.gz"
    run_reference("published_runs", tree, "imagenet-resnet50", "0.7", 0)
    folder = tree / "imagenet-resnet50" / "0.7"
    with igzip.open(archive, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for run in range(5):
            tar.add(folder / "0", f"imagenet-resnet50/0.7/{run}")
    shutil.rmtree(tree)
    with serving(Script(archive.read_bytes())) as url:
        command = [sys.executable, "-c", _PEAK, "export", url, "--zoo", str(tmp_path / "zoo")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    peak = int(done.stdout.splitlines()[-1])
    print(f"five runs of ResNet50, {archive.stat().st_size} bytes: peak {peak} MB")
    assert "exported 5 runs" in done.stdout, done.stderr
    assert peak <= 1300


# What lies in the system's buffer counts as sent, and is not read.
_EXPORT = """
import socket, sys
from heldout_torch.cli import main

class Socket(socket.socket):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)

socket.socket = Socket
sys.exit(main(sys.argv[1:]))
"""

# VmHWM, not getrusage: that one's peak is carried over from the process that started this one.
_PEAK = """
import sys
from heldout_torch.cli import main
main(sys.argv[1:])
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(line.split()[1]) // 1000)
"""
