"""A device that is not there is told in one and the same line, wherever a device is named."""

import importlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from heldout_torch import evaluate, load_dataset, load_run, load_runs, predict, verify
from heldout_torch.data import ImageNet
from heldout_torch.devices import all_devices, any_device, find_device, find_devices
from heldout_torch.errors import DeviceError
from heldout_torch.evaluation.sweep import sweep
from heldout_torch.experiments import find_experiment
from heldout_torch.stats import OutputTable, RunTable, datamodels, influence, influence_pairs, lds, top_influences
from heldout_torch.training import RunBatch, train_runs
from heldout_torch.training.network import Network
from heldout_torch.zoo import list_runs
from heldout_torch.zoo.open import open_zoo
from tests.data.test_imagenet import folder  # noqa: F401
from tests.helpers.devices import only_pretended
from tests.pretend_cuda import pretended_cuda

IMAGES = torch.zeros(2, 1, 8, 8)
HUB = importlib.import_module("hubconf")


def table():
    return RunTable.from_zoo(None, "digits-mlp-tf", 0.7)


def outputs():
    rng = np.random.default_rng(0)
    return OutputTable.from_arrays(rng.random((6, 10)) < 0.5, rng.random((6, 4)), rng.random((6, 10)))


def trained(zoo, device):
    experiment = find_experiment("digits-mlp")
    return list(train_runs(RunBatch(experiment, experiment.recipe, 0.7, (0,)), load_dataset("digits"), zoo, device))


def swept(devices):
    return list(sweep(lambda *_: [], list_runs(), open_zoo(), load_dataset("digits"), devices, lambda told: None))


