"""What an evaluation gives."""

from dataclasses import dataclass

import numpy as np

from heldout_torch.stats.shown import short_repr


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How a network does on a split, one row an example, in the data set's order.

    After a "fast" evaluation `predicted` and `correct` are those of "exact"; logits, margin and log odds carry the
    error of 16 bits, but for the examples that were redone.

    Attributes:
        index: int64 of shape (n,), published indices.
        labels: int64 of shape (n,).
        predicted: int64 of shape (n,), the class with the largest logit, the first of equals.
        correct: bool of shape (n,), whether that is the label.
        margin: float32 of shape (n,), the label's logit minus the largest other one; negative where wrong.
        log_odds: float32 of shape (n,), log(p / (1 - p)) of the label's probability p.
        logits: float32 of shape (n, num_classes), None unless asked for.
        redone: Number of examples that "fast" computed in float32, too; n if it gained nothing from 16 bits.
        error: Largest `logit_error` that "fast" met; 0 where nothing was computed in 16 bits.
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
