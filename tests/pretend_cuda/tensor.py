"""A tensor that says that it lies on a CUDA device, and holds its numbers on the CPU."""

import threading
from functools import partial

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from tests.pretend_cuda import graphs
from tests.pretend_cuda.journal import Journal
from tests.pretend_cuda.streams import current_stream, full, is_pretended

_lock = threading.RLock()  # one operation at a time
_COPIES = {"copy_", "_to_copy", "copy"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_NO_NUMBERS_OF_THE_HOST = {  # where not even one number may lie on the CPU
    "gather", "scatter", "scatter_", "take", "index_select", "mm", "addmm", "bmm", "baddbmm", "convolution", "cat",
    "cudnn_convolution_relu", "cudnn_convolution_add_relu",
}  # fmt: skip
_WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "repeat_interleave"}
_NO_KERNEL = {
    "view", "_unsafe_view", "slice", "select", "expand", "detach", "alias", "as_strided", "t", "transpose", "permute",
    "unsqueeze", "squeeze", "unbind", "split", "split_with_sizes", "empty", "empty_like", "empty_strided", "new_empty",
    "_reshape_alias", "lift_fresh", "is_pinned", "reshape",
}  # fmt: skip
_FUSED = {  # cuDNN's own, by what they are made of
    "cudnn_convolution_relu": lambda x, weight, *shape: F.conv2d(x, weight, *shape).relu(),
    "cudnn_convolution_add_relu": lambda x, weight, z, alpha, *shape: F.conv2d(x, weight, *shape).add(z * alpha).relu(),
}
_CONVOLUTIONS = {"convolution", "convolution_backward", *_FUSED}
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "baddbmm_"}
_WITH_SUMMAND = {"addmm", "baddbmm", "baddbmm_"}  # whose first operand is added, not multiplied


