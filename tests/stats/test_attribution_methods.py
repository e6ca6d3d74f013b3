"""The example of attribution."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heldout_torch.cli import main
from heldout_torch.data import load_digits
from heldout_torch.zoo import load_run

SCRIPT = Path(__file__).parents[2] / "examples" / "attribution_methods.py"
spec = importlib.util.spec_from_file_location("attribution_methods", SCRIPT)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


@pytest.fixture(scope="module")
def digits():
    batch = next(load_digits().batches("test", 30))
    return batch.images, batch.labels


def test_gradients_are_autograds(digits):
    model = load_run("digits-mlp-tf", 0.7, 3).model
    images, labels = digits
    found = example.gradients(model, images, labels)
    for i in (0, 7, 29):
        probability = model(images[i : i + 1]).double().softmax(1)[0, labels[i]]
        parts = torch.autograd.grad(torch.logit(probability), list(model.parameters()))
        torch.testing.assert_close(found[i], torch.cat([part.flatten() for part in parts]), rtol=1e-3, atol=1e-4)


def test_a_dot_product_is_what_a_step_moves(digits):
    """A small step down the loss of one example moves the log odds of another by the dot product, and no others do."""
    model = load_run("digits-mlp-tf", 0.7, 3).model.double()
    images, labels = digits[0].double(), digits[1]
    scores = example.gradient_dot_products([model], (images[:4], labels[:4]), (images[10:13], labels[10:13]))

    def log_odds():
        chosen = model(images[10:13]).softmax(1).gather(1, labels[10:13, None])[:, 0]
        return torch.logit(chosen).detach()

    before, rate = log_odds(), 1e-5
    loss = torch.nn.functional.cross_entropy(model(images[2:3]), labels[2:3])
    steps = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for weight, step in zip(model.parameters(), steps, strict=True):
            weight -= rate * step
    torch.testing.assert_close(scores[:, 2].double(), (log_odds() - before) / rate, rtol=1e-2, atol=1e-3)


def test_the_example_measures_four_attributions(tmp_path):
    recipe, zoo = tmp_path / "quick.toml", tmp_path / "zoo"
    recipe.write_text("epochs = 2\nbatch_size = 64\nlearning_rate = 0.1\n")
    words = ["--runs", "0-23", "--subset-ratio", "0.5", "--zoo", str(zoo), "--recipe", str(recipe), "--save", "outputs"]
    assert main(["train", "digits-mlp", *words]) == 0
    command = [sys.executable, str(SCRIPT), str(zoo), "digits-mlp", "0.5"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("18 runs to attribute, 6 to measure")
    assert len(lines) == 5
    assert all(-1 < float(line.rpartition(": ")[2].split()[0]) < 1 for line in lines[1:])
    few = tmp_path / "few"  # too few for a datamodel
    assert main(["train", "digits-mlp", "--runs", "0-3", *words[2:5], str(few), *words[6:]]) == 0
    for wrong in ([*command[:-1], "0.7"], [*command[:2], str(few), *command[3:]]):
        process = subprocess.run(wrong, capture_output=True, text=True)
        assert process.returncode == 1
        assert process.stderr.splitlines()[-1].startswith("error: ")
