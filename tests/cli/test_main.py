"""The command line as a program: its help, its guard, its signals, and what it does when nobody listens.

Also of cli/follow.py, cli/output.py, cli/parser.py, cli/process.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import heldout_torch
from heldout_torch.cli import ACTIONS, VERBS, main
from heldout_torch.cli.output import complain
from heldout_torch.errors import warn
from heldout_torch.zoo import list_runs, sample_zoo
from tests.helpers.process import wait_for
from tests.helpers.terminal import on_terminal

COMMAND = [sys.executable, "-m", "heldout_torch"]
QUICK = "epochs = 2\nbatch_size = 64\nlearning_rate = 0.1\n"


def run(*words, **options):
    options = {"capture_output": True, "text": True, "timeout": 120, "check": False, **options}
    return subprocess.run([*COMMAND, *map(str, words)], **options)


def shell(script, **options):
    options = {"capture_output": True, "text": True, "timeout": 120, "check": False, **options}
    return subprocess.run(["bash", "-c", script.replace("heldout ", f"{sys.executable} -m heldout_torch ")], **options)


@pytest.fixture
def zoo(tmp_path):
    assert main(["export", str(sample_zoo()), "--zoo", str(tmp_path / "zoo"), "--quiet"]) == 0
    assert main(["zoo", "index", str(tmp_path / "zoo"), "--quiet"]) == 0
    return tmp_path / "zoo"


def raising(monkeypatch, error):
    """Let the verb `verify` raise something."""

    def fail(*arguments):
        raise error

    monkeypatch.setattr("heldout_torch.cli.verify.open_place", fail)
    return main(["verify", "zoo"])


# Help and usage


@pytest.mark.parametrize(
    "before", [["--json"], ["--quiet", "--json"], ["--plugin", "math", "--json"], ["--plugin=math", "--json"]]
)
def test_options_of_every_verb_may_stand_before_it(before, capsys):
    assert main([*before, "zoo", "list", str(sample_zoo())]) == 0
    ahead = capsys.readouterr().out
    assert main(["zoo", "list", str(sample_zoo()), *before]) == 0
    assert capsys.readouterr().out == ahead
    assert len([json.loads(line) for line in ahead.splitlines()]) == 6


def test_other_options_before_a_verb_are_told_where_they_go(capsys):
    for words in (["--workers", "3", "zoo"], ["--jsn", "zoo", "list"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
        assert (
            f"{words[0]} is an option of a verb, write it after the verb: heldout VERB {words[0]}"
            in capsys.readouterr().err
        )
    for words in (["--json"], ["--quiet"], ["--plugin"], ["--plugin", "math"]):
        assert main(words) == 2
        assert "verbs:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["--quiet", "--version"])
    assert stop.value.code == 0


def test_help_names_every_verb_and_a_bare_command_shows_it(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    helped = capsys.readouterr().out
    assert all(f"  {verb:<12}{about}\n" in helped for verb, about in VERBS.items())
    assert main([]) == 2
    assert capsys.readouterr().out == helped


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: heldout {verb}" in (helped := capsys.readouterr().out)
    assert "--quiet" in helped
    assert "--json" in helped


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"heldout-torch {heldout_torch.__version__}\n"


def test_a_misspelt_verb_is_wrong_usage_and_its_nearest_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["verfy", "zoo"])
    assert stop.value.code == 2
    assert "'verfy' is not a verb; did you mean 'verify'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["lsit", "ZOO"], "zoo list"),
        (["memorisation"], "stats memorization"),
        (["fetch", "cifar10-cscores"], "published fetch"),
        (["index"], "zoo index"),
        (["inspekt"], "archive inspect"),
        (["zoo", "lst"], "list"),
        (["stats", "par"], "pairs"),
        (["zoo", "list", "ZOO", "--subset-ration", "0.7"], "--subset-ratio"),
        (["zoo", "--jsn", "list", "ZOO"], "--json"),
        (["stats", "memorization", "ZOO", "--out", "x.csv", "--experimnt", "e"], "--experiment"),
        (["train", "digits-mlp", "--run", "0", "--subset-ratio", "0.7", "--zo", "Z", "--recpe", "r"], "--recipe"),
        (["verify", "ZOO", "--prcision", "fast"], "--precision"),
        (["verify", "ZOO", "--precision", "fat"], "fast"),
        (["export", "ZOO", "--zoo", "Z", "--dtype", "bloat16"], "bfloat16"),
        (["stats", "keep", "--by", "cifar10-cscore", "--fraction", "0.5", "--out", "x.csv"], "cifar10-cscores"),
    ],
)
def test_what_was_meant_by_a_misspelt_word_is_named(words, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert f"; did you mean '{meant}'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_the_actions_that_are_suggested_are_those_of_the_verbs(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    assert ("ACTION ..." in (said := capsys.readouterr().out) or "STATISTIC ..." in said) == (verb in ACTIONS)
    if verb in ACTIONS:
        with pytest.raises(SystemExit):
            main([verb, "nothing"])
        assert re.findall(r"'([\w-]+)'[,)]", capsys.readouterr().err) == list(ACTIONS[verb])


@pytest.mark.parametrize(
    ("words", "named", "told"),
    [
        ("zoo list", False, "ZOO; or set HELDOUT_TORCH_ZOO"),
        ("verify", False, "ZOO; or set HELDOUT_TORCH_ZOO"),
        ("export --zoo Z", False, "SOURCE; or set HELDOUT_TORCH_ZOO"),
        ("evaluate", False, "SOURCE, --out; or set HELDOUT_TORCH_ZOO"),
        ("stats accuracy", False, "ZOO; or set HELDOUT_TORCH_ZOO"),
        ("zoo index", False, "required: ZOO\n"),
        ("zoo index", True, "ZOO; HELDOUT_TORCH_ZOO names only where runs are read; name where to write"),
        ("zoo push", True, "REMOTE; HELDOUT_TORCH_ZOO names only where"),
        ("train digits-mlp --runs 0 --subset-ratio 0.7", True, "--zoo; HELDOUT_TORCH_ZOO names only where"),
    ],
)
def test_a_missing_place_is_told_how_it_can_be_named(words, named, told, monkeypatch, capsys):
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)
    if named:
        monkeypatch.setenv("HELDOUT_TORCH_ZOO", "ZOO")
    with pytest.raises(SystemExit):
        main(words.split())
    assert told in capsys.readouterr().err


def test_the_package_is_a_command():
    process = subprocess.run([*COMMAND, "--version"], capture_output=True, check=True)
    assert process.stdout.startswith(b"heldout-torch ")


# The guard


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(30, "Read-only file system", "/mnt/a\n\x1b[2J"), r"error: /mnt/a\n\x1b[2J: Read-only file system"),
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (MemoryError(), "error: there is not enough memory for this; try smaller batches or fewer workers"),
        (MemoryError("Unable to allocate 9 GiB"), "error: there is not enough memory for this (Unable to allocate "),
        (heldout_torch.ZooError("http://u:s3cr3t@host/zoo: is\ngone"), r"error: http://...@host/zoo: is\ngone"),
    ],
)
def test_what_a_user_can_cause_is_one_line(monkeypatch, capsys, error, line):
    assert raising(monkeypatch, error) == 1
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith(line)


def test_a_fault_of_the_package_is_a_traceback_with_a_request_to_report_it(monkeypatch):
    with pytest.raises(ZeroDivisionError) as fault:
        raising(monkeypatch, ZeroDivisionError("division by zero"))
    assert "Please report it" in fault.value.__notes__[0]


def test_a_warning_that_python_was_told_to_end_at_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("heldout_torch.cli.zoo.open_zoo", lambda *_: warn("runs are few"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["zoo", "list", "ZOO"]) == 1
    assert capsys.readouterr().err == "error: runs are few\n"


def test_an_interruption_is_130(monkeypatch, capsys):
    assert raising(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted; finished work is kept, run the command again to continue\n"


# Outputs that are closed, full or gone


def test_a_reader_that_has_enough_is_no_failure(zoo):
    process = shell(f"heldout zoo list {zoo} | head -2; echo ${{PIPESTATUS[0]}}")
    assert [line.split("\t")[0] for line in process.stdout.splitlines()] == [
        "experiment/ratio/run",
        "digits-mlp-tf/0.7/0",
        "0",
    ]
    assert process.stderr == ""
    process = shell(f"heldout zoo list {zoo} | true; echo ${{PIPESTATUS[0]}}")
    assert (process.stdout, process.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    "words", ["zoo list ZOO", "zoo check ZOO", "--help", "--version", "train --help", "verify ZOO --runs 0"]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_one_line_and_exit_status_1(zoo, words, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    process = shell(f"cd {zoo}; heldout {words.replace('ZOO', str(zoo))} > /dev/full")
    assert "error: standard output cannot be written (No space left on device)\n" in process.stderr
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr
    assert process.returncode == 1


def test_a_library_that_the_system_does_not_load_is_one_line(tmp_path):
    """Such as torch on a login node that allows a process little memory (`ulimit -v`)."""
    library = tmp_path / f"torch/_C{EXTENSION_SUFFIXES[0]}"
    library.parent.mkdir()
    library.write_bytes(b"half of it")
    (tmp_path / "torch/__init__.py").write_text("from torch._C import *")
    where = os.pathsep.join([str(tmp_path), str(Path(heldout_torch.__file__).parent.parent)])
    process = run("zoo", "list", sample_zoo(), env={**os.environ, "PYTHONPATH": where})
    assert re.fullmatch(rf"error: {library}: cannot be loaded \(.*\); install .* more memory .*\n", process.stderr)
    assert process.returncode == 1


def test_a_thread_that_the_system_does_not_start_is_one_line(zoo, monkeypatch, capsys):
    """As under `ulimit -u`, or in a container of few processes."""

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert main(["zoo", "check", str(zoo)]) == 1
    line = "error: the system lets this process start no more threads; allow more processes (ulimit -u)\n"
    assert capsys.readouterr().err == line


@pytest.mark.skipif(os.name != "posix", reason="removes the working directory")
def test_a_working_directory_that_is_gone_is_one_line(zoo, tmp_path):
    process = shell(f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; heldout zoo list {zoo}")
    assert process.stderr == "error: the working directory is gone, somebody removed it; change to another one\n"
    assert process.returncode == 1


def test_a_terminal_that_lacks_a_letter_is_shown_its_number(zoo):
    words = f"heldout stats accuracy {zoo} --experiment digits-mlp-tf"
    shell("heldout warm-up")  # or the first of all tests is told of it
    process = shell(f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {words}; PYTHONIOENCODING=ascii:strict {words}")
    assert process.stderr == ""
    first, second = process.stdout.splitlines()
    assert first == second
    assert "train 1.0000 \\xb1 0.0000" in first


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_files_are_no_matter(tmp_path, closed):
    (tmp_path / "quick.toml").write_text(QUICK)
    words = f"train digits-mlp --subset-ratio 0.7 --runs 0-1 --zoo {tmp_path}/zoo --recipe {tmp_path}/quick.toml"
    process = shell(f"heldout {words} {closed}")
    assert process.returncode == 0
    assert [key.run for key in list_runs(tmp_path / "zoo")] == [0, 1]
    assert process.stderr == ""


@pytest.mark.parametrize("words", ["export - --zoo zoo", "archive inspect -"])
def test_a_closed_standard_input_is_an_empty_one(tmp_path, words):
    process = shell(f"cd {tmp_path}; heldout {words} <&-")
    assert "standard input: is damaged or cut off near unpacked byte 0" in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    assert process.returncode == 1


def test_a_full_error_output_is_no_matter(tmp_path):
    assert shell(f"heldout verify {tmp_path}/none 2> /dev/full").returncode == 1


# Signals


def start(*words, **options):
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options,
    )  # fmt: skip


@pytest.mark.usefixtures("hangups_arrive")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_being_terminated_or_hung_up_is_an_orderly_end(tmp_path, number, status):
    zoo = tmp_path / "zoo"
    with start("train", "digits-mlp", "--subset-ratio", 0.7, "--runs", "0-999", "--zoo", zoo) as process:
        wait_for(lambda: list(zoo.glob("*/*/*/model.safetensors")))
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == status
    *progress, last = errors.splitlines()  # a busy machine may take the 30 s after which progress is told
    assert last == "terminated; finished work is kept, run the command again to continue"
    assert all(line.startswith("train: ") for line in progress)
    assert not list(zoo.rglob("*partial*"))
    assert list_runs(zoo)


HANGING = """
import signal, sys, time
import heldout_torch.cli.verify as verify
from heldout_torch.cli import main
def hang(arguments):
    try:
        print("works", flush=True)
        time.sleep(60)
    finally:
        print("ends", flush=True)
        time.sleep(60)