CALLS = {
    "load_run": lambda device: load_run("digits-mlp-tf", 0.7, 3, device=device),
    "load_runs": lambda device: next(load_runs("digits-mlp-tf", 0.7, [3], device=device)),
    "hub": lambda device: HUB.digits_mlp_tf(0.7, 3, device=device),
    "untrained": lambda device: HUB.digits_mlp_tf(pretrained=False, device=device),
    "predict": lambda device: predict(load_run("digits-mlp-tf", 0.7, 3), IMAGES, device=device),
    "evaluate": lambda device: evaluate(
        load_run("digits-mlp-tf", 0.7, 3), load_dataset("digits"), "test", device=device
    ),
    "verify": lambda device: verify(load_run("digits-mlp-tf", 0.7, 3), load_dataset("digits"), device=device),
    "sweep": lambda device: swept([device]),
    "to": lambda device: load_dataset("digits").to(device),
    "batches": lambda device: next(load_dataset("digits").batches("test", 8, device)),
    "training_batches": lambda device: load_dataset("digits").training_batches("none", device),
    "influence": lambda device: influence(table(), device=device),
    "influence_pairs": lambda device: influence_pairs(
        table(), min_memorization=None, same_class=False, device=device
    ),
    "top_influences": lambda device: top_influences(table(), 2, device=device),
    "lds": lambda device: lds(np.zeros((4, 10)), outputs(), device=device),
    "datamodels": lambda device: datamodels(outputs(), folds=2, device=device),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_misspelt_device_is_one_line(call):
    with pytest.raises(DeviceError, match=r"^device 'cdua' cannot be used here .*; did you mean 'cuda'\?$"):
        call("cdua")
    with pytest.raises(DeviceError, match=r"^device 'None' cannot be used here \(it names no device\)$"):
        call(None)


NO_NAME, TWO = r"\(it names no device\)", r"\(there are cuda:0, cuda:1\)"
WORDS = {
    "gpu": NO_NAME + r"; did you mean 'cuda'\?",
    "GPU:0": NO_NAME + r"; did you mean 'cuda'\?",
    "CUDA": NO_NAME + r"; did you mean 'cuda'\?",
    "cuda0": NO_NAME + r"; did you mean 'cuda'\?",
    "Cpu": NO_NAME + r"; did you mean 'cpu'\?",
    "cuda:-1": NO_NAME,
    "xpu": r"\([^)]+\)",  # a device of other machines, and nobody meant `cpu`
    "mps": r"\([^)]+\)",
    "meta": r"\(expected 'cpu' or 'cuda'\)",
    "cuda:99": TWO,
    torch.device("cuda", 2): TWO,
    2: TWO,
}


@only_pretended
@pytest.mark.parametrize("name", WORDS, ids=str)
def test_a_name_that_is_none_here_is_told_what_may_be_meant_or_what_is_there(name):
    said = f"^device {re.escape(repr(str(name)))} cannot be used here {WORDS[name]}$"
    with pretended_cuda(devices=2), pytest.raises(DeviceError, match=said):
        find_device(name)


@only_pretended
def test_a_gpu_is_given_once_and_the_cpu_as_often_as_processes_are_wanted(tmp_path):
    assert find_devices(["cpu", "cpu"]) == [torch.device("cpu")] * 2
    with pretended_cuda(devices=2):
        assert find_devices(["cuda:1", "cuda"]) == [torch.device("cuda", 1), torch.device("cuda")]
        for twice in (["cuda:0", "cuda:0"], ["cuda", "cuda:0"], ["cuda:0", "cpu", "cuda:0"]):
            for call in (find_devices, swept, lambda devices: trained(tmp_path / "zoo", devices)):
                with pytest.raises(DeviceError, match=r"^device 'cuda:0' is given twice"):
                    call(twice)
    assert not (tmp_path / "zoo").exists()


def test_training_names_the_device_before_it_makes_a_zoo(tmp_path):
    for device in ("cdua", ["cdua", "cpu"], ["cpu", "cdua"]):
        with pytest.raises(DeviceError, match=r"did you mean 'cuda'\?$"):
            trained(tmp_path / "zoo", device)
    with pytest.raises(DeviceError, match="no device is given"):
        trained(tmp_path / "zoo", [])
    assert not (tmp_path / "zoo").exists()


def test_data_sets_of_files_name_it_too(folder):  # noqa: F811
    data = ImageNet(folder[0])
    for call in (
        lambda: data.to("cdua"),
        lambda: data.batches("test", 8, "cdua"),
        lambda: data.training_batches("resized-crop-flip", "cdua"),
    ):
        with pytest.raises(DeviceError, match=r"did you mean 'cuda'\?$"):
            call()


def test_tensors_may_lie_where_the_package_does_not_compute():
    assert any_device("meta") == torch.device("meta")
    assert next(load_run("digits-mlp-tf", 0.7, 3, device="meta").model.parameters()).is_meta
    with pytest.raises(DeviceError, match=r"^device 'meta' cannot be used here \(expected 'cpu'( or '\w+')?\)$"):
        find_device("meta")
    for name in ("hpu", "mps", "cpu:-1", "", 3.5, True):
        with pytest.raises(DeviceError, match=r"^device '.*' cannot be used here \(") as error:
            any_device(name)
        assert len(str(error.value)) < 300


@only_pretended
def test_another_accelerator_is_not_forbidden_and_float64_it_lacks_is_computed_on_the_cpu(tmp_path):
    """As MPS, of which nobody here has one: only what the package asks of it is seen, not what it computes."""
    digits, run = load_dataset("digits"), load_run("digits-mlp-tf", 0.7, 3)
    experiment = replace(find_experiment("digits-mlp"), recipe=replace(find_experiment("digits-mlp").recipe, epochs=1))
    work = RunBatch(experiment, experiment.recipe, 0.7, (0, 1))
    scores = np.random.default_rng(1).random((4, 10))
    expected = evaluate(run, digits, "test").predicted
    with pretended_cuda(kind="mps"):
        assert str(find_device("mps")) == "mps"
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(2, device="mps").double()
        for precision in ("exact", "fast"):
            found = evaluate(run, digits, "test", device="mps", precision=precision)
            assert np.array_equal(found.predicted, expected)
        assert verify(run, digits, device="mps:0").matches == 1797
        assert torch.equal(predict(run, IMAGES, device="mps"), predict(run, IMAGES))
        assert [one.error for one in train_runs(work, digits, tmp_path / "zoo", "mps")] == [None, None]
        network = Network("small_inception", {"in_channels": 1}, 0, 0.9, 0.0, False, "mps")
        assert network.correct(digits, "test", lambda count: None).shape == (1, 360)  # batch norms folded
        assert np.array_equal(influence(table(), device="mps"), influence(table()), equal_nan=True)
        assert lds(scores, outputs(), device="mps").mean == lds(scores, outputs()).mean
        assert datamodels(outputs(), folds=2, device="mps").weights.shape == (4, 10)
        assert np.array_equal(influence(outputs(), device="mps"), influence(outputs()), equal_nan=True)
        assert all_devices() == ["cpu"]  # it is used where it is named
