"""Writers that end at the same moment in one zoo, round after round, and readers beside them."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from heldout_torch.zoo.keys import RunKey
from tests.helpers.archives import EXPERIMENT, multiply

WRITERS, EACH = 8, 2


def race(place: str, folder: Path, rounds: int, readers: int, check: Callable[[str], set[RunKey]]) -> int:
    """Let writers fill the zoos `{place}/{round}` together.

    Args:
        place: Folder or bucket.
        folder: For what they read, and the readers' caches.
        rounds: Number of zoos.
        readers: Processes that list and load all the while.
        check: Gives the runs that a manifest lists, by the place of its zoo.

    Returns:
        How many runs were read.

    Raises:
        AssertionError: If a run is lost, or anybody fails.
    """
    from heldout_torch.zoo.open import open_zoo

    tree = multiply(folder / "tree", WRITERS * EACH)
    context = multiprocessing.get_context("spawn")
    barrier, problems, ended, read = context.Barrier(WRITERS), context.Queue(), context.Event(), context.Value("i")
    current = context.Value("i")
    writers = [
        context.Process(target=_write, args=(i, tree, place, rounds, barrier, problems, current), daemon=True)
        for i in range(WRITERS)
    ]
    watchers = [
        context.Process(target=_read, args=(i, place, folder, ended, problems, current, read), daemon=True)
        for i in range(readers)
    ]
    for process in (*writers, *watchers):
        process.start()
    for writer in writers:
        writer.join()
    ended.set()
    for watcher in watchers:
        watcher.join(60)
    codes = [process.exitcode for process in (*writers, *watchers)]
    assert not any(codes), problems.get(timeout=5)
    numbers = range(WRITERS * EACH)
    expected = {RunKey("mine" if run // EACH % 2 else EXPERIMENT, 0.7, run) for run in numbers}
    for number in range(rounds):
        assert set(open_zoo(f"{place}/{number}").keys()) == expected
        assert check(f"{place}/{number}") == expected
    return int(read.value)


def _write(number: int, tree: Path, place: str, rounds: int, barrier: Any, problems: Any, current: Any) -> None:
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
        for round_number in range(rounds):
            current.value = round_number
            zoo = open_writable(f"{place}/{round_number}")
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


def _read(number: int, place: str, folder: Path, ended: Any, problems: Any, current: Any, read: Any) -> None:
    """List and load what is there, as long as others write; what is listed can be loaded, and does not go away."""
    os.environ["HELDOUT_TORCH_CACHE"] = str(folder / f"cache-{number}")
    from heldout_torch.zoo import load_run
    from heldout_torch.zoo.open import open_zoo

    seen: set[RunKey] = set()
    before = -1
    try:
        while not ended.is_set():
            now = current.value
            where = f"{place}/{now}"
            if not where.startswith("s3://") and not Path(where).is_dir():
                continue
            zoo = open_zoo(where)
            keys = set(zoo.keys())
            seen = keys if now != before else seen
            assert keys >= seen, f"{seen - keys} is not listed any more"
            new, seen, before = keys - seen if now == before else keys, keys, now
            for key in sorted(new):
                load_run(key, zoo=zoo)
                with read.get_lock():
                    read.value += 1
    except BaseException as error:
        problems.put(f"reader {number}: {type(error).__name__}: {error}")
        raise
