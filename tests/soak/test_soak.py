"""Some damaged inputs of every format; `make soak` tries many more, and measures."""

import pytest

from tests.soak.formats import all_formats
from tests.soak.inputs import try_mutants

NAMES = [
    "bundle index", "bundle data", "aux_arrays.npz", "safetensors", "run.json", "manifest.json", "experiment.json",
    "verification log", "scores", "pairs", "class-wise influence", "ImageNet index", "data set", "model header",
    "training state", "seek index", "run table", "output table", "recipe", "tar",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_inputs_raise_only_our_errors(name, tmp_path):
    formats = all_formats(tmp_path)
    assert list(formats) == NAMES
    _, _, _, raised = try_mutants(formats[name], 150, seed=1)
    assert raised == []
