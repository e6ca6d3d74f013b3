"""Convert the variables of a Sonnet network to the state dict of this package's network."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch

from heldout_torch.errors import CheckpointError, counted, listed
from heldout_torch.models import find_architecture, list_models
from heldout_torch.models.sonnet_rules import Rule

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of the key of every variable
_ROOT = "model/"
_NAMED = 5  # variables in an error


def from_sonnet(
    variables: Mapping[str, np.ndarray], architecture: str, ignore: Sequence[str] = ()
) -> dict[str, torch.Tensor]:
    """Return the state dict of a network, from the variables of its Sonnet original.

    Strict: every variable of the model is used exactly once, every tensor of the module is filled exactly once.
    The moving averages come from `average`, `num_batches_tracked` from `_counter`. `_hidden`, the state of the
    zero-debiased average, is known and left out, and so is whatever belongs to no model: the epoch, the
    counters, an optimizer's slots.

    Args:
        variables: Arrays by key, as `Checkpoint` reads them: the network under `model/`.
        architecture: A name of `heldout_torch.models.list_models()`.
        ignore: Patterns such as `model/ema/*` of variables that may be there though the network has no use for them.

    Returns:
        Tensors by the names of the architecture's module, float32, `num_batches_tracked` int64.

    Raises:
        CheckpointError: If variables are missing or unknown, or the architecture has no Sonnet counterpart.
        HeldoutError: If the architecture is not known.
    """
    keys = _of_model(variables)
    rules = _rules(keys, architecture)
    sources = [rule.source for rule in rules]
    targets = [rule.target for rule in rules if rule.target is not None]
    if twice := _named_twice(sources) + _named_twice(targets):
        raise CheckpointError(f"the Sonnet names of {architecture} hold {listed(twice, _NAMED)} more than once")
    if missing := [source for source in sources if source not in keys]:
        many, are = counted(len(missing), "variable"), "is" if len(missing) == 1 else "are"
        raise CheckpointError(f"{many} of {architecture} {are} missing: {listed(missing, _NAMED)}")
    unknown = [_ROOT + name for name in sorted(keys.keys() - set(sources))]
    if unwanted := [name for name in unknown if not any(fnmatchcase(name, pattern) for pattern in ignore)]:
        many, do = counted(len(unwanted), "variable"), "does" if len(unwanted) == 1 else "do"
        raise CheckpointError(
            f"{many} {do} not belong to {architecture}: "
            f"{listed((name.removeprefix(_ROOT) for name in unwanted), _NAMED)}; "
            f"to leave them out, give --ignore '{_pattern(unwanted)}'"
        )

    state = {}
    for source, target, convert in rules:
        array = variables[keys[source]]
        if target is not None:
            try:
                state[target] = torch.from_numpy(convert(array).copy())  # as own, contiguous memory
            except ValueError:
                raise CheckpointError(f"{source} has shape {array.shape}, which does not fit {target}") from None
    return state


def unknown_variables(variables: Iterable[str], architecture: str) -> list[str]:
    """Return the names, such as `model/ema/w`, of a model's variables that its network has no use for.

    Raises:
        CheckpointError: If the architecture has no Sonnet counterpart.
        HeldoutError: If it is not known.
    """
    keys = _of_model(variables)
    return [_ROOT + name for name in sorted(keys.keys() - {rule.source for rule in _rules(keys, architecture)})]


def _of_model(variables: Iterable[str]) -> dict[str, str]:
    """Return the keys of a model's variables by their names in it."""
    return {
        key.removeprefix(_ROOT).removesuffix(SUFFIX): key
        for key in variables
        if key.startswith(_ROOT) and ".OPTIMIZER_SLOT/" not in key
    }


def _rules(names: Mapping[str, str], architecture: str) -> list[Rule]:
    rules_of = find_architecture(architecture).sonnet_rules
    if rules_of is None:
        known = [name for name in list_models() if find_architecture(name).sonnet_rules is not None]
        raise CheckpointError(
            f"{architecture}: no Sonnet names are known for this architecture, expected one of {', '.join(known)}"
        )
    return list(rules_of(names))


def _pattern(names: list[str]) -> str:
    """Return what matches some names in order, such as `model/ema/*`."""
    first, last = names[0], names[-1]
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first if first == last else first[:common] + "*"


def _named_twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
