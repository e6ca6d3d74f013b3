"""Verifications in a file."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from heldout_torch.errors import DataError
from heldout_torch.evaluation import SplitVerification, Verification
from heldout_torch.evaluation.log import VerificationLog
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from tests.helpers.zoos import export

ALL = ["train", "removed", "test"]


def name(number=0):
    return f"e/0.5/{number} 0123456789abcdef"


def verification(*mismatched, parts=ALL):
    wrong = np.array(mismatched, np.int64)
    split = SplitVerification(100, 1, wrong, np.full(len(wrong), -0.25, np.float32), wrong % 2 == 1)
    return Verification(dict.fromkeys(parts, split), 0.5)


def test_what_is_appended_is_read(tmp_path):
    log, run = VerificationLog(tmp_path / "new" / "log.jsonl", ALL), name()
    assert log.read() == {}
    log.append(run, verification())
    log.append(run, verification(4, 7))
    found = log.read()[run]
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
    log, first, second = VerificationLog(path, ALL), name(1), name(2)
    log.append(first, verification())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert set(log.read()) == {first}
    log.append(second, verification())
    assert set(log.read()) == {first, second}


def test_changed_runs_and_other_splits_are_not_known(tmp_path):
    log, run = VerificationLog(tmp_path / "log.jsonl", ALL), name()
    log.append(run, verification())
    assert VerificationLog(tmp_path / "log.jsonl", ["train"]).read() == {}


def test_a_run_has_one_name_in_tree_and_zoo_and_another_once_it_changed(tree, tmp_path):
    key = RunKey("digits-mlp-tf", 0.7, 2)
    export(tree, tmp_path / "zoo")
    log, zoo = VerificationLog(tmp_path / "log.jsonl", ALL), open_zoo(tmp_path / "zoo")
    before = log.name(zoo, key)
    assert log.name(open_zoo(tree), key) == before == log.name(open_zoo(tmp_path / "zoo"), key)
    model = tmp_path / "zoo" / str(key) / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    zoo.index()
    assert log.name(zoo, key) != before


def test_lines_of_several_writers_stay_whole(tmp_path):
    log, runs = VerificationLog(tmp_path / "log.jsonl", ALL), [name(number) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: log.append(run, verification(*range(50))), runs))
    assert set(log.read()) == set(runs)


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
        log.append(name(), verification())


@pytest.mark.parametrize("line", [b'{"a":' * 100_000, b'{"run": "a", "splits": {"test": {"examples": Infinity}}}'])
def test_lines_that_cannot_be_read_do_not_stop_the_others(tmp_path, line):
    log = VerificationLog(tmp_path / "log.jsonl", ALL)
    (tmp_path / "log.jsonl").write_bytes(line + b"\n")
    log.append(name(), verification())
    assert list(log.read()) == [name()]
