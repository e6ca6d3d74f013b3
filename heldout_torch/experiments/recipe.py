"""Recipes: how runs are trained. An experiment has one as its `[recipe]`; users can give their own."""

import reprlib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from heldout_torch.errors import HeldoutError, nearest
from heldout_torch.experiments.toml_files import read_toml

_CHOICES = {
    "decay": ("constant", "linear", "steps"),
    "augmentation": ("none", "crop-flip", "resized-crop-flip"),
    "precision": ("float32", "tf32", "bf16"),
}
_NUMBERS = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "ramp")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of stochastic gradient descent with momentum on the cross entropy.

    Attributes:
        epochs: Passes over the subset; the last batch of a pass may be smaller.
        batch_size: Examples in each step.
        learning_rate: The highest learning rate.
        momentum: Momentum, in [0, 1).
        weight_decay: This factor times the weights is added to their gradient.
        ramp: Share of all steps in which the rate rises linearly from 0, in [0, 1).
        decay: How the rate changes after the ramp: `constant`, `linear` (to 0 at the end), or `steps`.
        drops: For `steps`: at each of these shares of all steps, the rate falls to a tenth.
        augmentation: `none`, `crop-flip` (pad 4, crop, flip: CIFAR) or `resized-crop-flip` (ImageNet).
        precision: `float32`, `tf32` or `bf16` (matrix products on a GPU; weights stay float32).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    ramp: float = 0.0
    decay: str = "constant"
    drops: tuple[float, ...] = ()
    augmentation: str = "none"
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Make numbers of NumPy's and others like them, and check the values.

        Raises:
            HeldoutError: If one is out of its range.
        """
        for name in _NUMBERS:
            object.__setattr__(self, name, _plain(getattr(self, name)))
        with suppress(TypeError):  # refused below
            object.__setattr__(self, "drops", tuple(map(_plain, self.drops)))
        for name in ("epochs", "batch_size"):
            _require(_is_number(getattr(self, name), int) and getattr(self, name) >= 1, self, name, "a number from 1")
        _require(_is_number(self.learning_rate) and self.learning_rate > 0, self, "learning_rate", "above 0")
        _require(_is_number(self.weight_decay) and self.weight_decay >= 0, self, "weight_decay", "0 or above")
        for name in ("momentum", "ramp"):
            _require(_is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1, self, name, "in [0, 1)")
        shares = isinstance(self.drops, tuple) and all(_is_number(drop) and 0 < drop < 1 for drop in self.drops)
        _require(shares, self, "drops", "shares in (0, 1)")
        _require(
            bool(self.drops) == (self.decay == "steps"), self, "drops", "given with decay 'steps', and only with it"
        )
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, self, name, f"one of {', '.join(choices)}")

    @classmethod
    def from_record(cls, record: Any, where: str) -> Self:
        """Read a recipe from parsed TOML.

        Args:
            record: Fields by name, a dictionary.
            where: What errors call the file.

        Raises:
            HeldoutError: If a field is unknown, missing or of a wrong value.
        """
        if not isinstance(record, dict):
            raise HeldoutError(f"{where}: a recipe must be a table of fields, not {reprlib.repr(record)}")
        names = [field.name for field in fields(cls)]
        for name in record:
            if name not in names:
                raise HeldoutError(
                    f"{where}: a recipe has no field {reprlib.repr(name)}, expected some of {', '.join(names)}"
                    f"{nearest(name, names)}"
                )
        for name in ("epochs", "batch_size", "learning_rate"):
            if name not in record:
                raise HeldoutError(f"{where}: the recipe lacks the field {name!r}")
        drops = record.get("drops", ())
        try:
            return cls(**{**record, "drops": tuple(drops) if isinstance(drops, list) else drops})
        except (HeldoutError, TypeError) as error:
            raise HeldoutError(f"{where}: {error}") from None

    def to_record(self) -> dict[str, Any]:
        """Return the fields as JSON keeps them, such as in the metadata of runs."""
        return {**asdict(self), "drops": list(self.drops)}

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: From 0.
            steps: All steps of the run.
        """
        done = step / steps
        if done < self.ramp:
            return self.learning_rate * done / self.ramp
        if self.decay == "linear":
            return self.learning_rate * (1 - done) / (1 - self.ramp)
        return self.learning_rate * 0.1 ** sum(done >= drop for drop in self.drops)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file: the fields of `Recipe`, one a line.

    Raises:
        HeldoutError: If the file cannot be read, is not TOML, or is not a recipe.
    """
    return Recipe.from_record(read_toml(path), str(path))


def _plain(value: Any) -> Any:
    """Return a number as an int or a float; of NumPy's short floats the shortest decimal. Other things stay as is."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in tuple("iuf") and getattr(value, "ndim", 1) == 0:
        return float(str(value)) if kind == "f" else int(value)
    return float(value) if isinstance(value, Decimal | Fraction) else value


def _is_number(value: Any, kind: Any = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value == value and abs(value) != float("inf")


def _require(good: bool, recipe: Recipe, name: str, expected: str) -> None:
    if not good:
        raise HeldoutError(f"field {name!r} of a recipe is {reprlib.repr(getattr(recipe, name))}, expected {expected}")
