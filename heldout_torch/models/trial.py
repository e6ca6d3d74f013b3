"""A network tried on images, before runs of it are declared or trained."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from heldout_torch.errors import HeldoutError, counted, one_line


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
    if logits.shape[1] < 2:
        raise HeldoutError(f"it gives {counted(logits.shape[1], 'logit')} for an image, expected two or more classes")
    if not (logits.requires_grad or logits.is_inference()):
        raise HeldoutError("its logits have no gradient to learn from; does it detach them?")
    return logits.detach()


def check_replayable(model: nn.Module, image: Tensor) -> None:
    """Check, as far as two calls show it, that a step of training which is recorded once can be replayed.

    Args:
        model: The network, in training mode.
        image: (1, c, h, w), as its data set gives it.

    Raises:
        HeldoutError: If it cannot; the line says only why.
    """
    norms: Counter[str] = Counter()
    for name, module in model.named_modules():
        if isinstance(module, _NormBase) and module.running_mean is not None:
            module.register_forward_hook(lambda *_, name=name: norms.update([name]))
    calls = []
    with torch.random.fork_rng([]):
        for _ in range(2):
            with _Operations() as operations:
                try_network(model, image.repeat(2, 1, 1, 1))  # of one value a norm takes no variance
            calls.append((operations.done, random.getstate()))
    if any(operator is torch.ops.aten._local_scalar_dense.default for operator, _ in calls[0][0]):
        raise HeldoutError("its forward looks at a number of a tensor, and so waits for the device")
    if calls[0] != calls[1]:
        raise HeldoutError("its forward does not do the same at each call")
    if several := [name for name, count in norms.items() if count > len(calls)]:
        raise HeldoutError(f"its forward calls the norm {several[0]!r} several times")


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What is done with tensors: each operator, with the shapes of its tensors and its other arguments, as text."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[tuple[Any, list[str]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs))
        # As text, NaN equals NaN.
        self.done.append((func, [repr(tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf) for leaf in leaves]))
        return func(*args, **(kwargs or {}))
