"""What an evaluation gives, and a verification."""

from dataclasses import dataclass

import numpy as np

from heldout_torch.errors import counted
from heldout_torch.stats.shown import short_repr
from heldout_torch.zoo.aux_arrays import Part


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Predictions of a network on a split, one row for each example, in the data set's order.

    After a "fast" evaluation, `predicted` and `correct` equal those of "exact". Logits, margins and log odds have the
    error of 16 bits, except for the examples that were computed again.

    Attributes:
        index: int64 of shape (n,), published indices.
        labels: int64 of shape (n,).
        predicted: int64 of shape (n,), the class with the largest logit; the first one if several are equal.
        correct: bool of shape (n,), whether the predicted class is the label.
        margin: float32 of shape (n,), the label's logit minus the largest other one; negative where wrong. The margins
            of an output table are `log_odds` instead.
        log_odds: float32 of shape (n,), log(p / (1 - p)) of the label's probability p.
        logits: float32 of shape (n, num_classes), None unless asked for.
        redone: Number of examples that "fast" computed again in float32; n if nothing was computed in 16 bits.
        error: Largest `logit_error` that "fast" measured; 0 if nothing was computed in 16 bits.
    """

    index: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    margin: np.ndarray
    log_odds: np.ndarray
    logits: np.ndarray | None
    redone: int
    error: float

    __repr__ = short_repr

    @property
    def loss(self) -> np.ndarray:
        """Cross entropy of shape (n,), float32, in nats."""
        return np.logaddexp(np.float32(0), -self.log_odds)


@dataclass(frozen=True, eq=False, repr=False)
class SplitVerification:
    """One part of `aux_arrays.npz` against the network.

    Attributes:
        examples: Number of recorded examples that the data set has.
        missing: Number of recorded examples that it lacks.
        mismatched: int64 of shape (m,), published indices whose recorded correctness is not the network's, ascending.
        margins: float32 of shape (m,), their labels' logits minus the largest other ones.
        ties: bool of shape (m,), whether the margin is so small that rounding decides.
    """

    examples: int
    missing: int
    mismatched: np.ndarray
    margins: np.ndarray
    ties: np.ndarray

    __repr__ = short_repr

    @property
    def matches(self) -> int:
        """Number of examples whose recorded correctness is the network's."""
        return self.examples - len(self.mismatched)


@dataclass(frozen=True, eq=False, repr=False)
class Verification:
    """A run's aux arrays against its network.

    Attributes:
        splits: By name, `train`, `removed`, `test`, or those asked for.
        tie_margin: Up to here a mismatch's margin counts as a tie: twice the measured error of logit differences in
            float32, once for the recorded pass and once for this one. 0 if nothing mismatched, so nothing was measured.
    """

    splits: dict[Part, SplitVerification]
    tie_margin: float

    def __repr__(self) -> str:
        return f"Verification({self.matches} of {self.examples} match, {counted(self.ties, 'tie')})"

    @property
    def examples(self) -> int:
        """Number of examples compared."""
        return sum(split.examples for split in self.splits.values())

    @property
    def matches(self) -> int:
        """Number of examples whose recorded correctness is the network's."""
        return sum(split.matches for split in self.splits.values())

    @property
    def ties(self) -> int:
        """Number of mismatches that are ties."""
        return sum(int(split.ties.sum()) for split in self.splits.values())

    @property
    def mismatches(self) -> int:
        """Number of mismatches that are not ties."""
        return self.examples - self.matches - self.ties
