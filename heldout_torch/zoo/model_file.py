"""`model.safetensors`: the tensors of a run's network, with what is known of the run in the header."""

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from heldout_torch.errors import ZooError, one_line
from heldout_torch.storage.kinds import stands_in
from heldout_torch.zoo.dtypes import halved, widened
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.metadata import RunMetadata

FIRST_BYTES = 2**16  # of a file that are asked for to read its header; most headers are shorter
_MAX_HEADER = 2**24  # bytes; safetensors itself refuses more than 100 MB
_DTYPES = {  # by safetensors' names, in the order in which it writes them: each tensor lies on a multiple of its size
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def model_bytes(state: Mapping[str, Tensor], metadata: RunMetadata) -> bytes:
    """Return the contents of a model file, in the dtype that the metadata names; equal input gives equal bytes.

    They are those of `safetensors.torch.save`, in less than half its time: each tensor is copied once.

    Raises:
        ZooError: If a tensor is of a dtype that a model file does not hold.
    """
    if other := [f"{name} of {tensor.dtype}" for name, tensor in state.items() if tensor.dtype not in _DTYPES]:
        raise ZooError(f"run {metadata.key}: {other[0]} cannot be kept, expected one of {', '.join(_DTYPES.values())}")
    if metadata.dtype is not None:
        state = halved(state, metadata.dtype)
    order = {dtype: place for place, dtype in enumerate(_DTYPES)}
    header: dict[str, object] = {"__metadata__": metadata.to_header()}
    parts, end = [], 0
    for name, tensor in sorted(state.items(), key=lambda item: (order[item[1].dtype], item[0])):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        start, end = end, end + flat.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        parts.append(flat.view(torch.uint8).numpy().data)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read_model(data: bytes, key: RunKey, name: str) -> tuple[dict[str, Tensor], RunMetadata]:
    """Return the tensors and the metadata of a whole model file; weights stored in 16 bits become float32.

    Args:
        data: Its contents.
        key: The run in whose folder it lies.
        name: What errors call the file.

    Raises:
        ZooError: If the file is damaged, or another run's.
    """
    metadata = read_model_header(data, key, name)
    try:
        state = load(data)
    except SafetensorError as error:
        raise ZooError(f"{name}: is not a readable safetensors file ({one_line(error)})") from None
    return (state if metadata.dtype is None else widened(state)), metadata


def read_model_header(data: bytes, key: RunKey, name: str) -> RunMetadata:
    """Return the metadata of a model file, of which the beginning is given, as much as `header_size` says.

    Raises:
        ZooError: If the header is damaged, or another run's.
    """
    size = header_size(data)
    try:
        if len(data) < size or size > _MAX_HEADER:
            raise ValueError
        header = json.loads(data[8:size]).get("__metadata__")
    except (ValueError, AttributeError, RecursionError) as error:
        reason = stands_in(data) or f" ({type(error).__name__} in its header)"
        raise ZooError(f"{name}: is not a readable safetensors file{reason}") from None
    metadata = RunMetadata.from_header(header, name)
    if metadata.key != key:
        raise ZooError(f"{name}: says that it is {metadata.key}, but is in the folder of {key}")
    return metadata


def header_size(data: bytes) -> int:
    """Return how many bytes of a model file its header takes, from its first 8 bytes; at most 16 MB."""
    return min(8 + int.from_bytes(data[:8], "little"), _MAX_HEADER + 1)
