"""Membership inference by the likelihood-ratio attack (LiRA), from what `heldout evaluate --save outputs` wrote.

    heldout evaluate ZOO --experiment E --subset-ratio R --data DIR --out OUT --save outputs
    python examples/lira.py OUT/E/R/outputs

Each run in turn is attacked with all others as shadow models, whose random subsets hold every example in some and out
of others. Source: Carlini et al., "Membership Inference Attacks From First Principles" (IEEE S&P 2022), algorithm 1
and its offline variant, with the variances pooled over examples where shadow models are few (section VI).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm

from heldout_torch.errors import HeldoutError
from heldout_torch.stats import OutputTable

FEW = 64  # shadow models on either side below which one variance serves all examples, as in the paper


def attack(scores: np.ndarray, trained_on: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Attack one run with all others.

    Args:
        scores: Log odds of the label, float32 of shape (runs, examples).
        trained_on: bool of the same shape.
        target: Row of the attacked run.

    Returns:
        Evidence of membership by the online and by the offline attack, each float64 of shape (examples,), larger where
        membership is likelier; NaN where fewer than two shadow models lie on a side that is needed.
    """
    others = np.arange(len(scores)) != target
    score = scores[target].astype(np.float64)  # (examples,)
    mean_in, std_in = _gaussians(scores[others], trained_on[others])
    mean_out, std_out = _gaussians(scores[others], ~trained_on[others])
    online = norm.logpdf(score, mean_in, std_in) - norm.logpdf(score, mean_out, std_out)
    offline = norm.logcdf(score, mean_out, std_out)
    return online, offline


def roc(evidence: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give false and true positive rates, each of shape (examples + 1,), at every threshold; ties move together."""
    order = np.argsort(-evidence, kind="stable")
    evidence, members = evidence[order], members[order]
    last = np.append(np.flatnonzero(np.diff(evidence)), len(evidence) - 1)  # of each group of equal evidence
    true, false = np.cumsum(members)[last], np.cumsum(~members)[last]
    return np.append(0, false / max(false[-1], 1)), np.append(0, true / max(true[-1], 1))


def tpr_at(evidence: np.ndarray, members: np.ndarray, fpr: float) -> float:
    """Give the true positive rate at the largest threshold whose false positive rate is at most `fpr`."""
    false, true = roc(evidence, members)
    return float(true[false <= fpr].max())


def _gaussians(scores: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a Gaussian to each example's chosen scores (runs, examples): means and deviations, (examples,)."""
    count = chosen.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(chosen, scores, 0).sum(0, dtype=np.float64) / count
        squares = np.where(chosen, (scores - mean) ** 2, 0).sum(0)  # (examples,)
        variance = squares / count
    variance[count < 2] = np.nan
    if np.median(count) < FEW:
        variance[:] = np.where(count < 2, np.nan, squares[count >= 2].sum() / (count[count >= 2] - 1).sum())
    return mean, np.sqrt(variance) + 1e-30


def main() -> int:
    """Attack every run, and print what the attacks reach on all of them together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outputs", type=Path, help="folder such as OUT/cifar10-inception/0.7/outputs")
    parser.add_argument("--fpr", type=float, default=0.001, help="false positive rate, default: 0.001")
    arguments = parser.parse_args()
    try:
        table = OutputTable.load(arguments.outputs)
        if table.runs < 4:
            raise HeldoutError(f"{arguments.outputs} has outputs of {table.runs} runs, expected 4 or more")
        scores, trained_on = table.margins("train"), table.mask()
    except HeldoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{table.runs} runs, {table.train_examples} examples")
    attacks = [attack(scores, trained_on, target) for target in range(len(scores))]
    for number, name in enumerate(("online", "offline")):
        evidence, members = np.stack([result[number] for result in attacks]), trained_on
        usable = np.isfinite(evidence)
        false, true = roc(evidence[usable], members[usable])
        area = ((true[1:] + true[:-1]) / 2 * np.diff(false)).sum()
        print(
            f"{name}: TPR {tpr_at(evidence[usable], members[usable], arguments.fpr):.4f} at FPR {arguments.fpr:g}, "
            f"AUC {area:.4f}, over {usable.sum()} (run, example) pairs"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
