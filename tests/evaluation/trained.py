"""A Sonnet network trained a little by TensorFlow on CIFAR-format data, once for all tests of a session."""

from functools import cache
from pathlib import Path

from heldout_torch.experiments import Experiment
from tests.helpers.zoos import declare
from tests.reference import reference_folder

TRAIN, TEST = 200, 100


@cache
def trained_run() -> Path:
    """Give a folder with `data/`, CIFAR-10's files in original order, and the tree `cifar10-tiny/0.7/0`."""
    folder = reference_folder("cifar_run", "cifar10", TRAIN, TEST, 6, 45, 0)
    config = {"in_channels": 3, "large_inputs": False, "num_classes": 10}
    experiment = Experiment("cifar10-tiny", "cifar10", "small_inception", config, TRAIN, TEST, {"divide_by": 255})
    declare(experiment, folder / "cifar10-tiny")
    return folder
