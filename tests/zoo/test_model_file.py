"""`model.safetensors`: the bytes are those that safetensors' own writer makes."""

import pytest
import torch
from safetensors.torch import save

from heldout_torch.errors import ZooError
from heldout_torch.experiments import known_experiments
from heldout_torch.zoo import RunKey
from heldout_torch.zoo.metadata import RunMetadata
from heldout_torch.zoo.model_file import model_bytes, read_model

KEY = RunKey("digits-mlp", 0.7, 3)
METADATA = RunMetadata.of(known_experiments()["digits-mlp"], KEY, 2, 10, "0" * 64)
NUMBERS = torch.arange(24)
DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.int32, torch.float32,
    torch.float64, torch.int64,
]  # fmt: skip


def test_the_bytes_are_those_of_safetensors():
    state = {f"{name}.{dtype}": NUMBERS.to(dtype).clone() for dtype in DTYPES for name in "ba"}
    state |= {
        "scalar": torch.tensor(7), "empty": torch.zeros(3, 0), 'a "name" ü\n': NUMBERS[:1].clone(),
        "gradient": torch.ones(2, requires_grad=True),
    }  # fmt: skip
    assert model_bytes(state, METADATA) == save(state, METADATA.to_header())


def test_every_tensor_is_kept_in_its_own_right():
    """safetensors' own writer refuses views and names of one memory."""
    state = {"turned": NUMBERS.reshape(4, 6).T, "part": NUMBERS[::2], "tied": NUMBERS, "too": NUMBERS}
    found, metadata = read_model(model_bytes(state, METADATA), KEY, "here")
    assert metadata == METADATA
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_what_cannot_be_kept_is_named():
    with pytest.raises(ZooError, match=r"digits-mlp/0\.7/3: phase of torch\.complex64 cannot be kept, expected one of"):
        model_bytes({"phase": torch.zeros(2, dtype=torch.complex64)}, METADATA)


def test_a_file_that_was_cut_short_or_is_another_runs_is_one_line():
    data = model_bytes({"a": NUMBERS}, METADATA)
    for part, key, message in (
        (data[:-1], KEY, "is not a readable safetensors file"), (data[:40], KEY, "is not a readable safetensors file"),
        (data, RunKey("digits-mlp", 0.7, 4), "says that it is digits-mlp/0.7/3, but is in the folder of"),
    ):  # fmt: skip
        with pytest.raises(ZooError, match=f"^here: {message}") as error:
            read_model(part, key, "here")
        assert "\n" not in str(error.value)
