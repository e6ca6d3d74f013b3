"""A copy of a network made for inference alone.

Batch norm is folded into the convolution before it, and each convolution also does the addition and the ReLU after it
in the same pass over memory. `torch.fx` finds what follows what; a network that it cannot follow, or whose copy gives
other logits, runs as it is.

Folding changes the rounding of logits, by about 1e-6 of their size, as a change of batch size or of library does.
"""

import copy
import operator
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from heldout_torch.devices import float64_device
from heldout_torch.errors import counted
from heldout_torch.evaluation.convolutions import FusedConvolution, fused_convolution
from heldout_torch.evaluation.devices import is_device_fault, lacks_memory
from heldout_torch.float32 import float32_only
from heldout_torch.models.padding import Conv2dSame, MaxPool2dSame

_CHECKED = 32  # images on which a copy is compared with the network
_SAME = 1e-4  # a copy's logits may differ by so much of the largest one
_RELU = {"call_function": (F.relu, torch.relu, torch.relu_), "call_method": ("relu", "relu_")}
_ADD = {"call_function": (operator.add, operator.iadd, torch.add), "call_method": ("add", "add_")}

_tracing = threading.Lock()


@dataclass(frozen=True, eq=False)
class Begun:
    """What of an inference copy needs no images, beside the network: a GPU may compute another one meanwhile.

    Attributes:
        plain: As `bare_copy` makes it, in float32.
        fused: The same with batch norms folded, for the device; None if the network has no graph.
    """

    plain: nn.Module
    fused: nn.Module | None


def begin_copy(model: nn.Module, device: torch.device) -> Begun:
    """Begin an inference copy of a network, for a device."""
    with torch.inference_mode():
        plain = bare_copy(model).float()
        return Begun(plain, _fuse(copy.deepcopy(plain), fused_convolution(device)))


def inference_copy(model: nn.Module, images: Tensor, begun: Begun | None = None) -> nn.Module:
    """Copy a network for inference; the original is left as it is.

    Args:
        model: Any network.
        images: Some of those that it will see, float32 of shape (b, c, h, w), on the device where it will run; on a
            CPU as many as it will see at once.
        begun: What `begin_copy` made of it for that device, which is used up; by default it is made now.

    Returns:
        The copy, in eval mode, on the images' device.

    Raises:
        RuntimeError: What the network raises for such images.
        ValueError: If it gives something else than a tensor of as many rows.
    """
    device, layout = images.device, layout_for(images.device, torch.float32)
    images = images[:_CHECKED].contiguous(memory_format=layout)
    begun = begun or begin_copy(model, device)
    with torch.inference_mode(), float32_only():  # or a GPU's TF32 would make the copy differ too much
        try:
            plain = begun.plain.to(device).to(memory_format=layout)
            expected = plain(images)
        except RuntimeError as error:
            if is_device_fault(error):
                raise
            usual = _UsualLayout(bare_copy(model).to(device).to(torch.float32))
            usual(images)
            return usual
        if not isinstance(expected, Tensor):
            raise ValueError(f"it gives {type(expected).__name__}, expected a tensor of logits")
        if not expected.dim() or len(expected) != len(images):
            raise ValueError(f"it gives {tuple(expected.shape)} for {counted(len(images), 'image')}")
        fused = begun.fused and begun.fused.to(device).to(memory_format=layout)
        return fused if fused and _same(_logits(fused, images), expected) else plain


def lower_copy(copied: nn.Module, model: nn.Module, images: Tensor, dtype: torch.dtype) -> nn.Module | None:
    """Copy an inference copy for a type of fewer bits.

    Args:
        copied: What `inference_copy` made of the network.
        model: The network.
        images: As there.
        dtype: Of the copy's weights, and of the images that it is to be given.

    Returns:
        The copy, in eval mode, on the images' device; None if the network does not work in that type.
    """
    layout = layout_for(images.device, dtype)
    with torch.inference_mode():
        some = images[:_CHECKED].to(dtype).contiguous(memory_format=layout)
        low = copy.deepcopy(copied).to(dtype).to(memory_format=layout)
        if _logits(low, some) is not None:
            return low
        low = _plain_copy(model, images.device, dtype)
        return low if _logits(low, some) is not None else None


