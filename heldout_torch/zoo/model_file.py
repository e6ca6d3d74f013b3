"""`model.safetensors`: the tensors of a run's network, with what is known of the run in the header."""

import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heldout_torch.errors import ZooError
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.metadata import RunMetadata

FIRST_BYTES = 2**16  # of a file that are asked for to read its header; most headers are shorter
_MAX_HEADER = 2**24  # bytes; safetensors itself refuses more than 100 MB


def model_bytes(state: Mapping[str, Tensor], metadata: RunMetadata) -> bytes:
    """Return the contents of a model file; equal tensors and metadata give equal bytes."""
    return save({name: tensor.contiguous() for name, tensor in state.items()}, metadata.to_header())


def read_model(data: bytes, key: RunKey, name: str) -> tuple[dict[str, Tensor], RunMetadata]:
    """Return the tensors and the metadata of a whole model file.

    Args:
        data: Its contents.
        key: The run in whose folder it lies.
        name: What errors call the file.

    Raises:
        ZooError: If the file is damaged, or another run's.
    """
    metadata = read_model_header(data, key, name)
    try:
        return load(data), metadata
    except SafetensorError as error:
        raise ZooError(f"{name}: is no readable safetensors file ({' '.join(str(error).split())})") from None


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
        raise ZooError(f"{name}: is no readable safetensors file ({type(error).__name__} in its header)") from None
    metadata = RunMetadata.from_header(header, name)
    if metadata.key != key:
        raise ZooError(f"{name}: says that it is {metadata.key}, but lies in the folder of {key}")
    return metadata


def header_size(data: bytes) -> int:
    """Return how many bytes of a model file its header takes, from its first 8 bytes; at most 16 MB."""
    return min(8 + int.from_bytes(data[:8], "little"), _MAX_HEADER + 1)
