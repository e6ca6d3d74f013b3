"""torchvision's own data set objects are taken where data sets of the package are, in the right order."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST, ImageFolder

from heldout_torch import load_run
from heldout_torch.data import as_dataset, load_dataset
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate, verify
from heldout_torch.experiments import Experiment, Recipe
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.stats import RunTable, facts_of, original_index
from heldout_torch.training import RunBatch, train_runs
from tests.data.originals import write_cifar, write_mnist
from tests.data.test_imagenet import folder  # noqa: F401

EXPERIMENT = Experiment(
    "small-cifar", "cifar10", "mlp", {"in_features": 3072, "num_classes": 10, "widths": [8]}, 60, 20, {"divide_by": 255}
)


class Pixels(torch.nn.Module):
    """Logits that tell every image from another: its first values."""

    def forward(self, images):
        return images.flatten(1)[:, : self.classes]

    def __init__(self, classes):
        super().__init__()
        self.classes = classes


@pytest.fixture
def unchecked(monkeypatch):
    """torchvision takes CIFAR's files whatever their MD5."""
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)


@pytest.mark.parametrize(("name", "source"), [("cifar10", CIFAR10), ("cifar100", CIFAR100), ("mnist", MNIST)])
def test_objects_give_what_the_files_give(name, source, unchecked, tmp_path):
    write_mnist(tmp_path, 60, 20) if name == "mnist" else write_cifar(tmp_path, name, 60, 20)
    expected = load_dataset(name, tmp_path, verify_checksums=False)
    train, test = source(str(tmp_path), train=True), source(str(tmp_path), train=False)
    for found in (as_dataset((train, test)), as_dataset([test, train])):
        assert found.digest() == expected.digest()
        assert (found.name, found.num_classes) == (expected.name, expected.num_classes)
        assert torch.equal(found.original_index("train"), expected.original_index("train"))
    model = Pixels(expected.num_classes)
    ours, theirs = evaluate(model, expected, "test"), evaluate(model, test, "test")
    assert np.array_equal(ours.log_odds, theirs.log_odds)
    assert np.array_equal(ours.labels, theirs.labels)


