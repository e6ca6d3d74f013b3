"""An interrupted training goes on from its state, in the very numbers; from any other file it never does.

Also of training/loop.py.
"""

import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from heldout_torch import list_runs, load_run
from heldout_torch.data import load_digits
from heldout_torch.training import Recipe, RunBatch, loop, train_runs
from heldout_torch.training.state import load_state, save_state
from heldout_torch.zoo import known_experiments

SUBSET = np.arange(3, 100)
RATIO = 97 / 1437
DIGITS = known_experiments()["digits-mlp"]
CONVOLUTIONS = replace(
    DIGITS, name="digits-inception", architecture="small_inception", config={"in_channels": 1, "num_classes": 10}
)
STEPS = 10


def work(experiment=DIGITS):
    recipe = Recipe(2, 24, 0.01, ramp=0.2, decay="linear", augmentation="crop-flip")
    return RunBatch(experiment, recipe, RATIO, (7,), SUBSET)


class KilledError(Exception):
    pass


def killed_at(steps):
    """Return what is told of progress, and ends the training at a step."""
    seen = []

    def progress(runs, loss):
        seen.append(runs)
        if len(seen) == steps:
            raise KilledError

    return progress


def interrupt(zoo, monkeypatch, experiment=DIGITS, steps=8, work=work, **options):
    """Train until a step is made, all steps but the last saved; return the file of the state."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_SECONDS", 0)
        with pytest.raises(KilledError):
            list(train_runs(work(experiment), load_digits(), zoo, progress=killed_at(steps), **options))
    assert list_runs(zoo) == []
    (state,) = zoo.rglob(".training-*")
    return state


def finish(zoo, experiment=DIGITS, dataset=None):
    """Train to the end; return the steps that were not made again, and the network."""
    shares = []
    (result,) = train_runs(
        work(experiment), dataset or load_digits(), zoo, progress=lambda runs, loss: shares.append((runs, loss))
    )
    assert result.error is None
    assert list(zoo.rglob(".training-*")) == []
    share = next(runs for runs, loss in shares if loss is not None)  # of one step
    first = shares[0][0]
    network = load_run(experiment.name, RATIO, 7, zoo).model.state_dict()
    return round(first / share) if first > 1.5 * share else 0, network


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_a_long_training_goes_on_in_the_very_numbers_of_an_undisturbed_one(tmp_path, monkeypatch, experiment):
    """It is interrupted in the middle of an epoch."""
    _, expected = finish(tmp_path / "a", experiment)
    interrupt(tmp_path / "b", monkeypatch, experiment)
    resumed_from, found = finish(tmp_path / "b", experiment)
    assert resumed_from == 7
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("experiment", [DIGITS, CONVOLUTIONS], ids=lambda experiment: experiment.architecture)
def test_an_interruption_keeps_the_last_step(tmp_path, monkeypatch, experiment):
    """However long ago a state was saved, if any was; a training of moments leaves none."""
    _, expected = finish(tmp_path / "a", experiment)
    for seconds, kept in ((0, 8), (60, 0)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "LOST_SECONDS", seconds)
            zoo = tmp_path / str(seconds)
            told = train_runs(work(experiment), load_digits(), zoo, progress=killed_at(8))
            with pytest.raises(KilledError):
                list(told)
        assert len(list(zoo.rglob(".training-*"))) == (1 if kept else 0)
        resumed_from, found = finish(zoo, experiment)
        assert resumed_from == kept
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def train_until_killed(zoo, steps):
    """Train convolutions, and end this process between two steps, as the system does when memory is short."""
    seen = []

    def progress(runs, loss):
        seen.append(runs)
        if len(seen) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.SAVE_SECONDS = 0
    list(train_runs(work(CONVOLUTIONS), load_digits(), zoo, progress=progress))


def test_a_killed_training_of_convolutions_goes_on_in_the_very_averages(tmp_path):
    """Batch norm's averages depend on how many batches they have seen, which the process took with it."""
    _, expected = finish(tmp_path / "whole", CONVOLUTIONS)
    script = f"from tests.training.test_state import *; train_until_killed({str(tmp_path / 'killed')!r}, 6)"
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, "-c", script], env=threads, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed_from, found = finish(tmp_path / "killed", CONVOLUTIONS)
    assert resumed_from == 5
    assert sum("running_" in name for name in found) > 20
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_after_its_last_step_a_state_is_only_evaluated(tmp_path, monkeypatch):
    interrupt(tmp_path, monkeypatch, steps=STEPS + 1)
    shares = []
    (result,) = train_runs(work(), load_digits(), tmp_path, progress=lambda runs, loss: shares.append(loss))
    assert result.error is None
    assert set(shares) == {None}


