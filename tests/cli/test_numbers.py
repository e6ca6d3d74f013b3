"""Every number that a command line takes is checked by its parser, before any work; the options are enumerated."""

import argparse
import importlib

import pytest

from heldout_torch.cli import VERBS, main, options
from heldout_torch.cli.parser import Parser
from heldout_torch.storage.paths import local_path, place

NO_NUMBERS = ["nan", "inf", "-inf", "0.5x", "", "one", "1e400", "½", "0.5,0.6", "- 1"]
BAD = {
    "subset_ratio": ["-1", "0", "1", "2"],
    "runs": ["-1", "1.5", "3-1", "1e3"],
    "workers": ["-1", "0", "1.5", "1e3", "٣"],
    "batch_size": ["-1", "0", "1.5", "9" * 10],
    "batch_of_runs": ["-1", "0", "1.5", "Auto"],
    "shard": ["-1/2", "2/2", "0/0", "1", "0.5/2"],
    "fraction": ["-0.1", "1.0000001", "50%"],
    "min_accuracy": ["-0.1", "90"],
    "min_influence": ["-1.1", "1.1"],
    "min_memorization": ["-1.1", "1.1"],
    "tolerance": ["-1", "0.5"],
    "bytes": ["-1", "0", "2X", "1.5G"],
    "spacing": ["-1", "0", "2X", "1.5G"],
    "md5": ["0", "f" * 31, "g" * 32],
}
GOOD = {
    "subset_ratio": ["0.7", " .7", "7e-1"],
    "runs": ["0", "0-9,42"],
    "workers": ["1"],
    "batch_size": ["999"],
    "batch_of_runs": ["auto", "3"],
    "shard": ["0/1", "1/2"],
    "fraction": ["0", "0.5", "1"],
    "min_accuracy": ["0", "1"],
    "min_influence": ["-1", "0.15"],
    "min_memorization": ["0", "1"],
    "tolerance": ["0", "7"],
    "bytes": ["500M", "1"],
    "spacing": ["8M"],
    "md5": ["F" * 32],
}
NOT_NUMBERS = (
    place, local_path, options.file_to_write, options.file_to_append, options.folder_to_write, options.json_object,
)  # fmt: skip


def options_of(parser, name):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, one in action.choices.items():
                yield from options_of(one, f"{name} {word}")
        elif action.type is not None and action.type not in NOT_NUMBERS and action.dest not in ("plugin", "by"):
            yield name, action


def all_options():
    for verb in VERBS:
        parser = Parser(prog=f"heldout {verb}")
        importlib.import_module(f"heldout_torch.cli.{verb.replace('-', '_')}").configure(parser)
        yield from options_of(parser, verb)


@pytest.mark.parametrize(("name", "action"), list(all_options()), ids=lambda one: getattr(one, "dest", one))
def test_a_number_is_checked_by_the_parser(name, action):
    """Some were taken as any float, and refused after runs were read, or never."""
    for text in (*NO_NUMBERS, *BAD[action.dest]):
        with pytest.raises(argparse.ArgumentTypeError) as error:
            action.type(text)
        assert "\n" not in str(error.value)
    for text in GOOD[action.dest]:
        assert action.type(text) is not None or text == "auto"


def test_all_are_there():
    assert {action.dest for _, action in all_options()} == set(BAD) == set(GOOD)


@pytest.mark.parametrize("fraction", ["nan", "inf", "-1", "2", "0.5x"])
def test_a_number_that_is_none_is_wrong_usage_before_anything_is_read(fraction, tmp_path, capsys):
    words = ["stats", "keep", str(tmp_path / "nothing"), "--by", "memorization", "--out", str(tmp_path / "x.csv")]
    with pytest.raises(SystemExit) as stop:
        main([*words, f"--fraction={fraction}"])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"heldout stats keep: error: argument --fraction: '{fraction}' is not a number from 0 to 1"
