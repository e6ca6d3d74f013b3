"""Runs are found where the layout says, and named in one way."""

import numpy as np
import pytest
import torch

from heldout_torch import ZooError
from heldout_torch.zoo.keys import RunKey, make_key, nearest_ratio, parse_key, parse_ratio, parse_runs, parse_shard

BAD_KEYS = [
    ("../x", 0.7, 1), ("a/b", 0.7, 1), ("x", 1.0, 1), ("x", 0, 1), ("x", "1.7", 1), ("x", float("nan"), 1),
    ("x", 0.7, -1), ("x", 0.7, 2**32), ("x", 0.7, 1.0), ("x", 0.7, True),
    ("x", 0.7, "1.0"), ("x", 0.7, ""), ("x", 0.7, "-1"), ("x", 0.7, "٣"), ("x", 0.7, b"1"),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS, ids=str)
def test_keys_that_could_leave_their_place_are_refused(key):
    with pytest.raises(ZooError):
        make_key(*key)


@pytest.mark.parametrize("ratio", [0.7, "0.7", np.float64(0.7), np.float32(0.7), np.float16(0.7), torch.tensor(0.7)])
@pytest.mark.parametrize("run", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3), "3", " 3"])
def test_every_float_and_every_integer_is_taken(ratio, run):
    key = make_key("x", ratio, run)
    assert (key, str(key), type(key.run)) == (RunKey("x", 0.7, 3), "x/0.7/3", int)


def test_double_precision_is_taken_as_it_is():
    key = make_key("x", 0.1 * 7, 3)
    assert key.subset_ratio == 0.1 * 7 != 0.7
    assert RunKey.parse(str(key)) == key


def test_a_key_is_read_as_it_is_written():
    assert RunKey.parse("cifar10-inception/0.7/3") == RunKey("cifar10-inception", 0.7, 3)
    for text in ("", "x", "x/0.7", "x/0.7/3/4", "../x/0.7/3", "x/2/3", "x/0.7/-3", "x/0.7/٣", "x/0.7/" + "9" * 5000):
        with pytest.raises(ZooError):
            RunKey.parse(text)


def test_the_nearest_existing_ratio_is_meant():
    there = [0.1, 0.3, 0.7]
    assert nearest_ratio(0.7, there) == nearest_ratio(0.1 * 7, there) == nearest_ratio(0.7 + 9e-7, there) == 0.7
    assert nearest_ratio(0.7001, there) is nearest_ratio(0.70001, there) is None
    assert nearest_ratio(0.7, [0.7, 0.7000005]) == 0.7
    with pytest.raises(ZooError, match=r"could be 0\.7 or 0\.7000005"):
        nearest_ratio(0.7000002, [0.7, 0.7000005])


def test_paths_of_a_zoo_name_runs_in_one_way():
    assert parse_key("x/0.7/12/run.json") == (RunKey("x", 0.7, 12), "run.json")
    for path in ("x/0.70/12/run.json", "x/7e-1/12/a", "x/0.7/012/a", "../0.7/1/a", "x/0.7/1", "x/0.7/1/a/b", "x/2/1/a",
                 "x/0.7/4294967296/a", "x/1.0/1/a"):  # fmt: skip
        assert parse_key(path) is None


@pytest.mark.parametrize(
    ("text", "ratio"), [("0.7", 0.7), ("7e-1", 0.7), ("0", None), ("1", None), ("x", None), ("nan", None)]
)
def test_ratios(text, ratio):
    assert parse_ratio(text) == ratio


def test_lists_of_runs():
    runs = parse_runs("0-3,42, 2")
    assert (list(runs), str(runs), len(runs)) == ([0, 1, 2, 3, 42], "0-3,42", 5)
    assert (str(parse_runs("0-9,2-3,10,4294967295")), len(parse_runs("0-9,2-3"))) == ("0-10,4294967295", 10)
    assert 42 in runs
    assert 41 not in runs
    for text in ("", "a", "3-1", "1,,2", "-1", "0-99999999999", "4294967296"):
        with pytest.raises(ZooError, match="not a list of runs"):
            parse_runs(text)


def test_a_list_of_too_many_runs_costs_nothing_and_is_refused():
    assert len(parse_runs("0-9999999")) == 10**7
    with pytest.raises(ZooError, match="names 4294967296 runs"):
        parse_runs("0-4294967295")


def test_shards():
    assert parse_shard("2/3") == (2, 3)
    for text in ("3/3", "1", "-1/3", "a/b"):
        with pytest.raises(ZooError, match="not a shard"):
            parse_shard(text)


def test_of_many_numbers_few_are_compared_to_find_one():
    compared = []

    class Number(int):
        def __lt__(self, other):
            compared.append(other)
            return int(self) < other

        __eq__, __hash__ = int.__eq__, int.__hash__

    runs = parse_runs(",".join(map(str, range(0, 2000, 2))))
    assert [run in runs for run in (0, 1, 999, 1000, 1998, 1999, 2001, np.int64(6), np.int64(7))] == [
        True, False, False, True, True, False, False, True, False,
    ]  # fmt: skip
    assert Number(1234) in runs
    assert 0 < len(compared) < 20
