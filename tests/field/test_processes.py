"""Processes that are killed: none goes on computing or writing for nobody."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3fs

from heldout_torch.cli.process import signals_end_work
from heldout_torch.data import load_digits
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.open import open_zoo
from tests.helpers.process import started, wait_for

PIDS = "HELDOUT_TEST_PIDS"


def never_done(runs, dataset, device, progress):
    """Work that leaves its process's number, and goes on for ever."""
    (Path(os.environ[PIDS]) / str(os.getpid())).touch()
    while True:
        time.sleep(0.1)


def sweep_for_ever():
    """What the process that is killed does."""
    zoo = open_zoo(sample_zoo())
    with signals_end_work():
        list(sweep(never_done, zoo.keys(), zoo, load_digits(), ["cpu", "cpu"], lambda count: None))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"  # nobody may wait for it


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_who_computes_for_a_killed_process_ends_with_it(number, tmp_path):
    code = "from tests.field.test_processes import sweep_for_ever as work; work()"
    with started([sys.executable, "-c", code], env={**os.environ, PIDS: str(tmp_path)}) as process:
        wait_for(lambda: len(os.listdir(tmp_path)) == 2)
        process.send_signal(number)
        process.wait(timeout=30)
    children = [int(name) for name in os.listdir(tmp_path)]
    try:
        wait_for(lambda: not any(map(is_alive, children)), seconds=20)
    finally:
        for child in filter(is_alive, children):
            os.kill(child, signal.SIGKILL)


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.usefixtures("hangups_arrive")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("begun", [False, True])
def test_ctrl_c_and_a_closed_terminal_reach_all_processes_and_are_told_once(number, status, begun, tmp_path):
    """A terminal signals a whole group; a process that is still being started must not tell of its half arguments."""
    words = f"train digits-mlp --subset-ratio 0.7 --runs 0-999 --batch-of-runs 2 --device cpu cpu --zoo {tmp_path}/zoo"
    options = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "start_new_session": True}
    with started([sys.executable, "-m", "heldout_torch", *words.split()], **options) as process:
        if begun:
            wait_for(lambda: list(tmp_path.glob("zoo/digits-mlp/0.7/*/run.json")))
        else:
            wait_for(lambda: len(children_of(process.pid)) == 3)  # two work, the third is multiprocessing's own
        os.killpg(process.pid, number)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == status
    assert [line for line in errors.splitlines() if not line.startswith("train:")] == [
        f"{'interrupted' if number == signal.SIGINT else 'terminated'}; "
        "finished work is kept, run the command again to continue"
    ]


def test_a_terminated_training_leaves_a_manifest_of_its_runs(bucket, tmp_path):
    recipe = tmp_path / "long.toml"
    recipe.write_text("epochs = 10\nbatch_size = 256\nlearning_rate = 0.1\n")
    words = f"train digits-mlp --subset-ratio 0.7 --runs 0-999 --batch-of-runs 1 --recipe {recipe} --zoo {bucket}/zoo"
    files = s3fs.S3FileSystem(use_listings_cache=False)
    with started([sys.executable, "-m", "heldout_torch", *words.split()]) as process:
        wait_for(lambda: len(files.glob(f"{bucket}/zoo/digits-mlp/0.7/*/run.json")) > 1)
        process.terminate()
        assert process.wait(timeout=60) == 143
    there = files.glob(f"{bucket}/zoo/digits-mlp/0.7/*/run.json")
    listed = Manifest.from_bytes(files.cat_file(f"{bucket}/zoo/manifest.json"), "manifest.json").runs
    assert {str(key) for key in listed} == {"/".join(name.split("/")[-4:-1]) for name in there}
