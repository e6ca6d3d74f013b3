"""Writers that end at the same moment: nobody loses a run, and nobody has to mend anything."""

import multiprocessing
import urllib.request
from dataclasses import replace

import pytest
import s3fs

from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.open import open_zoo
from tests.helpers.archives import multiply

WRITERS, ROUNDS, EACH = 8, 20, 2
EXPERIMENT = "digits-mlp-tf"


def write_in_rounds(number, tree, bucket, barrier, problems):
    """Export or train runs of its own in each round, and end when all others do."""
    from heldout_torch.data import load_digits
    from heldout_torch.experiments import Recipe, known_experiments
    from heldout_torch.training import RunBatch, train_runs
    from heldout_torch.zoo.copy import copy_runs
    from heldout_torch.zoo.open import open_writable, open_zoo
    from heldout_torch.zoo.selection import Selection

    try:
        runs = range(EACH * number, EACH * (number + 1))
        trained = replace(known_experiments()["digits-mlp"], name="mine")
        digits, source = load_digits(), open_zoo(tree)
        for round_number in range(ROUNDS):
            zoo = open_writable(f"{bucket}/{round_number}")
            if number % 2:
                work = RunBatch(trained, Recipe(1, 512, 0.1), 0.7, tuple(runs))
                outcomes = train_runs(work, digits, zoo, batch_of_runs=EACH)
            else:
                outcomes = copy_runs(source, zoo, Selection(runs=runs).choose(source.keys(), "tree"))
            for _ in runs:
                outcome = next(outcomes)
                assert outcome.error is None, outcome
            barrier.wait(120)
            assert list(outcomes) == []  # here the manifest is brought up to date
            barrier.wait(120)
    except BaseException as error:
        problems.put(f"writer {number}: {type(error).__name__}: {error}")
        barrier.abort()
        raise


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["s3", "folder"])
def test_writers_that_end_together_lose_no_run(kind, request, tmp_path):
    place = request.getfixturevalue("bucket") if kind == "s3" else str(tmp_path / "zoos")
    tree = multiply(tmp_path / "tree", WRITERS * EACH)
    context = multiprocessing.get_context("spawn")
    barrier, problems = context.Barrier(WRITERS), context.Queue()
    writers = [
        context.Process(target=write_in_rounds, args=(number, tree, place, barrier, problems), daemon=True)
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(850)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS, problems.get(timeout=5)
    for round_number in range(ROUNDS):
        zoo = open_zoo(f"{place}/{round_number}")
        if kind == "s3":
            url = s3fs.S3FileSystem().url(f"{place}/{round_number}/manifest.json")  # signed; to any web client
            with urllib.request.urlopen(url) as response:
                listed = Manifest.from_bytes(response.read(), "manifest.json")
        else:
            listed = zoo.manifest()
        expected = {
            (name, run) for run in range(WRITERS * EACH) for name in [("mine" if run // EACH % 2 else EXPERIMENT)]
        }
        assert {(key.experiment, key.run) for key in zoo.keys()} == expected
        assert {(key.experiment, key.run) for key in listed.runs} == expected
