"""How often a training waits for the device that it runs on."""

from dataclasses import replace

import pytest
import torch

from heldout_torch.data import arrays, load_digits
from heldout_torch.experiments import find_experiment
from heldout_torch.training import RunBatch, loop, train_runs
from heldout_torch.training.network import Network
from heldout_torch.training.stacked_mlp import StackedMLP
from tests.helpers.devices import only_pretended
from tests.pretend_cuda import pretended_cuda

pytestmark = only_pretended
EPOCHS, EXAMPLES = 2, 1437
KINDS = {
    "stacked_mlp": (StackedMLP, "mlp", {"in_features": 64, "widths": [8], "num_classes": 10}, (0, 1)),
    "network": (Network, "small_inception", {"in_channels": 1}, (0,)),
}
SENT = "copy to the device", "data/arrays.py"
of_all = pytest.mark.parametrize("kind", KINDS)


def waits(kind, tmp_path, batch_size, precision="float32"):
    """Train, and return how often the host waited for the device, and how many steps were made."""
    _, architecture, config, runs = KINDS[kind]
    digits = find_experiment("digits-mlp")
    experiment = replace(digits, architecture=architecture, config=config)
    recipe = replace(digits.recipe, epochs=EPOCHS, batch_size=batch_size, augmentation="crop-flip", precision=precision)
    work = RunBatch(experiment, recipe, 0.1, runs)
    with pretended_cuda() as journal:
        dataset = load_digits().to("cuda")
        journal.syncs.clear()
        fitted = loop.fit(work, dataset, "cuda", str(tmp_path / "state"), lambda runs, loss: None)
    assert journal.finish() == []
    return sum(journal.syncs.values()), fitted.steps


def a_step(kind, tmp_path):
    """Return how often the host waits in a step: what twice as many steps in as many epochs add."""
    (few, few_steps), (many, many_steps) = (waits(kind, tmp_path, size) for size in (48, 24))
    assert many_steps == 2 * few_steps
    return (many - few) / (many_steps - few_steps)


@of_all
@pytest.mark.parametrize("at_once", [arrays.DRAWS_AT_ONCE, 1])
def test_no_step_of_a_training_waits_for_the_device(kind, at_once, tmp_path, monkeypatch):
    """Nor if each has its indices sent, as those of a thousand networks are."""
    monkeypatch.setattr(arrays, "DRAWS_AT_ONCE", at_once)
    assert a_step(kind, tmp_path) == 0


@of_all
def test_a_loss_that_is_read_at_each_step_is_seen(kind, tmp_path, monkeypatch):
    stack = KINDS[kind][0]
    genuine = stack.step

    def step(self, *arguments):
        loss = genuine(self, *arguments)
        loss.sum().item()
        return loss

    monkeypatch.setattr(stack, "step", step)
    assert a_step(kind, tmp_path) == 1


@of_all
def test_a_divisor_that_is_copied_to_the_device_at_each_step_is_seen(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "scaled", lambda images, by: images / torch.tensor(by, device=images.device))
    assert a_step(kind, tmp_path) == 1


@of_all
@pytest.mark.parametrize(("precision", "expected"), [("float32", "ieee"), ("tf32", "tf32")])
def test_products_are_computed_in_what_the_recipe_says(kind, precision, expected, tmp_path, monkeypatch):
    """Outside the block that says so, a GPU's convolutions are in TF32 and its products in float32."""
    seen, stack = set(), KINDS[kind][0]
    genuine = stack.step

    def step(self, *arguments):
        seen.update(torch._C._get_fp32_precision_getter("cuda", operation) for operation in ("conv", "matmul"))
        return genuine(self, *arguments)

    monkeypatch.setattr(stack, "step", step)
    waits(kind, tmp_path, 48, precision)
    assert seen == {expected}


@of_all
def test_images_go_to_the_device_once_for_all_batches_of_runs(kind, tmp_path):
    _, architecture, config, _ = KINDS[kind]
    digits = find_experiment("digits-mlp")
    experiment = replace(digits, name="own", architecture=architecture, config=config)
    recipe = replace(digits.recipe, epochs=1)
    for runs in ((0,), (0, 1, 2)):
        with pretended_cuda() as journal:
            work = RunBatch(experiment, recipe, 0.1, runs)
            list(train_runs(work, load_digits(), tmp_path / str(len(runs)), "cuda", batch_of_runs=1))
        sent = [count for (why, line), count in journal.syncs.items() if (why, line[:14]) == SENT]
        assert sum(sent) == 4  # images and labels of two splits
