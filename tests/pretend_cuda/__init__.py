"""A pretended CUDA device, on which tests find what goes wrong on a GPU where there is none.

Inside `pretended_cuda()` tensors can be sent to `cuda:0 ...`. They hold their numbers on the CPU, but operations on
tensors of several devices are refused as CUDA refuses them, products are computed with operands rounded to TF32 where
the settings allow it, and the journal tells how often the host waits for the device, and what streams may do at the
wrong time, and CUDA graphs are recorded and replayed. It does not cast under autocast, and is in no other process.
"""

import threading
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from unittest.mock import patch

import torch

from tests.pretend_cuda import graphs, streams
from tests.pretend_cuda.journal import Journal
from tests.pretend_cuda.tensor import CudaTensor, Mode

__all__ = ["pretended_cuda"]

_tensor, _to, _where, _run = torch.tensor, torch.Tensor.to, torch.where, threading.Thread.run
_enter, _exit = torch.no_grad.__enter__, torch.no_grad.__exit__


@contextmanager
def pretended_cuda(devices=1, kind="cuda"):
    """Pretend that there are so many CUDA devices; gives the journal of what happens on them.

    Of another kind, such as `mps`, only what `torch.accelerator` says of it is pretended, and that MPS has no float64.

    Raises:
        RuntimeError: In one line, if this version of PyTorch is another than the pretended device was made for.
    """
    journal = Journal()
    streams.forget()
    streams.kind = kind
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        stack.callback(setattr, streams, "kind", "cuda")
        for place, name, value in _replacements(devices, journal):
            stack.enter_context(patch.object(place, name, value))
        stack.enter_context(patch.object(CudaTensor, "journal", Journal()))
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwritten)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(Mode())
        _check()
        streams.forget()
        CudaTensor.journal = journal
        yield journal


def _replacements(devices, journal):
    cuda, accelerator = torch.cuda, torch.accelerator
    found = {
        cuda: {
            "_lazy_init": lambda: None, "is_available": lambda: True, "is_initialized": lambda: True,
            "device_count": lambda: devices, "current_device": lambda: 0, "is_bf16_supported": lambda *a, **k: True,
            "get_device_capability": lambda device=None: (9, 0), "mem_get_info": lambda device=None: (1 << 30, 1 << 31),
            "is_current_stream_capturing": lambda: graphs.recording() is not None, "empty_cache": lambda: None,
            "get_device_name": lambda device=None: "pretended", "device": lambda device: nullcontext(),
            "CUDAGraph": partial(graphs.Graph, journal), "graph": graphs.recorded,
            "Stream": streams.Stream, "Event": streams.Event, "stream": streams.stream,
            "current_stream": streams.current_stream, "default_stream": streams.default_stream,
            "synchronize": lambda device=None: journal.note_sync("synchronize", device),
        },
        accelerator: {
            "is_available": lambda: True, "device_count": lambda: devices, "current_device_index": lambda: 0,
            "current_accelerator": lambda check_available=False: torch.device(streams.kind),
            "synchronize": lambda device=None: journal.note_sync("synchronize", device),
        },
        torch: {"tensor": _make_tensor, "where": _where_numbers},
        torch.Tensor: {"to": _move},
        # Tensors of inference mode have no version, which a tensor of Python's own needs.
        torch.inference_mode: {"__enter__": _enter_no_grad, "__exit__": _exit},
        threading.Thread: {"run": _run_thread},  # a mode is a thread's own
    }  # fmt: skip
    if streams.kind != "cuda":
        del found[cuda]
    return [(place, name, value) for place, values in found.items() for name, value in values.items()]


def _check():
    try:
        a = torch.ones(2, 3, 4, 4).to(streams.kind)
        b = torch.nn.functional.conv2d(a, torch.ones(5, 3, 1, 1, device=streams.kind)).relu_()[:, 1:]
        fits = b.device == torch.device(streams.kind, 0) and b.cpu().flatten().tolist() == [3.0] * 128
        try:
            fits &= (a + torch.ones(2, 3, 4, 4)) is None
        except RuntimeError as error:
            fits &= "same device" in str(error)
    except Exception as error:  # whatever a change of PyTorch leads to
        fits, reason = False, f" ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    else:
        reason = ""
    if not fits:
        raise RuntimeError(f"tests/pretend_cuda does not fit PyTorch {torch.__version__}{reason}")


def _make_tensor(data, *arguments, device=None, **options):
    made = _tensor(data, *arguments, **options, device="cpu" if streams.is_pretended(device) else device)
    return made.to(device) if streams.is_pretended(device) else made


def _move(self, *arguments, **options):
    def numbered(value):
        return streams.full(value) if isinstance(value, str | torch.device) else value

    return _to(self, *map(numbered, arguments), **{name: numbered(value) for name, value in options.items()})


def _where_numbers(condition, *values):
    if isinstance(condition, CudaTensor):
        like = next((value.dtype for value in values if isinstance(value, torch.Tensor)), None)
        values = [
            value if isinstance(value, torch.Tensor) else torch.full((), value, dtype=like, device=condition.device)
            for value in values
        ]
    return _where(condition, *values)


def _enter_no_grad(self):
    self.prev = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _run_thread(self):
    with Mode():
        _run(self)
