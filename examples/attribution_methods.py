"""Compare four data attributions on scikit-learn's digits by their linear datamodeling scores.

    heldout train digits-mlp --runs 0-399 --subset-ratio 0.5 --zoo zoo --save outputs
    python examples/attribution_methods.py zoo digits-mlp 0.5

Three quarters of the runs make the attributions; the others measure them. The gradient dot products are those of TracIn
(Pruthi et al., "Estimating Training Data Influence by Tracing Gradient Descent", 2020), but only at the last
checkpoint. As in TRAK (Park et al., 2023), the margin of the test example is attributed, and scores are averaged over
networks.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from heldout_torch.data import load_digits
from heldout_torch.errors import HeldoutError
from heldout_torch.stats import OutputTable, RunTable, datamodels, influence, lds
from heldout_torch.zoo import load_run

NETWORKS = 20  # how many networks gradients are computed for


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the gradient of each example's log odds by all weights, (examples, weights)."""
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def log_odds(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, weights, (image[None],))[0]  # (classes,)
        own = torch.arange(len(logits)) == label
        return (logits * own).sum() - torch.where(own, -torch.inf, logits).logsumexp(0)

    found = vmap(grad(log_odds), (None, 0, 0))(weights, images, labels)
    return torch.cat([each.flatten(1) for each in found.values()], dim=1)


def gradient_dot_products(models: list[nn.Module], train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Tensor:
    """Attribute test examples to training examples, (test, train): how a step on one would move the other's margin."""
    total = torch.zeros(len(test[1]), len(train[1]))
    for model in models:
        with torch.no_grad():
            right = model(train[0]).softmax(1).gather(1, train[1][:, None])  # (train, 1)
        # The loss falls along the gradient of the log odds, the steeper the less likely the label.
        steps = gradients(model, *train) * (1 - right)
        total += gradients(model, *test) @ steps.T
    return total / len(models)


def main() -> None:
    """Attribute by four methods, and print how well each predicts runs that were held back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=Path, help="folder that `heldout train --save outputs` filled")
    parser.add_argument("experiment", help="such as digits-mlp")
    parser.add_argument("subset_ratio", type=float, help="such as 0.5")
    arguments = parser.parse_args()
    name, ratio = arguments.experiment, arguments.subset_ratio
    outputs = OutputTable.load(arguments.zoo / name / repr(ratio) / "outputs")
    held_back = np.arange(outputs.runs) % 4 == 3
    known, unseen = outputs.select_runs(~held_back), outputs.select_runs(held_back)
    numbers = [int(key.rpartition("/")[2]) for key in known.keys]
    bits = RunTable.from_zoo(arguments.zoo, name, ratio, numbers)
    models = [load_run(name, ratio, number, arguments.zoo).model for number in numbers[:NETWORKS]]
    digits = load_digits()
    batches = [next(digits.batches(split, 2000)) for split in ("train", "test")]  # each the whole split
    images = [(batch.images, batch.labels) for batch in batches]
    attributions = {
        "influence on right or wrong": influence(bits),
        "influence on margins": influence(known),
        "ridge datamodels": datamodels(known).weights,
        f"gradient dot products of {len(models)} networks": gradient_dot_products(models, *images).numpy(),
    }
    print(f"{known.runs} runs to attribute, {unseen.runs} to measure; linear datamodeling scores, with 95 % intervals:")
    for method, scores in attributions.items():
        found = lds(np.nan_to_num(scores), unseen)  # NaN where all runs of few trained on an example, or none did
        print(f"{method}: {found.mean:.3f} ({found.interval[0]:.3f} ... {found.interval[1]:.3f})")


if __name__ == "__main__":
    try:
        main()
    except HeldoutError as error:
        sys.exit(f"error: {error}")
