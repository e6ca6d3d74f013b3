"""A network tried on images, before runs of it are declared or trained."""

import torch
from torch import Tensor, nn

from heldout_torch.errors import HeldoutError, one_line


def try_network(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits that a network gives for images, (n, classes).

    Args:
        model: The network, in eval mode.
        images: (n, c, h, w), as its data set gives them.

    Raises:
        HeldoutError: If it cannot take the images, gives something else, or cannot learn; the line says only why.
    """
    try:
        with torch.enable_grad():  # whatever the caller's program has set; in inference mode there are none
            logits = model(images)
    except Exception as error:  # a network of a user's own may raise anything
        raise HeldoutError(one_line(error)) from error
    if not isinstance(logits, Tensor):
        raise HeldoutError(f"it gives {type(logits).__name__}, expected a tensor of logits")
    if logits.dim() != 2 or len(logits) != len(images):
        raise HeldoutError(f"it gives {tuple(logits.shape)}, expected logits ({len(images)}, classes)")
    if not (logits.requires_grad or logits.is_inference()):
        raise HeldoutError("its logits have no gradient to learn from; does it detach them?")
    return logits.detach()
