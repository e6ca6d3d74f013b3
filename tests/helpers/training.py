"""Short training of the digits, run by run."""

from dataclasses import replace

from heldout_torch.data import ArrayDataset, load_digits
from heldout_torch.training import Recipe, RunBatch, train_runs
from heldout_torch.zoo import known_experiments

DIGITS = known_experiments()["digits-mlp"]
SHORT = Recipe(epochs=3, batch_size=64, learning_rate=0.1)


def work(runs=4, experiment=DIGITS, recipe=SHORT, ratio=0.7, subset=None):
    return RunBatch(experiment, recipe, ratio, tuple(range(runs)), subset)


def train(zoo, *arguments, **options):
    return list(train_runs(work(*arguments), load_digits(), zoo, **options))


def replace_labels(digits):
    rows = replace(digits.train, labels=(digits.train.labels + 1) % 10)
    return ArrayDataset("digits", rows, digits.test, digits.num_classes, digits.divide_by)