def layout_for(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """Return how images are to lie: on CUDA, float32 without TF32 has its fast kernels for the usual layout."""
    return torch.channels_last if device.type == "cpu" or dtype != torch.float32 else torch.contiguous_format


def bare_copy(model: nn.Module) -> nn.Module:
    """Copy a network, in eval mode, without what spreads it over GPUs or compiles it.

    Tensors that it computed for itself, such as pruned weights, which PyTorch does not copy, are copied without their
    history: it computes them anew.
    """
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module  # type: ignore[assignment]
    attributes = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    computed = {id(value): value.detach().clone() for value in attributes if not value.is_leaf}
    return copy.deepcopy(model, computed).eval()


class _UsualLayout(nn.Module):
    """A network that works only on images in the usual layout, such as one that makes views of its activations."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model.to(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor) -> Tensor:
        # Of images of one channel `contiguous` leaves strides that convolutions take for another layout.
        return self._model(x.clone(memory_format=torch.contiguous_format))


def _plain_copy(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    return bare_copy(model).to(device).to(dtype).to(memory_format=layout_for(device, dtype))


def _logits(model: nn.Module, images: Tensor) -> Tensor | None:
    """Return what a copy gives; None if it cannot, such as for what is added in another shape than a convolution's."""
    try:
        return model(images)
    except Exception as error:  # a hook may expect another module in a convolution's place
        if isinstance(error, torch.AcceleratorError) or lacks_memory(error):
            raise
        return None


def _same(logits: Tensor | None, expected: Tensor) -> bool:
    if logits is None or logits.shape != expected.shape:
        return False
    return bool((logits - expected).abs().max() <= _SAME * expected.abs().max())


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


def _fuse(model: nn.Module, fused: type[FusedConvolution] | None) -> nn.Module | None:
    """Fold batch norms, and what a fused convolution does, into a network's convolutions; None if it has no graph."""
    try:
        with _tracing:
            graph = _Tracer().trace(model)
    except Exception:  # a network may do anything with what the tracer gives it
        return None
    modules = dict(model.named_modules())
    for node in list(graph.nodes):  # or a shortcut through an identity would be read by something unknown
        if node.op == "call_module" and type(modules[str(node.target)]) is nn.Identity and node.args:
            _absorb(node.args[0], node)
    places = {node: place for place, node in enumerate(graph.nodes)}
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
        if fused is None or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        addition, added = _addition(node, places)
        relu = _only_user(addition or node)
        rectifies = relu is not None and _is_relu(relu, modules)
        if fused.needs_relu and not (rectifies and conv.groups == 1):
            continue
        overwrites = False
        if addition and added:
            overwrites = _is_last_read(added, addition, model)
            node.args = (*node.args, added)
            _absorb(node, addition)
        if relu and rectifies:
            _absorb(node, relu)
        parent, _, name = str(node.target).rpartition(".")
        setattr(model.get_submodule(parent), name, fused(conv, rectifies, overwrites))
    return fx.GraphModule(model, graph)


def _addition(node: fx.Node, places: dict[fx.Node, int]) -> tuple[fx.Node, fx.Node] | tuple[None, None]:
    """Return the addition of another node to this one and to nothing else, and that other node."""
    user = _only_user(node)
    if user and user.target in _ADD.get(user.op, ()) and len(user.args) == 2 and not user.kwargs:
        other = next((argument for argument in user.args if argument is not node), None)
        if isinstance(other, fx.Node) and places[other] < places[node]:  # it must be there when the convolution runs
            return user, other
    return None, None


def _is_last_read(added: fx.Node, addition: fx.Node, model: nn.Module) -> bool:
    """Whether an addition is the last to read what it adds: all others are convolutions before it, fused already.

    Anything else might have made a view of it, which is read later.
    """

    def fused(node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), FusedConvolution)

    return fused(added) and all(fused(user) for user in added.users if user is not addition)


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
