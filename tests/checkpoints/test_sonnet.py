"""The adapter uses every variable once and fills every tensor once, or says what is wrong."""

import numpy as np
import pytest
import torch

from heldout_torch import CheckpointError, build_model
from heldout_torch.checkpoints import Checkpoint, from_sonnet
from heldout_torch.zoo import sample_zoo
from tests.reference import run_reference

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inception")
    run_reference("network_logits", folder, "small_inception", 10, 3, 0, 16, 32)
    return dict(Checkpoint.open(folder / "checkpoints" / "ckpt-7"))


@pytest.fixture(scope="module")
def mlp():
    return dict(Checkpoint.open(sample_zoo() / "digits-mlp-tf/0.7/0/checkpoints/ckpt-30"))


def test_batch_norms_take_average_and_counter(inception):
    state = from_sonnet(inception, "small_inception")
    prefix = "model/stage1/_body/0/conv3x3/bn/moving_mean"
    average, hidden = inception[f"{prefix}/average{SUFFIX}"], inception[f"{prefix}/_hidden{SUFFIX}"]
    mean = state["stage1.blocks.0.conv3x3.bn.running_mean"].numpy()
    assert (mean == average.ravel()).all()
    assert (mean != hidden.ravel()).any()
    assert state["conv1.bn.num_batches_tracked"] == 1003
    assert state["conv1.bn.num_batches_tracked"].dtype == torch.int64


def test_every_tensor_of_the_module_is_filled(inception):
    module = build_model("small_inception").state_dict()
    state = from_sonnet(inception, "small_inception")
    assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in module.items()}


def test_what_belongs_to_no_model_is_left_out(mlp):
    extra = {f"model/_layers/0/w/.OPTIMIZER_SLOT/optimizer/momentum{SUFFIX}": np.zeros(3), f"save_counter{SUFFIX}": 1}
    expected = from_sonnet(mlp, "mlp")
    found = from_sonnet(mlp | extra, "mlp")
    assert found.keys() == expected.keys()


def test_missing_variables_are_named(inception):
    lacking = {key: value for key, value in inception.items() if "stage2/_downsample/conv/w" not in key}
    with pytest.raises(CheckpointError, match="1 variable of small_inception is missing: stage2/_downsample/conv/w"):
        from_sonnet(lacking, "small_inception")


def test_unknown_variables_are_named(inception):
    more = inception | {f"model/stage4/w{SUFFIX}": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match="1 variable does not belong to small_inception: stage4/w"):
        from_sonnet(more, "small_inception")


def test_another_networks_checkpoint_is_refused(mlp):
    with pytest.raises(CheckpointError, match=r"variables of resnet50 are missing: _initial_conv/w.* more"):
        from_sonnet(mlp, "resnet50")


def test_a_wrong_number_of_dimensions_is_named(mlp):
    key = f"model/_layers/0/w{SUFFIX}"
    with pytest.raises(CheckpointError, match="_layers/0/w has shape"):
        from_sonnet(mlp | {key: mlp[key][0]}, "mlp")


def test_tensors_own_their_memory(mlp):
    state = from_sonnet(mlp, "mlp")
    state["layers.0.weight"].zero_()
    assert mlp[f"model/_layers/0/w{SUFFIX}"].any()
