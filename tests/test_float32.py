"""Float32 means float32 in a block whatever a user set before, and all of it is put back."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from heldout_torch import load_run
from heldout_torch.data import load_digits
from heldout_torch.evaluation import evaluate
from heldout_torch.evaluation.inference import inference_copy
from heldout_torch.float32 import float32_only, products_in

BACKENDS = torch.backends
PLACES = [
    ("generic", "all"),
    *((backend, operation) for backend in ("cuda", "mkldnn") for operation in ("all", "conv", "matmul", "rnn")),
]


def put(place, operation, value):
    return lambda: torch._C._set_fp32_precision_setter(place, operation, value)


def assigned(settings, name, value):
    return lambda: setattr(settings, name, value)


STATES = {
    "as torch begins": lambda: None,
    "backends tf32": assigned(BACKENDS, "fp32_precision", "tf32"),
    "backends ieee": assigned(BACKENDS, "fp32_precision", "ieee"),
    "backends bf16": assigned(BACKENDS, "fp32_precision", "bf16"),
    "cudnn tf32": assigned(BACKENDS.cudnn, "fp32_precision", "tf32"),
    "cudnn ieee": assigned(BACKENDS.cudnn, "fp32_precision", "ieee"),
    "cudnn.conv ieee": assigned(BACKENDS.cudnn.conv, "fp32_precision", "ieee"),
    "cudnn.rnn tf32": assigned(BACKENDS.cudnn.rnn, "fp32_precision", "tf32"),
    "cuda.matmul tf32": assigned(BACKENDS.cuda.matmul, "fp32_precision", "tf32"),
    "cuda.matmul ieee": assigned(BACKENDS.cuda.matmul, "fp32_precision", "ieee"),
    "mkldnn bf16": assigned(BACKENDS.mkldnn, "fp32_precision", "bf16"),
    "mkldnn alone bf16": put("mkldnn", "all", "bf16"),
    "mkldnn.matmul bf16": assigned(BACKENDS.mkldnn.matmul, "fp32_precision", "bf16"),
    "mkldnn.conv bf16": assigned(BACKENDS.mkldnn.conv, "fp32_precision", "bf16"),
    "mkldnn.rnn tf32": assigned(BACKENDS.mkldnn.rnn, "fp32_precision", "tf32"),
    "older medium": lambda: torch.set_float32_matmul_precision("medium"),
    "older high": lambda: torch.set_float32_matmul_precision("high"),
    "older allow_tf32 of cuBLAS": assigned(BACKENDS.cuda.matmul, "allow_tf32", True),
    "older allow_tf32 of cuDNN": assigned(BACKENDS.cudnn, "allow_tf32", False),
    "old and new": lambda: (torch.set_float32_matmul_precision("high"), put("cuda", "matmul", "ieee")()),
}


def reset():
    for place in PLACES:
        if place not in (("cuda", "conv"), ("cuda", "rnn")):
            put(*place, "none")()
    torch.set_float32_matmul_precision("highest")
    put("cuda", "matmul", "none")()
    put("mkldnn", "matmul", "none")()
    BACKENDS.cudnn.allow_tf32 = True  # after which convolutions have a TF32 of their own, as good as at the beginning


@pytest.fixture(params=STATES.values(), ids=STATES)
def state(request):
    reset()
    yield request.param
    reset()


def settings():
    return {place: torch._C._get_fp32_precision_getter(*place) for place in PLACES}


def older_switch():
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError as error:  # it disagrees with the settings
        return str(error)


def own_settings():
    """What remains of the settings when those above others are taken away; changes them."""
    left = []
    for place in [("generic", "all"), ("cuda", "all"), ("mkldnn", "all")]:
        left.append((settings(), older_switch()))
        put(*place, "none")()
    return [*left, settings()]


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_settings_hold_in_the_block_and_are_put_back(state, precision):
    state()
    expected = own_settings()
    reset()
    state()
    with products_in(precision):
        within = settings()
        assert torch.get_float32_matmul_precision() == {"ieee": "highest", "tf32": "high"}[precision]
    assert {value for place, value in within.items() if place != ("generic", "all")} == {precision}
    assert own_settings() == expected


def test_a_network_is_evaluated_as_ever(state):
    run, digits = load_run("digits-mlp-tf", 0.7, 1), load_digits()
    reset()
    expected = evaluate(run.model, digits, "test", logits=True)
    state()
    found = evaluate(run.model, digits, "test", logits=True)
    assert np.array_equal(found.logits, expected.logits)


def test_the_last_of_several_blocks_puts_back():
    reset()
    torch.set_float32_matmul_precision("medium")
    ends, entered = threading.Event(), threading.Event()

    def other():
        with float32_only():
            entered.set()
            ends.wait(60)
            seen.append(settings()[("mkldnn", "matmul")])

    seen = []
    thread = threading.Thread(target=other)
    try:
        with float32_only():
            thread.start()
            assert entered.wait(60)
        ends.set()
        thread.join(60)
        assert seen == ["ieee"]
        assert torch.get_float32_matmul_precision() == "medium"
        assert not torch.backends.cudnn.benchmark
        with pytest.raises(KeyError), float32_only(), float32_only():
            raise KeyError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        ends.set()
        reset()


def test_the_state_in_which_torch_begins_comes_back():
    """cuDNN's convolutions begin with a TF32 that gives way to settings above, unlike one that was set."""
    code = """
import torch
from heldout_torch.float32 import float32_only
with float32_only():
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
assert torch.backends.cudnn.conv.fp32_precision == "tf32"
assert torch.backends.cudnn.allow_tf32
torch.backends.cudnn.fp32_precision = "ieee"
assert torch.backends.cudnn.conv.fp32_precision == "ieee"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_copies_for_inference_are_compared_in_float32_by_themselves():
    """In TF32 on a GPU, a folded copy would differ from its network by more than rounding, and be thrown away."""
    seen = []

    class Watched(torch.nn.Linear):
        def forward(self, x):
            if isinstance(x, torch.Tensor):  # and not what traces the network
                seen.append(BACKENDS.cudnn.conv.fp32_precision)
            return super().forward(x.flatten(1))

    inference_copy(Watched(4, 2), torch.rand(3, 1, 2, 2))
    assert set(seen) == {"ieee"}
