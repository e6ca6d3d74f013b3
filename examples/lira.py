"""Infer membership by the likelihood-ratio attack (LiRA), from the outputs of `heldout evaluate --save outputs`.

    heldout evaluate ZOO --experiment E --subset-ratio R --data DIR --out OUT --save outputs
    python examples/lira.py OUT/E/R/outputs

Each run is attacked with all other runs as shadow models. Every example is in the subsets of some of them, and held out
by others. Margins are read in blocks of examples, and evidence is counted in a histogram, so memory does not grow with
the number of examples. Source: Carlini et al., "Membership Inference Attacks From First Principles" (IEEE S&P 2022),
algorithm 1 and its offline variant. If there are few shadow models, variances are pooled over examples (section VI).
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from heldout_torch.errors import HeldoutError
from heldout_torch.stats import OutputTable

FEW = 64  # shadow models on either side below which one variance serves all examples, as in the paper
SCORES = 2**21  # of a block
_BINS = 2**20  # of a histogram: evidence that agrees to 11 binary digits is one value


def attack(table: OutputTable) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Attack every run of a table with all others.

    Yields:
        For a block of examples the evidence of membership by the online and by the offline attack, float64 of shape
        (runs, block), larger where membership is likelier, NaN where fewer than two shadow models lie on a side that
        is needed; and whether each run trained on the example, bool of the same shape.
    """
    step = max(1, SCORES // table.runs)  # examples

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, table.train_examples, step):
            part = np.arange(start, min(start + step, table.train_examples))
            yield table.margins("train", part).astype(np.float64), table.mask(None, part)

    pooled = [_pooled_variance(blocks, side) for side in (True, False)]  # each (runs, 1) or None
    for block, members in blocks():
        (mean_in, std_in), (mean_out, std_out) = (
            _gaussians(block, members == side, variance) for side, variance in zip((True, False), pooled, strict=True)
        )
        away_in, away_out = (block - mean_in) / std_in, (block - mean_out) / std_out
        online = (away_out**2 - away_in**2) / 2 + np.log(std_out / std_in)
        yield online, torch.special.log_ndtr(torch.from_numpy(away_out)).numpy(), members


def histogram(evidence: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Count evidence in ascending bins, of members and of others, int64 of shape (2, bins); NaN is left out."""
    usable = np.isfinite(evidence)
    with np.errstate(over="ignore"):  # where all shadow models agree, evidence is without bounds
        bits = evidence[usable].astype(np.float32).view(np.int32)
    # As integers, negative floats ascend with their size: turned round, all bits of numbers ascend as the numbers do.
    bins = ((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 12) + _BINS // 2
    return np.stack([np.bincount(bins[members[usable] == side], minlength=_BINS) for side in (True, False)])


def roc(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates at every threshold of a histogram; ties move together."""
    members, others = np.cumsum(counts[:, ::-1][:, counts[:, ::-1].any(0)], axis=1)
    return np.append(0, others / max(others[-1], 1)), np.append(0, members / max(members[-1], 1))


def tpr_at(counts: np.ndarray, fpr: float) -> float:
    """Return the true positive rate at the largest threshold whose false positive rate is at most `fpr`."""
    false, true = roc(counts)
    return float(true[false <= fpr].max())


def _without_each(scores: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each run, of the other runs' chosen scores of an example: number, mean, sum of squares; (runs, block)."""
    centre = np.where(chosen, scores, 0).sum(0) / np.maximum(chosen.sum(0), 1)
    away = np.where(chosen, scores - centre, 0)
    count, total = chosen.sum(0) - chosen, away.sum(0) - away
    mean = total / np.maximum(count, 1)
    return count, mean + centre, np.maximum((away**2).sum(0) - away**2 - total * mean, 0)


def _gaussians(scores: np.ndarray, chosen: np.ndarray, pooled: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Fit a Gaussian to the other runs' chosen scores: means and deviations, (runs, block)."""
    count, mean, squares = _without_each(scores, chosen)
    variance = np.broadcast_to(pooled, mean.shape) if pooled is not None else squares / np.maximum(count, 1)
    return mean, np.sqrt(np.where(count < 2, np.nan, variance)) + 1e-30


def _pooled_variance(blocks: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]], side: bool) -> np.ndarray | None:
    """Return the variance that serves all examples when a run is attacked, (runs, 1); None where models are many."""
    number = np.concatenate([(members == side).sum(0) for _, members in blocks()])  # (examples,)
    if np.median(number) - 1 >= FEW:
        return None
    squares = freedom = np.zeros(1)
    for block, members in blocks():
        count, _, found = _without_each(block, members == side)
        squares = squares + np.where(count < 2, 0, found).sum(1)
        freedom = freedom + np.where(count < 2, 0, count - 1).sum(1)
    return (squares / np.maximum(freedom, 1))[:, None]


def main() -> None:
    """Attack every run, and print what the attacks reach on all of them together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outputs", type=Path, help="folder such as OUT/cifar10-inception/0.7/outputs")
    parser.add_argument("--fpr", type=float, default=0.001, help="false positive rate, default: 0.001")
    arguments = parser.parse_args()
    if not 0 <= arguments.fpr <= 1:
        parser.error(f"--fpr is {arguments.fpr}, expected 0 ... 1")
    table = OutputTable.load(arguments.outputs)
    if table.runs < 4:
        raise HeldoutError(f"{arguments.outputs} has outputs of {table.runs} runs, expected 4 or more")
    counts = np.zeros((2, 2, _BINS), np.int64)  # (attack, member or not, bin)
    for online, offline, trained_on in attack(table):
        counts += np.stack([histogram(online, trained_on), histogram(offline, trained_on)])
    print(f"{table.runs} runs, {table.train_examples} examples")
    for name, found in zip(("online", "offline"), counts, strict=True):
        members, others = found.sum(1)
        if not members or not others:
            print(f"{name}: not measured; {members} members and {others} others have the shadow models that it needs")
            continue
        false, true = roc(found)
        area = ((true[1:] + true[:-1]) / 2 * np.diff(false)).sum()
        print(
            f"{name}: TPR {tpr_at(found, arguments.fpr):.4f} at FPR {arguments.fpr:g}, "
            f"AUC {area:.4f}, over {found.sum()} (run, example) pairs"
        )


if __name__ == "__main__":
    try:
        main()
    except HeldoutError as error:
        sys.exit(f"error: {error}")