verify._verify = hang
sys.exit(main(["verify", "zoo"]))
"""


@pytest.mark.usefixtures("hangups_arrive")
@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGINT, signal.SIGINT], -signal.SIGINT),
        ([signal.SIGTERM, signal.SIGINT], -signal.SIGINT),
        ([signal.SIGINT, signal.SIGTERM], -signal.SIGTERM),
        ([signal.SIGHUP, signal.SIGINT], -signal.SIGINT),
    ],
)
def test_a_second_signal_ends_at_once_work_that_hangs_in_its_end(signals, status):
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        for number, word in zip(signals, ("works", "ends"), strict=True):
            assert process.stdout.readline() == f"{word}\n"
            process.send_signal(number)
        assert process.wait(timeout=10) == status
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("hangups_arrive")
def test_a_second_hangup_and_a_termination_behind_it_let_the_end_go_on():
    """A shell sends SIGHUP when its terminal is closed, and then the terminal does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING.replace('"ends", flush=True)\n        time.sleep(60)', '"ends", flush=True)\n'
        '        time.sleep(1); print("ended", flush=True)')],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "works\n"
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "ends\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "ended\n"
    assert process.returncode == 129


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_so(number):
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING.replace("sleep(60)", "sleep(1)")], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdout.readline() == "works\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "ends\n"
    assert process.returncode == 0