def test_a_default_device_of_a_notebook_moves_no_state(tmp_path):
    file, tensors = str(tmp_path / "state"), {"a": torch.ones(2)}
    with torch.device("meta"):
        save_state(file, tensors, 3, [0])
        found, steps = load_state(file, tensors, 5)
    assert (found["a"].tolist(), steps) == ([1, 1], 3)


def changed(change):
    def write(data):
        tensors = load(data)
        change(tensors)
        return save(tensors)

    return write


def rewritten_header(header):
    text = json.dumps(header) if not isinstance(header, str) else header
    return lambda data: len(text).to_bytes(8, "little") + text.encode() + bytes(8)


FORGED = {
    "other bytes": lambda data: b"no state",
    "nothing": lambda data: b"",
    "cut short": lambda data: data[:-100],
    "longer": lambda data: data + b"x",
    "far too long": lambda data: data + bytes(2 << 20),
    "a step past the end": changed(lambda tensors: tensors.update(step=torch.tensor(STEPS + 1))),
    "no step made": changed(lambda tensors: tensors.update(step=torch.tensor(0))),
    "a step of many": changed(lambda tensors: tensors.update(step=torch.tensor([1, 2]))),
    "half a step": changed(lambda tensors: tensors.update(step=torch.tensor(0.5))),
    "no step": changed(lambda tensors: tensors.pop("step")),
    "no losses": changed(lambda tensors: tensors.pop("losses")),
    "a tensor missing": changed(lambda tensors: tensors.pop("vw.0")),
    "a tensor more": changed(lambda tensors: tensors.update(w=torch.zeros(1))),
    "another shape": changed(lambda tensors: tensors.update({"b.0": torch.zeros(3)})),
    "another dtype": changed(lambda tensors: tensors.update({"b.0": tensors["b.0"].double()})),
    "NaN": changed(lambda tensors: tensors["vb.0"].fill_(torch.nan)),
    "deep JSON": rewritten_header("[" * 100_000),
    "a list": rewritten_header([1]),
    "a wrong header": rewritten_header({"step": {"dtype": "I64", "shape": [-1], "data_offsets": [0, 8]}}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_is_no_state_of_the_training_never_becomes_a_run(tmp_path, monkeypatch, forge):
    state = interrupt(tmp_path / "zoo", monkeypatch)
    state.write_bytes(forge(state.read_bytes()))
    with pytest.warns(UserWarning, match="is not a state of this training") as warned:
        resumed_from, found = finish(tmp_path / "zoo")
    assert len(warned) == 1
    assert str(state) in str(warned[0].message)
    assert "\n" not in str(warned[0].message)
    assert resumed_from == 0
    torch.testing.assert_close(found, finish(tmp_path / "undisturbed")[1], rtol=0, atol=0)


def test_a_state_is_of_the_data_that_it_was_trained_on(tmp_path, monkeypatch):
    digits = load_digits()
    other = replace(digits, train=replace(digits.train, labels=digits.train.labels.flip(0)))
    _, expected = finish(tmp_path / "a", dataset=other)
    interrupt(tmp_path / "b", monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shares = []
        list(train_runs(work(), other, tmp_path / "b", progress=lambda runs, loss: shares.append(runs)))
    assert shares[0] == pytest.approx(shares[1])  # no step is left out
    found = load_run("digits-mlp", RATIO, 7, tmp_path / "b").model.state_dict()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def several(runs, **changes):
    return replace(work(), runs=tuple(runs), **changes)


TOLD = STEPS + 3  # times that a batch of runs tells of itself; the last three when it is evaluated


def networks(zoo, runs):
    return {run: load_run("digits-mlp", RATIO, run, zoo).model.state_dict() for run in runs}


@pytest.mark.parametrize(
    "options", [{"batch_of_runs": 1}, {"batch_of_runs": 5}, {}, {"device": ["cpu", "cpu"]}], ids=str
)
def test_a_batch_of_runs_goes_on_whatever_size_others_would_have(tmp_path, monkeypatch, options):
    """As free memory, the number of workers, and that of the runs that are left make it."""
    together = {"batch_of_runs": 3}
    list(train_runs(several([1, 2, 4]), load_digits(), tmp_path / "a", **together))
    interrupt(tmp_path / "b", monkeypatch, work=lambda experiment: several([1, 2, 4]), **together)
    shares = []
    options = {**options, "progress": lambda runs, loss: shares.append(runs)}
    list(train_runs(several([0, 1, 2, 3, 4]), load_digits(), tmp_path / "b", **options))
    assert len(shares) % TOLD == 1 + 3 + 3  # of seven steps at once, of three more, and of the evaluation
    assert sum(shares) == pytest.approx(5)
    assert [key.run for key in list_runs(tmp_path / "b")] == [0, 1, 2, 3, 4]
    assert list(tmp_path.rglob(".training-*")) == []
    found, expected = (networks(tmp_path / zoo, [1, 2, 4]) for zoo in ("b", "a"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_state_stays_while_one_of_its_runs_may_be_trained_from_it(tmp_path, monkeypatch):
    together, digits = {"batch_of_runs": 3}, load_digits()
    state = interrupt(tmp_path, monkeypatch, work=lambda experiment: several([1, 2, 4]), **together)
    before = state.read_bytes()
    for runs in ([0, 1, 3], [5]):  # such as the shards of others
        list(train_runs(several(runs), digits, tmp_path, **together))
        assert state.read_bytes() == before
    list(train_runs(several([2, 4]), digits, tmp_path, **together))  # another batch, as run 1 is there
    assert list(tmp_path.rglob(".training-*")) == []


def test_a_state_of_another_recipe_goes_when_its_runs_are_there(tmp_path, monkeypatch):
    interrupt(tmp_path, monkeypatch, CONVOLUTIONS, steps=3)
    other = replace(work(CONVOLUTIONS), recipe=Recipe(1, 24, 0.01))
    list(train_runs(other, load_digits(), tmp_path))
    assert list(tmp_path.rglob(".training-*")) == []


def test_states_of_the_runs_that_are_there_go_too(tmp_path, monkeypatch):
    state = interrupt(tmp_path, monkeypatch)
    left = state.read_bytes()
    finish(tmp_path)
    state.write_bytes(left)  # as a trainer leaves it that is killed between its last run and this
    assert [result.skipped for result in train_runs(work(), load_digits(), tmp_path)] == [True]
    assert not state.exists()


@pytest.mark.parametrize(
    "runs",
    ["[0, 1, 4]", "[1, 2]", "[]", "[1, 2, 99]", '"abc"', "{}", "[-1]", "[" * 9000, None],
    ids=lambda runs: f"{str(runs)[:12]}",
)
def test_a_state_is_of_the_runs_that_its_name_says(tmp_path, monkeypatch, runs):
    state = interrupt(tmp_path, monkeypatch, work=lambda experiment: several([1, 2, 4]), batch_of_runs=3)
    state.write_bytes(save(load(state.read_bytes()), None if runs is None else {"runs": runs}))
    shares = []
    told = train_runs(
        several(range(6)), load_digits(), tmp_path, batch_of_runs=6, progress=lambda runs, loss: shares.append(runs)
    )
    assert [result.error for result in told] == [None] * 6
    assert len(shares) == TOLD  # all six from their beginning, in one batch
