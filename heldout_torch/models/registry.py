"""Registry of networks. Each file of this package declares its networks in `ARCHITECTURES`; users register theirs."""

import functools
import importlib
import pkgutil
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from heldout_torch.errors import HeldoutError, nearest, one_line
from heldout_torch.models.initial import Initial, sonnet_initial
from heldout_torch.models.sonnet_rules import Rule


@dataclass(frozen=True)
class Architecture:
    """The record of a network.

    Attributes:
        name: As experiments name it, such as `small_inception`.
        build: Makes the module; takes the network's options as keyword arguments.
        initial: Fills a parameter with its initial value.
        sonnet_rules: Given the names of a Sonnet checkpoint's variables under `model/`, such as `conv1/conv/w`, says
            which variable becomes which tensor; None if the network has no Sonnet counterpart.
        stackable: Whether many runs are trained together, as one stack. This works only for linear layers `layers.0`,
            `layers.1`, … with biases and ReLU between them, on flattened images.
        replayable: Whether a GPU may record a step of its training once and replay it. This works only if `forward`
            does the same with every batch, and nothing in it waits for the device; each norm is called once.
    """

    name: str
    build: Callable[..., nn.Module]
    initial: Initial = sonnet_initial
    sonnet_rules: Callable[[Collection[str]], Iterable[Rule]] | None = None
    stackable: bool = False
    replayable: bool = False


REGISTERED: dict[str, Architecture] = {}  # users' own


def register_architecture(
    name: str,
    build: Callable[..., nn.Module],
    *,
    initial: Initial = sonnet_initial,
    sonnet_rules: Callable[[Collection[str]], Iterable[Rule]] | None = None,
    stackable: bool = False,
    replayable: bool = False,
) -> None:
    """Register a network of your own under a name, so that runs of it can be trained, evaluated, stored and loaded.

    If the module that registered a name registers it again, as when a cell of a notebook is run twice, the network is
    replaced.

    Args:
        name: Such as `my_network`; an experiment names it as its `architecture`.
        build: The module's class, or a function that returns it. It takes the options of an experiment's `[config]` by
            keyword. The module maps images (n, c, h, w) to logits (n, classes), and its state dict holds all that
            training changes. A tensor that it holds under two names is stored twice, and two equal ones are loaded.
        initial: Fills a parameter in place with its value before training, given its name, itself and the run's
            generator; what `build` put there is lost. By default as Sonnet does: from two dimensions on a truncated
            normal distribution of variance 1 / fan-in, else 1 if it is called `weight`, and 0 otherwise.
        sonnet_rules: As in `Architecture`, for a network with TensorFlow checkpoints.
        stackable: As in `Architecture`.
        replayable: As in `Architecture`.

    Raises:
        HeldoutError: If the name is not text, or belongs to a network of this package or of another module, or `build`
            cannot be called.
    """
    if not isinstance(name, str):
        raise HeldoutError(f"{reprlib.repr(name)} is not a name of an architecture, expected such as 'my_network'")
    if not callable(build):
        raise HeldoutError(f"architecture {name!r}: {reprlib.repr(build)} builds nothing, expected a class or function")
    if name in _own():
        raise HeldoutError(f"architecture {name!r} is one of this package's own; take another name")
    if name in REGISTERED and _home(REGISTERED[name].build) != _home(build):
        home = _home(REGISTERED[name].build)
        raise HeldoutError(f"architecture {name!r} is registered by module {home} already; take another name")
    REGISTERED[name] = Architecture(name, build, initial, sonnet_rules, stackable, replayable)


def list_models() -> list[str]:
    """Return the names of the networks that `build_model` can build."""
    return sorted({*_own(), *REGISTERED})


def find_architecture(name: str) -> Architecture:
    """Return the record of an architecture.

    Raises:
        HeldoutError: If there is none.
    """
    found = _own().get(name) or REGISTERED.get(name)
    if found is None:
        known = list_models()
        raise HeldoutError(
            f"architecture {name!r} is not known, expected one of {', '.join(known)}, or one of your own once its "
            f"module is imported{nearest(name, known)}"
        )
    return found


def build_model(architecture: str, **config: Any) -> nn.Module:
    """Build a network with fresh random weights.

    Every network has `forward(images) -> logits (n, num_classes)`; those of this package also have
    `forward_features(images)`, which returns the input of the last linear layer.

    Args:
        architecture: One of `list_models()`.
        **config: The network's own options, such as `num_classes`.

    Raises:
        HeldoutError: If the architecture is unknown, or cannot be built with these options.
    """
    build = find_architecture(architecture).build
    try:
        model = build(**config)
    except Exception as error:  # a network of a user's own may raise anything
        line = one_line(error)
        raise HeldoutError(f"{architecture} cannot be built with {config}: {line}") from error
    if not isinstance(model, nn.Module):
        raise HeldoutError(f"{architecture} builds {type(model).__name__}, expected a torch.nn.Module")
    return model


def build_skeleton(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network to get its names and shapes: on the device `meta`, without weights, if that is possible.

    Raises:
        HeldoutError: As `build_model`.
    """
    try:
        with torch.device("meta"):
            return build_model(architecture, **config)
    except HeldoutError:  # some networks compute with tensors while they are built
        return build_model(architecture, **config)


def expected_tensors(architecture: str, config: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return names, shapes and dtypes of a network's tensors.

    Raises:
        HeldoutError: As `build_model` or `check_shapes`.
    """
    model = build_skeleton(architecture, config)
    check_shapes(architecture, model)
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()}


def check_shapes(architecture: str, model: nn.Module) -> None:
    """Check that all tensors of a network have shapes, so that it has initial weights.

    Raises:
        HeldoutError: If one has none before an image is seen (`nn.LazyLinear`).
    """
    if lazy := [name for name, tensor in model.state_dict().items() if is_lazy(tensor)]:
        raise HeldoutError(f"{architecture}: {lazy[0]} has no shape before an image is seen; do not use lazy modules")


def restore_model(architecture: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Build a network around its tensors, in eval mode; the tensors are taken as they are, not copied.

    Args:
        architecture: One of `list_models()`.
        config: The network's options.
        state: Its state dict, whole.

    Raises:
        HeldoutError: If the network cannot be built, or the tensors do not fit it.
    """
    model = build_skeleton(architecture, config)
    try:
        model.load_state_dict(state, strict=True, assign=True)
        if any(tensor.is_meta for tensor in model.buffers()):  # constants that are in no state dict
            model = build_model(architecture, **config)
            model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        first, *others = _misfits(model, state) or [one_line(error)]
        more = f", and {len(others)} more tensors do not fit" if others else ""
        raise HeldoutError(f"tensors do not fit {architecture}: {first}{more}") from None
    return model.eval()


def _misfits(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Return what is wrong with each tensor of a state that does not fit a network."""
    expected = model.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is not one of its tensors" for name in state if name not in expected]
    both = [(name, tuple(state[name].shape), tuple(expected[name].shape)) for name in expected if name in state]
    return wrong + [f"{name} is {found}, expected {shape}" for name, found, shape in both if found != shape]


@functools.cache
def _own() -> dict[str, Architecture]:
    """Collect what the files of this package declare."""
    package = importlib.import_module(__name__.rpartition(".")[0])
    names = [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    return {one.name: one for name in names for one in getattr(importlib.import_module(name), "ARCHITECTURES", ())}


def _home(build: Callable[..., nn.Module]) -> str:
    return getattr(build, "func", build).__module__  # of a partial, its function's
