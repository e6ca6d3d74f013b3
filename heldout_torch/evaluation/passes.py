"""One network's way through a split, batch by batch."""

import numpy as np
import torch
from torch import Tensor

from heldout_torch.data import Batch, Dataset, SplitName
from heldout_torch.errors import DataError, HeldoutError, counted, one_line
from heldout_torch.evaluation.devices import is_device_fault
from heldout_torch.evaluation.precision import CALIBRATION, InferenceNetwork, Precision, Prepared, logit_error
from heldout_torch.evaluation.result import Evaluation

CHECK_EVERY = 64  # and of all examples one in so many
SAFE = 1.5  # a prediction counts if its margin exceeds the largest error seen so many times
SAFE_SO_FAR = 2.0  # while images go by more is asked, so that they need not come again when a larger error is seen


class Pass:
    """Collects a network's predictions. After all batches were added, those that `must_revisit` come again.

    Args:
        prepared: The network.
        dataset: What the batches come from.
        split: The split that they are.
        precision: As in `evaluate`.
        keep_logits: As in `evaluate`.
        flips: As in `evaluate`.
    """

    def __init__(
        self,
        prepared: Prepared,
        dataset: Dataset,
        split: SplitName,
        precision: Precision,
        keep_logits: bool,
        flips: bool,
    ) -> None:
        self._prepared, self._dataset, self._split, self._precision = prepared, dataset, split, precision
        self._keep_logits, self._flips = keep_logits, flips
        self._network: InferenceNetwork | None = None
        self._failed: DataError | None = None
        self._index: list[Tensor] = []  # of each batch, as the next two
        self._labels: list[Tensor] = []
        self._rows: list[dict[str, Tensor]] = []
        self._redone: list[tuple[Tensor, dict[str, Tensor]]] = []  # positions in the split, and their rows in float32
        self._waiting: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # positions, images, labels, low logits
        self._unsafe = torch.zeros(0, dtype=torch.bool, device="cpu")
        self._error = 0.0  # largest seen
        self._position = 0  # of the next batch's first example

    def add(self, batch: Batch) -> None:
        """Take the next batch of the split."""
        if self._failed is not None:
            return
        first = self._network is None
        try:
            network = self._network or self._start(batch.images)
            logits = network.low(batch.images) if network.has_low else network.exact(batch.images)  # (b, k)
            self._check(logits, len(batch.images))
        except DataError as error:
            self._failed = error
            return
        position = self._next(batch)
        rows = self._summarize(logits, batch.labels, batch.images)
        self._index.append(batch.index)
        self._labels.append(batch.labels)
        self._rows.append(rows)
        if not network.has_low:
            return
        checked, wanted = position % CHECK_EVERY == 0, torch.zeros_like(position, dtype=torch.bool)
        if first:
            wanted = checked | (position < CALIBRATION)
            self._wait(wanted, position, batch, logits)
            self._redo()
        # The first are done.
        self._wait((checked | self._below(rows["gap"], SAFE_SO_FAR)) & ~wanted, position, batch, logits)
        if sum(len(waiting[0]) for waiting in self._waiting) >= len(position):
            self._redo()

    def must_revisit(self) -> bool:
        """Redo what waits, and tell whether the split must come again, for examples that are not safe by now."""
        if self._failed is not None or self._network is None or not self._network.has_low:
            return False
        self._redo()
        self._unsafe = self._below(torch.cat([rows["gap"] for rows in self._rows]), SAFE)  # (n,)
        for position, _ in self._redone:
            self._unsafe[position] = False
        self._position = 0
        return bool(self._unsafe.any())

    def revisit(self, batch: Batch) -> None:
        """Take the next batch of the split again."""
        position = self._next(batch)
        wanted = self._unsafe[position]
        place = wanted.nonzero().flatten()
        if len(place):
            assert self._network is not None
            images = batch.images[place]
            self._waiting.append((position[place], images, batch.labels[place], self._network.low(images)))
            self._redo()

    def finish(self) -> Evaluation | HeldoutError:
        """Put everything together, or tell what is wrong."""
        if self._failed is not None:
            return self._failed
        if not self._rows:
            return DataError(f"{self._dataset.name}: the split {self._split} has no images")
        rows = {key: torch.cat([part[key] for part in self._rows]) for key in self._rows[0]}
        for position, redone in self._redone:
            for key, values in redone.items():
                rows[key][position] = values
        index = torch.cat(self._index).numpy()  # (n,)
        del rows["gap"]
        arrays = _to_host({**rows, "labels": torch.cat(self._labels)})
        labels = arrays["labels"]
        if not arrays["finite"].all():
            bad = np.sort(index[~arrays["finite"]])
            return DataError(
                f"{self._dataset.name}: the logits of example {bad[0]} of {self._split} are not finite numbers "
                f"({len(bad)} such examples); are the network's weights damaged?"
            )
        low = self._network is not None and self._network.has_low
        return Evaluation(
            index=index,
            labels=labels,
            predicted=arrays["predicted"],
            correct=arrays["predicted"] == labels,
            margin=arrays["margin"],
            log_odds=arrays["log_odds"],
            logits=arrays.get("logits"),
            redone=sum(len(position) for position, _ in self._redone) if low else len(index),
            error=self._error,
        )

    def _start(self, images: Tensor) -> InferenceNetwork:
        name, shape = type(self._prepared.model).__name__, tuple(images.shape[1:])
        try:
            self._network = self._prepared.network(images, self._precision)
        except (RuntimeError, ValueError) as error:
            if is_device_fault(error):
                raise
            reason = one_line(error)
            raise DataError(f"{self._dataset.name}: {name} cannot take images of shape {shape} ({reason})") from None
        return self._network

    def _check(self, logits: Tensor, images: int) -> None:
        name, shape = type(self._prepared.model).__name__, tuple(logits.shape[1:])
        if len(logits) != images:  # a network may do so with its last batch alone
            raise DataError(f"{self._dataset.name}: {name} gives {len(logits)} rows for {counted(images, 'image')}")
        if shape != (self._dataset.num_classes,):
            raise DataError(
                f"{self._dataset.name}: {name} gives logits of shape {shape} for an image, expected "
                f"({self._dataset.num_classes},); is it a network for another data set?"
            )

    def _next(self, batch: Batch) -> Tensor:
        """Return the positions of a batch's examples in the split, (b,)."""
        start, self._position = self._position, self._position + len(batch.index)
        return torch.arange(start, self._position, device=batch.labels.device)

    def _below(self, gap: Tensor, factor: float) -> Tensor:
        # Not "gap <= bound", so that a margin which is not a number counts as below.
        return ~(gap > factor * self._error)

    def _wait(self, wanted: Tensor, position: Tensor, batch: Batch, logits: Tensor) -> None:
        place = wanted.nonzero().flatten()  # a GPU is waited for here, and by every tensor that a mask is given to
        if len(place):
            self._waiting.append((position[place], batch.images[place], batch.labels[place], logits[place]))

    def _redo(self) -> None:
        """Compute in float32 what waits for it, and learn the error of 16 bits from it."""
        if not self._waiting:
            return
        assert self._network is not None
        position, images, labels, low = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        exact = self._network.exact(images)  # (b, k)
        self._redone.append((position, self._summarize(exact, labels, images)))
        error = logit_error(low, exact)
        self._error = max(self._error, float(torch.where(error.isfinite(), error, 0).max()))

    def _summarize(self, logits: Tensor, labels: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Reduce logits (b, k) to the rows that are kept: each of shape (b,), the logits themselves (b, k)."""
        top = logits.topk(2, dim=1).values  # (b, 2)
        predicted, finite = logits.argmax(1), logits.isfinite().all(1)
        rows = {
            "predicted": predicted,
            "gap": torch.where(finite, top[:, 0] - top[:, 1], torch.nan),  # too large for 16 bits is never safe
            "margin": logits.gather(1, labels[:, None])[:, 0] - top[:, 0],
            "log_odds": _log_odds(logits, labels),
            "finite": finite,
        }
        rows["margin"] = torch.where(predicted == labels, rows["gap"], rows["margin"])
        if self._flips:
            assert self._network is not None
            mirrored = self._network.exact(images.flip(3))
            rows["log_odds"] = (rows["log_odds"] + _log_odds(mirrored, labels)) / 2
        if self._keep_logits:
            rows["logits"] = logits
        return rows


def _to_host(rows: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy rows to the CPU, all those of shape (n,) at once: a GPU is waited for at each copy.

    Whole numbers, of which none needs more than 32 bits, travel as such, and floats as their bits.
    """
    flat = {key: values for key, values in rows.items() if values.dim() == 1}
    packed = [values.view(torch.int32) if values.dtype == torch.float32 else values.int() for values in flat.values()]
    arrays = {key: values.cpu().numpy() for key, values in rows.items() if key not in flat}
    for (key, values), row in zip(flat.items(), torch.stack(packed).cpu(), strict=True):
        arrays[key] = (row.view(torch.float32) if values.dtype == torch.float32 else row.to(values.dtype)).numpy()
    return arrays


def _log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the log odds (b,) of labels (b,) under logits (b, k)."""
    others = logits.scatter(1, labels[:, None], -torch.inf)  # (b, k)
    return logits.gather(1, labels[:, None])[:, 0] - others.logsumexp(1)
