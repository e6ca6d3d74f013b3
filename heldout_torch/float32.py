"""What PyTorch computes float32 products in: float32 itself, or TF32 or bfloat16 in its place.

PyTorch keeps this in settings of the whole process, for each backend and kind of operation, with one setting of a
backend and one of all above them; a lower one that was set counts before those above. There are older switches beside
them, and PyTorch refuses to tell the state of those when they disagree with the settings.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch

_BACKENDS, _OPERATIONS = ("cuda", "mkldnn"), ("conv", "matmul", "rnn")
_lock = threading.Lock()
_changed = ExitStack()  # puts back what the first of the blocks that run changed
_blocks = 0


@contextmanager
def float32_only() -> Iterator[None]:
    """Make float32 mean float32 while the block runs: no TF32, no bfloat16 in its place, no autocast of the caller.

    On a GPU cuDNN's fastest kernels are sought. Blocks may run within each other and in several threads: the last that
    ends puts everything back; but for autocast, which is each thread's own.
    """
    global _blocks
    with _lock:
        if _blocks == 0:
            _changed.enter_context(products_in("ieee"))
            _changed.enter_context(_fastest_kernels())
        _blocks += 1
    accelerator = torch.accelerator.current_accelerator()
    try:
        with ExitStack() as own:
            for kind in {"cpu", accelerator.type if accelerator else "cpu"}:
                own.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                _changed.close()


@contextmanager
def products_in(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Compute products of float32 in float32 (`ieee`) or in TF32 while the block runs; put all settings back.

    Blocks of several threads must not overlap, as the settings are the process's.
    """
    get, put = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    above = [("generic", "all"), *((backend, "all") for backend in _BACKENDS)]
    operations = [(backend, operation) for backend in _BACKENDS for operation in _OPERATIONS]
    products = [(backend, "matmul") for backend in _BACKENDS]
    saved = []
    for place in above:  # from above, so that each tells its own setting, not that of one above it
        saved.append((place, get(*place)))
        put(*place, "none")
    own = {place: get(*place) for place in operations}
    for place in above[1:]:
        put(*place, precision)
    for place in operations:
        # What has no setting of its own follows by now, and is left so: convolutions of cuDNN begin in a state of
        # their own (TF32 unless something above is set) that no call brings back.
        if place in products or get(*place) != precision:
            saved.append((place, own[place]))
            put(*place, "ieee" if place in products else precision)
    before = torch.get_float32_matmul_precision()  # the older switch, which can be read while products are `ieee`
    torch.set_float32_matmul_precision("highest" if precision == "ieee" else "high")
    for place in products:
        put(*place, precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for place, value in reversed(saved):
            put(*place, value)


@contextmanager
def _fastest_kernels() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, True, False
    try:
        yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = before