def test_handlers_of_the_caller_are_put_back():
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [*map(signal.getsignal, numbers)]
    assert main(["zoo", "list", "/dev/null"]) == 1
    assert [*map(signal.getsignal, numbers)] == before


# What is told


def test_on_a_terminal_the_progress_is_seen(tmp_path):
    (tmp_path / "quick.toml").write_text(QUICK)
    words = ["train", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0-3", "--zoo", str(tmp_path / "zoo")]
    seen, output = on_terminal([*COMMAND, *words, "--recipe", str(tmp_path / "quick.toml")])
    assert "train: 100% 4/4 run, 0:0" in seen.splitlines()[-1]
    assert " run/s, loss " in seen.splitlines()[-1]
    assert output.startswith("trained 4 runs into ")


def test_quiet_says_nothing_but_errors(tmp_path, capsys):
    assert main(["export", str(sample_zoo()), "--zoo", str(tmp_path / "zoo"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["verify", str(tmp_path / "none"), "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_json_is_one_object_a_line(zoo, tmp_path, capsys):
    def told(*words):
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    rows = told("zoo", "list", zoo, "--runs", "0-2")
    assert [row["run"] for row in rows] == [0, 1, 2]
    assert set(rows[0]) == {"experiment", "subset_ratio", "run", "epoch", "train", "removed", "test", "bytes"}
    assert told("export", sample_zoo(), "--zoo", zoo) == [{"exported": 0, "skipped": 6, "failed": 0, "zoo": str(zoo)}]
    run, summary = told("verify", zoo, "--runs", 3, "--results", tmp_path / "log")
    assert (run["run"], run["matches"], run["mismatches"]) == ("digits-mlp-tf/0.7/3", 1797, 0)
    assert summary == {"verified": 1, "mismatched": 0, "failed": 0}


def test_options_of_what_is_told_may_stand_before_the_action(zoo, capsys):
    capsys.readouterr()
    assert main(["zoo", "--json", "list", str(zoo)]) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 6


# A terminal that is gone, for every verb


def test_training_whose_reader_is_gone_goes_on(tmp_path):
    """As `heldout train ... 2>&1 >/dev/null | head -c 300` does; it used to hang in the bar and write nothing."""
    zoo = tmp_path / "zoo"
    script = f"heldout train digits-mlp --subset-ratio 0.7 --runs 0-19 --zoo {zoo} 2>&1 >/dev/null | head -c 300"
    shell(script + "; exit ${PIPESTATUS[0]}", check=True)
    assert [key.run for key in list_runs(zoo)] == list(range(20))


VERBS_AND_WORDS = {
    "archive": "archive index ARCHIVE",
    "zoo": "zoo index ZOO",
    "warm-up": "warm-up",
    "declare": "declare mine --dataset digits --architecture small_inception --out DECLARED",
    "export": f"export {sample_zoo()} --zoo OUT",
    "train": "train digits-mlp --subset-ratio 0.7 --runs 0-3 --zoo OUT --recipe QUICK",
    "experiment": "experiment digits-mlp --subset-ratio 0.7 --runs 0-3 --zoo OUT --recipe QUICK",
    "stats": "stats memorization ZOO --experiment digits-mlp-tf --subset-ratio 0.7 --out OUT.npz",
    "published": "published list",
    "report": "report ZOO --experiment digits-mlp-tf --out OUT",
    "evaluate": "evaluate ZOO --out OUT",
    "verify": "verify ZOO --results OUT",
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("terminal", [False, True])
def test_every_verb_does_its_work_when_the_terminal_is_gone(verb, terminal, zoo, tmp_path):
    subprocess.run(["tar", "czf", "archive.tar.gz", "-C", sample_zoo(), "digits-mlp-tf"], cwd=tmp_path, check=True)
    (tmp_path / "quick.toml").write_text(QUICK)
    words = VERBS_AND_WORDS[verb].replace("QUICK", str(tmp_path / "quick.toml"))
    for name, path in {"ARCHIVE": "archive.tar.gz", "ZOO": "zoo", "DECLARED": "mine.toml", "OUT": "out"}.items():
        words = words.replace(name, str(tmp_path / path))
    ours, theirs = os.openpty() if terminal else os.pipe()
    os.close(ours)
    process = run(*words.split(), capture_output=False, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert process.returncode == 0
    assert process.stdout


def test_a_long_line_is_written_at_once(capsys):
    start = time.process_time()
    complain("error: archive: member " + "x" * 2**18)
    assert time.process_time() - start < 3.0
    assert capsys.readouterr().err.endswith("xxx\n")