class CudaTensor(torch.Tensor):
    """The tensor; `held` are its numbers."""

    journal = Journal()  # of the test that runs

    @staticmethod
    def __new__(cls, held, place):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=torch.device("meta"), requires_grad=False,
        )  # fmt: skip

    def __init__(self, held, place):
        self.held, self.place = held, place

    device = property(lambda self: self.place)
    is_cuda = property(lambda self: self.place.type == "cuda")
    is_cpu = is_meta = property(lambda self: False)

    def record_stream(self, stream):
        memory = self.journal.memory.get(address(self))
        if memory:
            memory.recorded.add(stream.number)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            with torch.no_grad():
                copied = self.detach().clone(memory_format=torch.preserve_format)
            copied.requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                copied._is_param = True
            memo[id(self)] = copied
        return memo[id(self)]

    def __repr__(self):
        return f"pretended {self.held!r}"

    def numpy(self, *arguments, **options):
        raise TypeError(f"can't convert {self.place} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def __setitem__(self, index, value):
        if not isinstance(value, torch.Tensor):
            value = torch.full((), value, dtype=self.dtype, device=self.place)
        super().__setitem__(index, value)

    def tolist(self):
        return self.detach().cpu().tolist()

    def data_ptr(self):
        return self.held.data_ptr()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return run(operation, arguments, options or {})


class Mode(TorchDispatchMode):
    """Runs what makes tensors on a CUDA device; the tensors themselves run what is done with them."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = dict(options or {})
        leaves, device = tree_leaves((arguments, options)), options.get("device")
        concerned = any(isinstance(leaf, CudaTensor) for leaf in leaves) or options.get("pin_memory")
        concerned = concerned or operation._schema.name in ("aten::_pin_memory", "aten::is_pinned")
        if concerned or is_pretended(device):
            return run(operation, arguments, options)
        return operation(*arguments, **options)


def address(tensor):
    """Return what tells pieces of memory apart."""
    return tensor.held.untyped_storage().data_ptr()


def run(operation, arguments, options):
    """Run an operation as CUDA would: on one device, with its launches, syncs and streams noted."""
    name = operation._schema.name.removeprefix("aten::")
    with _lock:
        options = dict(options)
        options.pop("pin_memory", None)
        ours = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, CudaTensor)]
        if name == "_pin_memory":
            return arguments[0].clone()
        if name == "is_pinned":
            return False
        if name == "_has_compatible_shallow_copy_type":
            return isinstance(arguments[0], CudaTensor) == isinstance(arguments[1], CudaTensor)
        _check_devices(name, arguments, options, ours)
        asked = torch.device(options["device"]) if options.get("device") is not None else None
        there = ours[0].place if ours else None
        if asked is not None and asked.type != "meta":
            there = full(asked) if is_pretended(asked) else None
        _note_syncs(name, arguments, options, ours, asked)
        if asked is not None:
            options["device"] = torch.device("cpu")
        written = _written(operation, arguments, options)
        compute = partial(_compute, operation, name, *tree_map(_held, (arguments, options)))
        recording = graphs.recording() if ours or there is not None else None
        if recording is not None:
            recording.keep(written)
        result = compute()
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if (ours or there is not None) and name not in _NO_KERNEL and recording is None:
            CudaTensor.journal.launches[name] += 1
        if (ours or there is not None) and (name not in _NO_KERNEL or name.startswith(("empty", "new_empty"))):
            used = {address(tensor) for tensor in ours}
            new = {tensor.untyped_storage().data_ptr() for tensor in made} if there is not None else set()
            use = name, used - {0}, {address(tensor) for tensor in written}, new - {0}
            if recording is not None:
                recording.add(compute, made, use)
            else:
                CudaTensor.journal.note_use(current_stream(there or ours[0].place), *use)
        if there is None:
            return result
        if there.type == "mps" and any(tensor.dtype == torch.float64 for tensor in made):
            raise TypeError("Cannot convert a MPS Tensor to float64, which the framework does not have")
        result = tree_map(lambda leaf: CudaTensor(leaf, there) if isinstance(leaf, torch.Tensor) else leaf, result)
        if asked is not None or not ours:
            return result
        return return_and_correct_aliasing(operation, arguments, options, result)


def _compute(operation, name, arguments, options):
    """Compute an operation of held numbers as CUDA would: in TF32 where that is allowed, halves summed in float32."""
    if (name in _CONVOLUTIONS and _in_tf32("conv")) or (name in _PRODUCTS and _in_tf32("matmul")):
        first = 1 if name in _WITH_SUMMAND else 0
        arguments = tuple(_as_tf32(value) if i >= first else value for i, value in enumerate(arguments))
    half = {leaf.dtype for leaf in tree_leaves(arguments) if _is_half(leaf)}
    half = half if name in (_CONVOLUTIONS | _PRODUCTS) - {"baddbmm_"} else set()
    if half:  # rounded once; the CPU's own are slow
        arguments = tree_map(lambda leaf: leaf.float() if _is_half(leaf) else leaf, arguments)
    result = _FUSED.get(name, operation)(*arguments, **options)
    return tree_map(lambda leaf: leaf.to(*half) if isinstance(leaf, torch.Tensor) else leaf, result) if half else result


def _check_devices(name, arguments, options, ours):
    places = {tensor.place for tensor in ours}
    if len(places) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {places} in {name}")
    others = [leaf for leaf in tree_leaves((arguments, options)) if _on_cpu(leaf)]
    if name in _INDEXING and others:
        if not isinstance(arguments[0], CudaTensor) and ours:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        others = [value for value in arguments[2:3] if _on_cpu(value)]
    if ours and name not in _COPIES:
        few = 0 if name in _NO_NUMBERS_OF_THE_HOST else 1
        if any(tensor.dim() >= few for tensor in others):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cpu and cuda in {name}")


def _note_syncs(name, arguments, options, ours, asked):
    note = CudaTensor.journal.note_sync
    if name == "_to_copy" and asked is not None and asked.type != "meta":
        from_device, waits = isinstance(arguments[0], CudaTensor), not options.get("non_blocking", False)
        if from_device and asked.type == "cpu":
            if not waits:
                CudaTensor.journal.problems.append("a copy to the host that is not waited for")
            note("copy to the host", arguments[0].place)
        elif not from_device and is_pretended(asked) and waits:
            note("copy to the device", asked)
    elif name == "copy_" and isinstance(arguments[0], CudaTensor) != isinstance(arguments[1], CudaTensor):
        if not (len(arguments) > 2 and arguments[2]):
            note("copy to the device" if isinstance(arguments[0], CudaTensor) else "copy to the host", ours[0].place)
    elif name in _WAITING and ours:
        note(name, ours[0].place)
    elif name in _INDEXING and ours:
        for index in arguments[1]:
            if isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8):
                note("mask", ours[0].place)
            elif _on_cpu(index):
                note("copy to the device", ours[0].place)


def _written(operation, arguments, options):
    # Batch norm does not say that it writes its averages.
    written = [
        leaf for leaf in arguments[3:5] if operation._schema.name == "aten::native_batch_norm" and leaf is not None
    ]
    for i, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = arguments[i] if i < len(arguments) else options.get(argument.name)
            written += [leaf for leaf in tree_leaves(value) if isinstance(leaf, CudaTensor)]
    return written


def _in_tf32(operation):
    return torch._C._get_fp32_precision_getter("cuda", operation) == "tf32"


def _as_tf32(value):
    """Round to the 10 bits after the point that TF32 keeps, to nearest even."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.dim() < 2:
        return value
    bits = value.detach().clone(memory_format=torch.preserve_format).view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def _is_half(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float16, torch.bfloat16)


def _held(leaf):
    return leaf.held if isinstance(leaf, CudaTensor) else leaf


def _on_cpu(leaf):
    return isinstance(leaf, torch.Tensor) and not isinstance(leaf, CudaTensor) and leaf.device.type == "cpu"
