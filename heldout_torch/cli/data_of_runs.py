"""The data set of runs, as verbs load it: the one that they were trained on, where they say which that was."""

import argparse
from collections.abc import Sequence
from itertools import islice

from heldout_torch.cli import options
from heldout_torch.data import Dataset
from heldout_torch.data.dataset import check_same_data
from heldout_torch.errors import HeldoutError
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import RunKey

_LOOKED_AT = 3  # runs, if the first ones are damaged


def load_data_of(arguments: argparse.Namespace, zoo: Zoo, keys: Sequence[RunKey]) -> Dataset:
    """Load the data set of runs from where `options.add_data_options` says.

    Args:
        arguments: The options.
        zoo: Where the runs are.
        keys: The runs, at least one, of one experiment.

    Raises:
        DataError: If it is not there, or bad, or as `check_data_of`.
    """
    dataset = options.load_data(arguments, zoo.experiment(keys[0].experiment).dataset)
    check_data_of(dataset, zoo, keys)
    return dataset


def check_data_of(dataset: Dataset, zoo: Zoo, keys: Sequence[RunKey]) -> None:
    """Check that a data set is the one that runs were trained on, by the first of them that can be read.

    Runs of one name are of one data set: training sees to that.

    Raises:
        DataError: If it is another one.
    """
    for key in islice(keys, _LOOKED_AT):
        try:
            digest = zoo.metadata(key).data_sha256
        except HeldoutError:  # the work on that run says so
            continue
        check_same_data(dataset, digest, key)
        return
