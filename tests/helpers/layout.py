"""Arrays as TensorFlow lays them out."""

import numpy as np
import torch


def torch_layout(array: np.ndarray) -> torch.Tensor:
    """Return the weights of a layer as PyTorch lays them out."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)  # HWIO -> OIHW, (in, out) -> (out, in)
    return torch.from_numpy(array.transpose(axes) if axes else array).contiguous()
