"""Verifications in a file."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from heldout_torch.errors import DataError
from heldout_torch.evaluation import SplitVerification, Verification
from heldout_torch.evaluation.log import VerificationLog
from heldout_torch.zoo.keys import RunFolder, make_key

ALL = ["train", "removed", "test"]


def run_folder(folder, number=0):
    path = folder / str(number)
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    return RunFolder(make_key("e", 0.5, number), path)


def verification(*mismatched, parts=ALL):
    wrong = np.array(mismatched, np.int64)
    split = SplitVerification(100, 1, wrong, np.full(len(wrong), -0.25, np.float32), wrong % 2 == 1)
    return Verification(dict.fromkeys(parts, split), 0.5)


def test_what_is_appended_is_read(tmp_path):
    log, run = VerificationLog(tmp_path / "new" / "log.jsonl", ALL), run_folder(tmp_path)
    assert log.read() == {}
    log.append(run, verification())
    log.append(run, verification(4, 7))
    found = log.read()[log.name(run)]
    assert (found.examples, found.matches, found.ties, found.mismatches) == (300, 294, 3, 3)
    split = found.splits["test"]
    assert (split.mismatched.tolist(), split.margins.tolist(), split.ties.tolist()) == (
        [4, 7],
        [-0.25] * 2,
        [False, True],
    )
    assert (split.missing, found.tie_margin) == (1, 0.5)


def test_a_line_cut_short_costs_only_itself(tmp_path):
    path = tmp_path / "log.jsonl"
    log, first, second = VerificationLog(path, ALL), run_folder(tmp_path, 1), run_folder(tmp_path, 2)
    log.append(first, verification())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert set(log.read()) == {log.name(first)}
    log.append(second, verification())
    assert set(log.read()) == {log.name(first), log.name(second)}


def test_changed_runs_and_other_splits_are_not_known(tmp_path):
    log, run = VerificationLog(tmp_path / "log.jsonl", ALL), run_folder(tmp_path)
    log.append(run, verification())
    assert VerificationLog(tmp_path / "log.jsonl", ["train"]).read() == {}
    os.utime(run.path / "model.safetensors", ns=(1, 1))
    assert log.name(run) not in log.read()


def test_lines_of_several_writers_stay_whole(tmp_path):
    log, runs = VerificationLog(tmp_path / "log.jsonl", ALL), [run_folder(tmp_path, number) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: log.append(run, verification(*range(50))), runs))
    assert set(log.read()) == {log.name(run) for run in runs}


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"run": 3}\n', "[1]\n", '{"run": "a", "splits": {"train": 4}}\n'])
def test_foreign_lines_are_passed_over(text, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    assert VerificationLog(path, ALL).read() == {}


def test_a_folder_is_no_log(tmp_path):
    log = VerificationLog(tmp_path, ALL)
    with pytest.raises(DataError, match="cannot be read"):
        log.read()
    with pytest.raises(DataError, match="cannot be written"):
        log.append(run_folder(tmp_path), verification())
