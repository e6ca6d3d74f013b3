"""From the names and layouts of Sonnet's variables to those of this package's networks."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from heldout_torch.errors import CheckpointError

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_ROOT = "model/"

# One Sonnet variable, the tensor it becomes, and how; no tensor where inference has no use for the variable.
_Rule = tuple[str, str | None, Callable[[np.ndarray], np.ndarray]]


def from_sonnet(variables: Mapping[str, np.ndarray], architecture: str) -> dict[str, torch.Tensor]:
    """Turn the variables of a Sonnet network into a state dict.

    Strict: every variable of the model is used exactly once, every tensor of the module is filled exactly once.
    The moving averages come from `average`, `num_batches_tracked` from `_counter`. `_hidden`, the state of the
    zero-debiased average, is known and left out, and so is whatever belongs to no model: the epoch, the
    counters, an optimizer's slots.

    Args:
        variables: Arrays by key, as `Checkpoint` reads them: the network under `model/`.
        architecture: A name of `heldout_torch.models.list_models()`.

    Returns:
        Tensors by the names of the architecture's module, float32, `num_batches_tracked` int64.

    Raises:
        CheckpointError: If variables are missing or unknown, or the architecture has no Sonnet counterpart.
    """
    keys = {
        key.removeprefix(_ROOT).removesuffix(_SUFFIX): key
        for key in variables
        if key.startswith(_ROOT) and ".OPTIMIZER_SLOT/" not in key
    }
    if architecture not in _ARCHITECTURES:
        raise CheckpointError(f"{architecture}: no Sonnet names are known, expected one of {', '.join(_ARCHITECTURES)}")
    rules = list(_ARCHITECTURES[architecture](keys))
    sources = [source for source, _, _ in rules]
    if missing := [source for source in sources if source not in keys]:
        raise CheckpointError(f"{len(missing)} variables of {architecture} are missing: {_listed(missing)}")
    if unknown := sorted(keys.keys() - set(sources)):
        raise CheckpointError(f"{len(unknown)} variables do not belong to {architecture}: {_listed(unknown)}")

    state = {}
    for source, target, convert in rules:
        array = variables[keys[source]]
        if target is not None:
            try:
                state[target] = torch.from_numpy(convert(array).copy())  # as own, contiguous memory
            except ValueError:
                raise CheckpointError(f"{source} has shape {array.shape}, which does not fit {target}") from None
    return state


def _small_inception(_: Mapping[str, str]) -> Iterator[_Rule]:
    units = {"conv1": "conv1"}
    for stage, blocks in ((1, 2), (2, 4), (3, 2)):
        for block in range(blocks):
            for branch in ("conv1x1", "conv3x3"):
                units[f"stage{stage}/_body/{block}/{branch}"] = f"stage{stage}.blocks.{block}.{branch}"
        if stage < 3:
            units[f"stage{stage}/_downsample"] = f"stage{stage}.downsample"
    for source, target in units.items():
        yield from _conv(f"{source}/conv", f"{target}.conv")
        yield from _batch_norm(f"{source}/bn", f"{target}.bn")
    yield from _linear("_pred", "fc")


def _resnet50(_: Mapping[str, str]) -> Iterator[_Rule]:
    yield from _conv("_initial_conv", "conv1")
    yield from _batch_norm("_initial_batchnorm", "bn1")
    for group, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            source, target = f"_block_groups/{group}/_blocks/{block}", f"layer{group + 1}.{block}"
            for layer in range(3):
                yield from _conv(f"{source}/_layers/{layer}/0", f"{target}.conv{layer + 1}")
                yield from _batch_norm(f"{source}/_layers/{layer}/1", f"{target}.bn{layer + 1}")
            if block == 0:
                yield from _conv(f"{source}/_proj_conv", f"{target}.downsample.0")
                yield from _batch_norm(f"{source}/_proj_batchnorm", f"{target}.downsample.1")
    yield from _linear("_logits", "fc")


def _mlp(keys: Mapping[str, str]) -> Iterator[_Rule]:
    # The one architecture whose depth is free: count the layers that are there.
    depth = max(1, sum(key.startswith("_layers/") and key.endswith("/w") for key in keys))
    for layer in range(depth):
        yield from _linear(f"_layers/{layer}", f"layers.{layer}")


_ARCHITECTURES: dict[str, Callable[[Mapping[str, str]], Iterator[_Rule]]] = {
    "small_inception": _small_inception,
    "resnet50": _resnet50,
    "mlp": _mlp,
}


def _conv(source: str, target: str) -> Iterator[_Rule]:
    yield f"{source}/w", f"{target}.weight", lambda w: w.transpose(3, 2, 0, 1)  # HWIO -> OIHW


def _linear(source: str, target: str) -> Iterator[_Rule]:
    yield f"{source}/w", f"{target}.weight", lambda w: w.transpose(1, 0)  # (in, out) -> (out, in)
    yield f"{source}/b", f"{target}.bias", lambda b: b.reshape(-1)


def _batch_norm(source: str, target: str) -> Iterator[_Rule]:
    yield f"{source}/scale", f"{target}.weight", lambda v: v.reshape(-1)
    yield f"{source}/offset", f"{target}.bias", lambda v: v.reshape(-1)
    for average, buffer in (("moving_mean", "running_mean"), ("moving_variance", "running_var")):
        yield f"{source}/{average}/average", f"{target}.{buffer}", lambda v: v.reshape(-1)  # (1, 1, 1, C) -> (C,)
        yield f"{source}/{average}/_hidden", None, lambda v: v
    yield f"{source}/moving_mean/_counter", f"{target}.num_batches_tracked", lambda v: v.reshape(())
    yield f"{source}/moving_variance/_counter", None, lambda v: v


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
