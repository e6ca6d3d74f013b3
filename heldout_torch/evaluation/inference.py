"""A copy of a network made for inference alone.

Batch norm is folded into the convolution before it. On a CPU each convolution also does the addition and the ReLU
after it in the same pass over memory, with weights that lie as oneDNN wants them. `torch.fx` finds what follows what; a
network that it cannot follow, or whose copy gives other logits, runs as it is.

Folding changes the rounding of logits, by about 1e-6 of their size, as a change of batch size or of library does.
"""

import copy
import operator
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from heldout_torch.evaluation.devices import float64_device
from heldout_torch.evaluation.float32 import float32_only
from heldout_torch.models.padding import Conv2dSame, MaxPool2dSame

_SAME = 1e-4  # a copy's logits may differ by so much of the largest one
_RELU = {"call_function": (F.relu, torch.relu, torch.relu_), "call_method": ("relu", "relu_")}
_ADD = {"call_function": (operator.add, operator.iadd, torch.add), "call_method": ("add", "add_")}

_tracing = threading.Lock()


def inference_copy(model: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Copy a network for inference; the original is left as it is.

    Args:
        model: Any network.
        images: As it will see them, as many as it will see at once, on the device where it will run: (b, c, h, w).
        dtype: Of the copy's weights, and of the images that it is to be given.

    Returns:
        The copy, in eval mode, on the images' device.
    """
    on_cpu = images.device.type == "cpu"
    # On CUDA, float32 without TF32 has its fast kernels for the usual layout.
    layout = torch.channels_last if on_cpu or dtype != torch.float32 else torch.preserve_format

    def plain_copy() -> nn.Module:
        copied = copy.deepcopy(model).eval().requires_grad_(False)
        return copied.to(images.device).to(memory_format=layout)

    with torch.inference_mode(), float32_only():  # or a GPU's TF32 would make the copy differ too much
        copied = plain_copy()
        images = images.contiguous(memory_format=layout)
        expected = copied(images)
        fused = _fuse(copied, on_cpu and hasattr(torch.ops.mkldnn, "_convolution_pointwise"))
        if fused is None or not _gives(fused, images, expected):
            fused = plain_copy()
        fused = fused.to(dtype)
    for module in fused.modules():
        if isinstance(module, _Convolution):
            module.packed = None  # they were float32
    return fused


def _gives(model: nn.Module, images: Tensor, expected: Tensor) -> bool:
    try:
        logits = model(images)
    except RuntimeError:  # what is added to a convolution's output must have its shape
        return False
    return logits.shape == expected.shape and bool((logits - expected).abs().max() <= _SAME * expected.abs().max())


class _Tracer(fx.Tracer):
    """A tracer that leaves the networks of other threads alone: while it traces, the call of every module is its own.

    Only one may trace at a time, or the second would leave the calls of the first behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Paddings depend on the images' size, which a tracer does not know.
        return isinstance(m, (nn.Conv2d, MaxPool2dSame)) or super().is_leaf_module(m, module_qualified_name)


def _fuse(model: nn.Module, fully: bool) -> nn.Module | None:
    """Fold batch norms, and if `fully`, ReLUs and additions, into a network's convolutions; None if it has no graph."""
    try:
        with _tracing:
            graph = _Tracer().trace(model)
    except Exception:  # a network may do anything with what the tracer gives it
        return None
    modules, places = dict(model.named_modules()), {node: place for place, node in enumerate(graph.nodes)}
    uses = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        conv = modules.get(node.target) if node.op == "call_module" else None
        if type(conv) not in (nn.Conv2d, Conv2dSame) or uses[node.target] > 1:
            continue
        assert isinstance(conv, nn.Conv2d)
        norm = modules.get(user.target) if (user := _only_user(node)) and user.op == "call_module" else None
        if user and type(norm) is nn.BatchNorm2d and norm.track_running_stats and uses[user.target] == 1:
            _fold(conv, norm)
            _absorb(node, user)
        if not fully or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        if (
            (user := _only_user(node))
            and user.target in _ADD.get(user.op, ())
            and len(user.args) == 2
            and not user.kwargs
        ):
            other = next((argument for argument in user.args if argument is not node), None)
            # What is added must be there when the convolution runs.
            if isinstance(other, fx.Node) and places[other] < places[node]:
                node.args = (*node.args, other)
                _absorb(node, user)
        rectifies = (user := _only_user(node)) is not None and _is_relu(user, modules)
        if user and rectifies:
            _absorb(node, user)
        parent, _, name = str(node.target).rpartition(".")
        setattr(model.get_submodule(parent), name, _Convolution(conv, rectifies))
    return fx.GraphModule(model, graph)


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(modules.get(str(node.target))) is nn.ReLU
    return node.target in _RELU.get(node.op, ())


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _absorb(node: fx.Node, user: fx.Node) -> None:
    user.replace_all_uses_with(node)
    user.graph.erase_node(user)


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Move a batch norm into the convolution before it; computed in float64, so that it is rounded once."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    place, like = float64_device(conv.weight.device), conv.weight

    def double(tensor: Tensor) -> Tensor:
        return tensor.to(place).double()

    scale = (double(norm.running_var) + norm.eps).rsqrt()  # (channels,)
    if norm.weight is not None:
        scale = scale * double(norm.weight)
    shift = (0 if conv.bias is None else double(conv.bias)) - double(norm.running_mean)
    bias = shift * scale + (0 if norm.bias is None else double(norm.bias))
    weight = double(like) * scale[:, None, None, None]  # (out, in, k, k)
    conv.weight = nn.Parameter(weight.to(like.dtype).to(like.device), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(like.dtype).to(like.device), requires_grad=False)


class _Convolution(nn.Module):
    """A convolution on a CPU, then if wanted an addition, then a ReLU, by oneDNN in one pass.

    `torch.compile` calls the same operators; they need no compiler. The weights are packed for the first images.
    """

    def __init__(self, conv: nn.Conv2d, rectifies: bool) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.packed: Tensor | None = None
        self._pad = conv.pad if isinstance(conv, Conv2dSame) else None
        self._shape: Sequence[Any] = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self._unary = "relu" if rectifies else None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        x = x if self._pad is None else self._pad(x)
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self._shape, list(x.shape))
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.packed, self.bias, *self._shape, self._unary or "none", [], ""
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, other, self.packed, self.bias, *self._shape, "add", None, self._unary, [], None
        )
