"""ImageNet comes from its folder in published order, the same whatever the number of threads."""

import shutil
import threading

import numpy as np
import pytest
import torch

from heldout_torch.data import load_dataset, load_imagenet_image, views
from heldout_torch.data.imagenet import ImageNet
from heldout_torch.errors import DataError
from tests.data.photographs import KINDS, make_jpegs

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SYNSETS = {"n01440764": 0, "n01443537": 1, "n15075141": 999}


@pytest.fixture
def folder(tmp_path):
    """A folder with 24 images of training and 8 of test, those in random order of index."""
    random = np.random.default_rng(0)
    images = [data for _, data in make_jpegs(KINDS, each=4, seed=2)]
    train = [(f"{synset}_{random.integers(10**6)}.JPEG", label) for synset, label in SYNSETS.items() for _ in range(8)]
    train = [train[place] for place in random.permutation(24)]
    test = [(f"ILSVRC2012_val_{number:08d}.JPEG", int(random.choice([0, 1, 999]))) for number in range(8)]
    for (name, _), data in zip(train, images[:24], strict=True):
        (tmp_path / "train" / name.split("_")[0]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name.split("_")[0] / name).write_bytes(data)
    (tmp_path / "val").mkdir()
    for (name, _), data in zip(test, images[24:], strict=True):
        (tmp_path / "val" / name).write_bytes(data)
    np.savez(
        tmp_path / "imagenet_index.npz",
        tr_filenames=np.array([name.encode() for name, _ in train], object),
        tr_labels=np.array([label for _, label in train]),
        tr_mem=np.zeros(24),
        tt_filenames=np.array([name.encode() for name, _ in test], object),
        tt_labels=np.array([label for _, label in test]),
    )
    return tmp_path, [name for name, _ in train], [name for name, _ in test]


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_the_exact_images_in_published_order(device, folder):
    root, train, test = folder
    dataset = load_dataset("imagenet", root)
    for split, names in (("train", train), ("test", test)):
        batches = list(dataset.batches(split, 5, device))
        assert [len(batch.index) for batch in batches] == [5] * (len(names) // 5) + [len(names) % 5]
        assert torch.cat([batch.index for batch in batches]).tolist() == list(range(len(names)))
        assert all(batch.images.device.type == batch.labels.device.type == device for batch in batches)
        assert torch.equal(torch.cat([batch.labels.cpu() for batch in batches]), dataset.labels(split))
        images = torch.cat([batch.images.cpu() for batch in batches])
        for image, name in zip(images, names, strict=True):
            path = root / "train" / name.split("_")[0] / name if split == "train" else root / "val" / name
            assert torch.equal(image, load_imagenet_image(path.read_bytes()))


def test_any_number_of_threads_gives_the_same(folder):
    root, _, _ = folder
    expected = [batch.images for batch in ImageNet(root, workers=1).batches("train", 7)]
    for workers in (2, 3, 8):
        images = [batch.images for batch in ImageNet(root, workers=workers).batches("train", 7)]
        assert all(torch.equal(one, other) for one, other in zip(images, expected, strict=True))


def test_no_more_than_a_few_batches_are_decoded_ahead(folder, monkeypatch):
    root, _, _ = folder
    decoded = []
    decode = views.decode_view
    monkeypatch.setattr(views, "decode_view", lambda view: decoded.append(1) or decode(view))
    threads = threading.active_count()
    batches = ImageNet(root).batches("train", 2)
    next(batches)
    for _ in range(100):
        threading.Event().wait(0.01)
        if len(decoded) == 6:
            break
    threading.Event().wait(0.1)
    assert len(decoded) == 6  # the first batch and two more
    batches.close()
    assert threading.active_count() == threads


def test_validation_files_in_folders_of_their_class(folder):
    root, _, test = folder
    dataset = ImageNet(root)
    flat = [batch.images for batch in dataset.batches("test", 8)]
    synset_of = {label: synset for synset, label in SYNSETS.items()}
    for name, label in zip(test, dataset.labels("test").tolist(), strict=True):
        (root / "val" / synset_of[label]).mkdir(exist_ok=True)
        (root / "val" / name).rename(root / "val" / synset_of[label] / name)
    sorted_in = [batch.images for batch in ImageNet(root).batches("test", 8)]
    assert all(torch.equal(one, other) for one, other in zip(flat, sorted_in, strict=True))
    (root / "val" / synset_of[dataset.labels("test")[3].item()] / test[3]).rename(root / "val" / "x.JPEG")
    wrong = synset_of[next(label for label in SYNSETS.values() if label != dataset.labels("test")[3])]
    (root / "val" / wrong).mkdir(exist_ok=True)
    (root / "val" / "x.JPEG").rename(root / "val" / wrong / test[3])
    with pytest.raises(DataError, match=rf"1 in the folder of another class \(such as {wrong}/{test[3]}\)"):
        ImageNet(root).paths("test")


def test_missing_files_are_counted_and_named(folder):
    root, train, _ = folder
    for name in train[3:8]:
        (root / "train" / name.split("_")[0] / name).unlink()
    dataset = ImageNet(root)
    with pytest.raises(DataError, match=f"of 24 files in the index, 5 missing .such as {', '.join(train[3:6])}.$"):
        next(dataset.batches("train", 4))
    assert len(list(dataset.batches("test", 4))) == 2  # a split alone is of use


def test_mislabelled_training_file_is_named(folder):
    root, train, _ = folder
    name = next(name for name in train if name.startswith("n01440764"))
    (root / "train" / "n01440764" / name).rename(root / "train" / "n01443537" / name)
    with pytest.raises(DataError, match=rf"1 in the folder of another class \(such as n01443537/{name}\)"):
        ImageNet(root).paths("train")


def test_files_that_the_index_has_not_are_left_out(folder):
    root, _, _ = folder
    expected = ImageNet(root).paths("train")
    (root / "train" / "n01440764" / "n01440764_other.JPEG").write_bytes(b"")
    (root / "train" / "n01440764" / "notes.txt").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out: 1 not in the index \(such as n01440764/n01440764_other.JPEG\)"):
        assert ImageNet(root).paths("train") == expected


def test_damaged_image_is_named_and_threads_end(folder):
    root, train, _ = folder
    path = root / "train" / train[9].split("_")[0] / train[9]
    path.write_bytes(path.read_bytes()[:-900])
    threads = threading.active_count()
    with pytest.raises(DataError, match=f"{train[9]}: is no readable JPEG"):
        list(ImageNet(root).batches("train", 4))
    assert threading.active_count() == threads


def test_folder_without_index_or_images(folder, tmp_path):
    with pytest.raises(DataError, match=r"imagenet_index\.npz: cannot be read"):
        load_dataset("imagenet", tmp_path / "nowhere")
    shutil.rmtree(folder[0] / "val")
    with pytest.raises(DataError, match="of 8 files in the index, 8 missing"):
        next(ImageNet(folder[0]).batches("test", 4))
