"""Verifications in a file."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from heldout_torch.errors import DataError
from heldout_torch.evaluation import SplitVerification, Verification
from heldout_torch.evaluation.provenance import run_digest
from heldout_torch.evaluation.verification_log import VerificationLog, check_log, default_log
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.zoos import export

ALL = ["train", "removed", "test"]


DATA, FILES = "d" * 64, "f" * 64


def key(number=0):
    return RunKey("e", 0.5, number)


def verification(*mismatched, parts=ALL):
    wrong = np.array(mismatched, np.int64)
    split = SplitVerification(100, 1, wrong, np.full(len(wrong), -0.25, np.float32), wrong % 2 == 1)
    return Verification(dict.fromkeys(parts, split), 0.5)


def test_what_is_appended_is_read(tmp_path):
    log, run = VerificationLog(tmp_path / "new" / "log.jsonl", ALL, DATA), key()
    assert log.read() == {}
    log.append(run, FILES, verification())
    log.append(run, FILES, verification(4, 7))
    found = log.read()[str(run)][FILES]
    assert (found.examples, found.matches, found.ties, found.mismatches) == (300, 294, 3, 3)
    split = found.splits["test"]
    assert (split.mismatched.tolist(), split.margins.tolist(), split.ties.tolist()) == (
        [4, 7],
        [-0.25] * 2,
        [False, True],
    )
    assert (split.missing, found.tie_margin) == (1, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mismatched": 5},
        {"mismatched": [[1]]},
        {"margins": [0.5, 1.0]},
        {"ties": "x"},
        {"ties": []},
        {"examples": -3},
        {"examples": 0},
        {"missing": 1e300},
        {"missing": 10**40},
    ],
)
def test_lines_that_no_verification_can_be_are_passed_over(tmp_path, wrong):
    split = {"examples": 4, "missing": 0, "mismatched": [1], "margins": [0.5], "ties": [False]}
    record = {"run": "a/0.7/1", "files": FILES, "data": DATA, "tie_margin": 0.1, "splits": {"test": split}}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(record) + "\n")
    log = VerificationLog(path, ["test"], DATA)
    assert log.read()["a/0.7/1"][FILES].matches == 3
    split.update(wrong)
    path.write_text(json.dumps(record) + "\n")
    assert log.read() == {}


def test_a_line_cut_short_costs_only_itself(tmp_path):
    path = tmp_path / "log.jsonl"
    log, first, second = VerificationLog(path, ALL, DATA), key(1), key(2)
    log.append(first, FILES, verification())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert set(log.read()) == {str(first)}
    log.append(second, FILES, verification())
    assert set(log.read()) == {str(first), str(second)}


def test_changed_runs_and_other_splits_are_not_known(tmp_path):
    log, run = VerificationLog(tmp_path / "log.jsonl", ALL, DATA), key()
    log.append(run, FILES, verification())
    assert VerificationLog(tmp_path / "log.jsonl", ["train"], DATA).read() == {}
    assert set(VerificationLog(tmp_path / "log.jsonl", [*ALL, "train"], DATA).read()) == {str(run)}  # named twice


def test_other_data_makes_what_was_found_of_no_account(tmp_path):
    VerificationLog(tmp_path / "log.jsonl", ALL, DATA).append(key(), FILES, verification())
    assert VerificationLog(tmp_path / "log.jsonl", ALL, "e" * 64).read() == {}


def test_a_run_is_found_in_tree_and_zoo_and_no_more_once_it_changed(tree, tmp_path):
    run = RunKey("digits-mlp-tf", 0.7, 2)
    export(tree, tmp_path / "zoo")
    log, zoo = VerificationLog(tmp_path / "log.jsonl", ALL, DATA), open_zoo(tmp_path / "zoo")
    log.append(run, run_digest(zoo, run), verification())
    again = VerificationLog(tmp_path / "log.jsonl", ALL, DATA)
    assert again.find(zoo, run) is not None
    assert again.find(open_zoo(tree), run) is not None
    assert again.find(zoo, RunKey("digits-mlp-tf", 0.7, 3)) is None
    other = zoo.aux(RunKey("digits-mlp-tf", 0.7, 3))
    with zoo:
        zoo.put(zoo.metadata(run), zoo.state(run), other, overwrite=True)
    assert again.find(open_zoo(tmp_path / "zoo"), run) is None


def test_where_no_file_is_named_each_place_has_one_in_the_cache(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    path = default_log(open_zoo(tree))
    assert path.is_relative_to(tmp_path / "cache")
    monkeypatch.chdir(tree)
    assert default_log(open_zoo(".")) == path
    assert default_log(open_zoo(tree / "digits-mlp-tf")) != path
    odd = tmp_path / os.fsdecode(b"\xff")  # no UTF-8, as disks of long ago have it
    odd.mkdir()
    assert default_log(open_writable(odd)).parent == path.parent


def test_infinite_margins_are_passed_over(tmp_path):
    log = VerificationLog(tmp_path / "log.jsonl", ALL, DATA)
    log.append(key(), FILES, verification())
    text = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(text.replace('"tie_margin": 0.5', '"tie_margin": Infinity') + "[" * 100_000)
    assert log.read() == {}


def test_lines_of_several_writers_stay_whole(tmp_path):
    log, runs = VerificationLog(tmp_path / "log.jsonl", ALL, DATA), [key(number) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: log.append(run, FILES, verification(*range(50))), runs))
    assert set(log.read()) == set(map(str, runs))


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"run": 3}\n', "[1]\n", '{"run": "a", "splits": {"train": 4}}\n'])
def test_foreign_lines_are_passed_over(text, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    assert VerificationLog(path, ALL, DATA).read() == {}


def test_a_folder_is_no_log(tmp_path):
    log = VerificationLog(tmp_path, ALL, DATA)
    with pytest.raises(DataError, match="cannot be read"):
        log.read()
    with pytest.raises(DataError, match="cannot be written"):
        log.append(key(), FILES, verification())


@pytest.mark.parametrize("line", [b'{"a":' * 100_000, b'{"run": "a", "splits": {"test": {"examples": Infinity}}}'])
def test_lines_that_cannot_be_read_do_not_stop_the_others(tmp_path, line):
    log = VerificationLog(tmp_path / "log.jsonl", ALL, DATA)
    (tmp_path / "log.jsonl").write_bytes(line + b"\n")
    log.append(key(), FILES, verification())
    assert list(log.read()) == [str(key())]


OTHERS = {
    "notes": b"my notes\n",
    "no line": b"no line end",
    "JSON": b'{"epochs": 3}\n',
    "a list": b"[1]\n",
    "a model": b"\x93NUMPY" + bytes(100),
    "binary": bytes(2**21),
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_of_something_else_is_not_appended_to(content, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds something else than results of verify, which are appended; name anoth"):
        check_log(path)
    assert path.read_bytes() == content


def test_a_log_is_appended_to_whatever_was_cut_short(tmp_path):
    path = tmp_path / "log.jsonl"
    check_log(path)
    assert not path.exists()
    VerificationLog(path, ALL, DATA).append(key(), FILES, verification(*range(1000)))
    whole = path.read_bytes()
    for content in (b"", b"\n", whole, whole[:3], whole[100:] + whole, bytes(50) + b"\n" + whole):
        path.write_bytes(content)
        check_log(path)
