"""Compute memorization and influence with only NumPy and torch: subsets, training, counting, estimates.

    python examples/influence_in_60_lines.py

Many small networks are trained at once, each on its own random subset of the digits. The memorization of an example is
the accuracy on it of the networks that trained on it, minus the accuracy of the others. Its influence on a test example
is the same difference of accuracies on that test example. Source: Feldman and Zhang (2020), section 2, with the subsets
of their demo.
"""

from pathlib import Path

import numpy as np
import torch

RUNS, RATIO, WIDTH, EPOCHS, BATCH, RATE = 64, 0.7, 64, 20, 32, 0.1
DATA = Path(__file__).parent.parent / "heldout_torch" / "data" / "digits.npz"


def draw_subsets(runs: int, n: int, ratio: float) -> np.ndarray:
    """Return which examples each run trains on, bool (runs, n)."""
    mask = np.zeros((runs, n), bool)
    for run in range(runs):
        mask[run, np.random.RandomState(run).choice(n, size=int(n * ratio), replace=False)] = True
    return mask


def train(images: torch.Tensor, labels: torch.Tensor, mask: np.ndarray) -> list[torch.Tensor]:
    """Train one network a run, all at the same time: weights and biases with a leading axis of runs."""
    torch.manual_seed(0)
    shapes = [(images.shape[1], WIDTH), (1, WIDTH), (WIDTH, 10), (1, 10)]
    weights = [
        (torch.randn(len(mask), *shape) * shape[0] ** -0.5 * (shape[0] > 1)).requires_grad_() for shape in shapes
    ]
    optimizer = torch.optim.SGD(weights, RATE, momentum=0.9)
    random = np.random.default_rng(0)
    for _ in range(EPOCHS):
        orders = np.stack([random.permutation(np.flatnonzero(row)) for row in mask])  # (runs, k)
        for start in range(0, orders.shape[1], BATCH):
            batch = torch.from_numpy(orders[:, start : start + BATCH])  # (runs, b)
            logits = predict(weights, images[batch])  # (runs, b, 10)
            # A sum over runs: each network's gradient is that of its own mean loss.
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[batch].flatten(), reduction="sum")
            optimizer.zero_grad()
            (loss / batch.shape[1]).backward()
            optimizer.step()
    return weights


def predict(weights: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return logits (runs, b, 10) of images (b, pixels) or (runs, b, pixels)."""
    first, bias, last, last_bias = weights
    return torch.relu(images @ first + bias) @ last + last_bias


def difference(mask: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return mean correctness of the runs with example i, less that of the others, (n, m) of (runs, n), (runs, m)."""
    with_i, right = mask.astype(np.float64), correct.astype(np.float64)
    return with_i.T @ right / with_i.sum(0)[:, None] - (1 - with_i).T @ right / (1 - with_i).sum(0)[:, None]


def main() -> tuple[np.ndarray, ...]:
    """Train, count, and print; return masks, correctness on both splits, memorization (n,) and influence (n, m)."""
    data = np.load(DATA)
    images, tests = (torch.from_numpy(data[f"{split}__image"]).flatten(1) / 16 for split in ("train", "test"))
    labels, test_labels = (torch.from_numpy(data[f"{split}__label"]).long() for split in ("train", "test"))
    mask = draw_subsets(RUNS, len(images), RATIO)
    weights = train(images, labels, mask)
    with torch.no_grad():
        right = (predict(weights, images).argmax(2) == labels).numpy()  # (runs, n)
        test_right = (predict(weights, tests).argmax(2) == test_labels).numpy()  # (runs, m)
    influence = difference(mask, test_right)
    memorization = np.diagonal(difference(mask, right))
    best = np.unravel_index(influence.argmax(), influence.shape)
    print(f"accuracy: trained on {right[mask].mean():.3f}, held out {right[~mask].mean():.3f}")
    print(f"memorized at 0.25 or more: {(memorization >= 0.25).sum()} of {len(images)} examples")
    print(f"largest influence: {influence[best]:.2f}, of training example {best[0]} on test example {best[1]}")
    return mask, right, test_right, memorization, influence


if __name__ == "__main__":
    main()