def test_statistics_and_reports_take_them_too(unchecked, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    data = tuple(CIFAR10(str(tmp_path), train=train) for train in (True, False))
    for _ in train_runs(RunBatch(EXPERIMENT, Recipe(2, 10, 0.01), 0.5, tuple(range(4))), data, tmp_path / "zoo"):
        pass
    table = RunTable.from_zoo(tmp_path / "zoo", EXPERIMENT.name, 0.5)
    statistics = gather_statistics({0.5: table}, data)
    assert write_report(statistics, EXPERIMENT, data, tmp_path / "report").is_file()
    assert list((tmp_path / "report" / "images").iterdir())


def test_one_object_has_only_its_own_split(unchecked, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    test = CIFAR10(str(tmp_path), train=False)
    with pytest.raises(DataError, match=r"cifar10: has no images of train; give both splits, as \(train, test\)"):
        evaluate(Pixels(10), test, "train")
    with pytest.raises(DataError, match="two of test"):
        as_dataset((test, test))


def test_a_transform_is_not_applied_and_that_is_said(unchecked, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    noisy = CIFAR10(str(tmp_path), train=False, transform=torchvision.transforms.RandomErasing(1.0))
    with pytest.warns(UserWarning, match="transform of CIFAR10 is not applied"):
        found = as_dataset(noisy)
    assert torch.equal(found.test.images, load_dataset("cifar10", tmp_path, verify_checksums=False).test.images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_dataset(CIFAR10(str(tmp_path), train=False))


def test_what_a_class_of_ones_own_does_to_an_item_is_not_applied_and_that_is_said(unchecked, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)

    class Plain(CIFAR10):
        pass

    class Shifted(CIFAR10):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image, (label + 1) % 10

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_dataset(Plain(str(tmp_path), train=False))
    with pytest.warns(UserWarning, match="the __getitem__ of Shifted is not applied"):
        as_dataset(Shifted(str(tmp_path), train=False))


def test_images_and_labels_of_another_kind_are_refused(unchecked, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    for name, change in (
        ("data", lambda data: data[..., 0]),  # (20, 32, 32)
        ("data", lambda data: data.transpose(0, 3, 1, 2)),
        ("data", lambda data: data / 255),
        ("targets", lambda targets: None),
        ("targets", lambda targets: ["a"] * 20),
        ("targets", lambda targets: np.array(targets) + 0.5),
    ):
        data = CIFAR10(str(tmp_path), train=False)
        setattr(data, name, change(getattr(data, name)))
        with pytest.raises(DataError, match=r"^cifar10: has .* of test, expected uint8 \(n, 32, 32, 3\) and integers"):
            as_dataset(data)
    data = CIFAR10(str(tmp_path), train=False)
    data.targets = torch.tensor(data.targets)
    assert len(as_dataset(data).labels("test")) == 20


def test_statistics_ask_objects_for_labels_and_order(unchecked, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    ours, theirs = load_dataset("cifar10", tmp_path, verify_checksums=False), CIFAR10(str(tmp_path), train=True)
    np.testing.assert_array_equal(facts_of(theirs, "train").labels, ours.labels("train"))
    np.testing.assert_array_equal(original_index(theirs, "train"), ours.original_index("train"))
    for call in (facts_of, original_index):
        with pytest.raises(DataError, match=r"load it first with load_dataset\(name, path\)$"):
            call("cifar10", "train")


@pytest.mark.parametrize("source", [CIFAR10, MNIST])
def test_an_object_in_another_order_is_refused_by_its_labels(source, unchecked, tmp_path):
    write_mnist(tmp_path, 60, 20) if source is MNIST else write_cifar(tmp_path, "cifar10", 60, 20)
    data = source(str(tmp_path), train=False)
    data.data, data.targets = data.data[::1][:10], data.targets[:10]
    with pytest.raises(DataError, match="the targets of test are not those of its files"):
        as_dataset(data)
    data = source(str(tmp_path), train=False)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    data.data, data.targets = data.data[order.numpy()], np.asarray(data.targets)[order.numpy()].tolist()
    with pytest.raises(DataError, match="the targets of test are not those of its files"):
        as_dataset(data)


def test_other_objects_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "_check_exists", lambda self: True)
    monkeypatch.setattr(FashionMNIST, "_load_data", lambda self: (torch.zeros(3, 28, 28).byte(), torch.zeros(3).long()))
    for other in (FashionMNIST(str(tmp_path)), 7, "cifar10", (), torch.utils.data.TensorDataset(torch.zeros(3))):
        with pytest.raises(
            DataError, match=r"expected a data set of heldout_torch\.data\.load_dataset, or torchvision's"
        ):
            as_dataset(other)


def test_what_is_nearly_a_data_set_is_taken_or_told_what_to_do():
    digits = load_dataset("digits")
    train, test = digits.split("train"), digits.split("test")
    for same in (train, test, (train, test), [test]):
        assert as_dataset(same) is digits
    for part in (torch.utils.data.Subset(train, [1, 2]), train + test, (torch.utils.data.Subset(train, [1]), test)):
        with pytest.raises(DataError, match=r"; pass the whole data set, and select results by published"):
            as_dataset(part)
    for name in ("digits", Path("digits.npz"), ("digits", "digits")):
        with pytest.raises(DataError, match=r"; load it first with load_dataset\(name, path\)$"):
            as_dataset(name)
    with pytest.raises(DataError, match=r"; make one of your own images with heldout_torch\.data\.ArrayDataset$"):
        as_dataset(torch.utils.data.TensorDataset(torch.zeros(3)))
    for other in ((digits, digits), (train, load_dataset("digits").split("test")), []):
        with pytest.raises(DataError, match=r"or a pair of torchvision's, \(train, test\)$"):
            as_dataset(other)


def test_one_split_is_not_taken_for_the_other():
    digits, run = load_dataset("digits"), load_run("digits-mlp-tf", 0.7, 3)
    train, test = digits.split("train"), digits.split("test")
    wrong = r"given is the split train of digits, but test is asked for"
    for ask in (
        lambda part: evaluate(run, part, "test"),
        lambda part: evaluate(run.model, part, "test"),
        lambda part: verify(run, part, ["test"]),
        lambda part: verify(run, part),
        lambda part: facts_of(part, "test"),
        lambda part: original_index(part, "test"),
    ):
        with pytest.raises(DataError, match=wrong):
            ask(train)
        ask((train, test))
    assert len(evaluate(run, test, "test").correct) == 360
    assert verify(run, train, ["train", "removed"]).examples == 1437
    with pytest.raises(DataError, match="split 'tset' is not known"):
        evaluate(run, test, "tset")


def test_an_image_folder_of_imagenet_goes_by_names(folder):  # noqa: F811
    root, _, _ = folder
    expected = load_dataset("imagenet", root)
    labels, names = expected.labels("test").tolist(), expected.file_names("test")
    synset = {0: "n01440764", 1: "n01443537", 999: "n15075141"}
    for name, label in zip(names, labels, strict=True):
        (root / "sorted" / synset[label]).mkdir(exist_ok=True, parents=True)
        (root / "val" / name).rename(root / "sorted" / synset[label] / name)
    test = ImageFolder(str(root / "sorted"))
    found = as_dataset((ImageFolder(str(root / "train")), test))
    for split in ("train", "test"):
        (batch,) = found.batches(split, 100)
        for index, image in zip(batch.index.tolist(), batch.images, strict=True):
            path = next(root.rglob(expected.file_names(split)[index]))
            assert torch.equal(image, load_image(path))
    alone = as_dataset(test)
    assert len(next(alone.batches("test", 100)).index) == 8
    with pytest.raises(DataError, match=r"has no images of train; give both splits, as \(train, test\)$"):
        next(alone.batches("train", 100))
    changed = ImageFolder(str(root / "sorted"))
    changed.samples = [(path, (label + 1) % len(changed.classes)) for path, label in changed.samples]
    with pytest.raises(DataError, match=r"has label 1, its folder says 0, so the example cannot be identified"):
        as_dataset(changed)
    wrong = next((root / "sorted").rglob(names[0]))
    other = next(one for one in synset.values() if one != wrong.parent.name)
    (root / "sorted" / other).mkdir(exist_ok=True)
    wrong.rename(root / "sorted" / other / names[0])
    with pytest.raises(DataError, match="1 in the folder of another class"):
        as_dataset(ImageFolder(str(root / "sorted"))).paths("test")


def test_an_image_folder_without_the_index_is_refused(folder):  # noqa: F811
    root, _, _ = folder
    (root / "imagenet_index.npz").unlink()
    with pytest.raises(DataError, match=r"has no imagenet_index\.npz near, which maps files"):
        as_dataset(ImageFolder(str(root / "train")))


def load_image(path):
    from heldout_torch.data import load_imagenet_image

    return load_imagenet_image(path.read_bytes())
