"""Some damaged inputs of every format, and some failing calls of every verb; `make soak` tries many more."""

import os
import random

import pytest

from tests.soak import faults
from tests.soak.formats import all_formats
from tests.soak.inputs import try_mutants
from tests.soak.kills import CASES

NAMES = [
    "bundle index", "bundle data", "aux_arrays.npz", "safetensors", "run.json", "manifest.json", "experiment.json",
    "verification log", "scores", "table in CSV", "table in Parquet", "scores in CSV", "scores in Parquet",
    "pairs in CSV", "pairs in Parquet", "pairs", "class-wise influence", "ImageNet index", "data set", "model header",
    "training state", "seek index", "run table", "output table", "recipe", "tar",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_inputs_raise_only_our_errors(name, tmp_path):
    formats = all_formats(tmp_path)
    assert list(formats) == NAMES
    _, _, _, raised = try_mutants(formats[name], 150, seed=1)
    assert raised == []


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return faults.Commands(tmp_path_factory.mktemp("faults"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files")
@pytest.mark.parametrize("name", sorted({*faults.NAMES} - {"report", "evaluate", "experiment", "stats influence"}))
def test_a_failing_call_is_told_and_the_next_command_completes(name, commands):
    count, wrong = commands.try_faults(CASES[name], places=1, chance=random.Random(name))
    assert wrong == []
    assert count > 3
