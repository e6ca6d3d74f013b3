"""ImageNet comes from its folder in published order, the same whatever the number of threads.

Also of data/imagenet_files.py, data/views.py.
"""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heldout_torch.data import load_dataset, load_imagenet_image, views
from heldout_torch.data.dataset import check_complete
from heldout_torch.data.imagenet import ImageNet
from heldout_torch.data.reencoded import reencode
from heldout_torch.data.transforms import preprocess_crop
from heldout_torch.errors import DataError
from heldout_torch.evaluation import evaluate
from tests.data.photographs import KINDS, make_jpegs
from tests.helpers.devices import on_devices
from tests.helpers.process import wait_for

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


@on_devices
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


def test_images_go_to_devices_that_are_neither_cpu_nor_cuda(folder):
    (batch, *_) = ImageNet(folder[0]).batches("test", 8, "meta")  # stands for those that are not here
    assert (batch.images.device.type, batch.labels.device.type) == ("meta", "meta")


def test_a_process_decodes_with_as_many_threads_as_it_may_use(folder):
    """Of several GPUs each has a process, and these share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert ImageNet(folder[0]).workers == 3
        assert ImageNet(folder[0], workers=5).workers == 5
    finally:
        torch.set_num_threads(before)


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
    before = {*threading.enumerate()}
    batches = ImageNet(root).batches("train", 2)
    next(batches)
    wait_for(lambda: len(decoded) >= 6)
    threading.Event().wait(0.1)
    assert len(decoded) == 6  # the first batch and two more
    batches.close()
    assert {*threading.enumerate()} <= before


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
    before = {*threading.enumerate()}
    with pytest.raises(DataError, match=f"{train[9]}: is not a readable JPEG"):
        list(ImageNet(root).batches("train", 4))
    assert {*threading.enumerate()} <= before


def test_folder_without_index_or_images(folder, tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such folder, expected the folder of ImageNet's images"):
        load_dataset("imagenet", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: has no imagenet_index\.npz, which maps files to examples"):
        load_dataset("imagenet", tmp_path / "empty")
    shutil.rmtree(folder[0] / "val")
    with pytest.raises(DataError, match="of 8 files in the index, 8 missing"):
        next(ImageNet(folder[0]).batches("test", 4))


def hugging_face(name, label):
    synset = next(synset for synset, number in SYNSETS.items() if number == label)
    return name.replace(".JPEG", f"_{synset}.JPEG")


SCHEMES = {
    "hugging face, flat": lambda split, name, label: hugging_face(name, label),
    "hugging face, unpacked": lambda split, name, label: f"data/{split}_images_{label % 2}/{hugging_face(name, label)}",
    "kaggle": lambda split, name, label: f"ILSVRC/Data/CLS-LOC/{split}/{name}",
    "jpg": lambda split, name, label: f"{split}/a/b/c/{name.replace('.JPEG', '.jpg')}",
    "jpeg in val": lambda split, name, label: f"{'val' if split == 'test' else split}/{name.replace('.JPEG', '.jpeg')}",
    "JPG": lambda split, name, label: name.replace(".JPEG", ".JPG"),
}


def rearrange(root, scheme):
    plain = ImageNet(root)
    names = {split: plain.file_names(split) for split in ("train", "test")}
    expected = {split: [path.read_bytes() for path in map(Path, plain.paths(split))] for split in names}
    moved = {}
    for split, some in names.items():
        for name, path, label in zip(some, plain.paths(split), plain.labels(split).tolist(), strict=True):
            moved[split, name] = target = root / "new" / scheme(split, name, label)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            (target.parent / f"._{target.name}").write_bytes(b"\x00\x05\x16\x07")
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")
    return root / "new", expected, moved


@pytest.mark.parametrize("scheme", SCHEMES)
def test_files_are_found_under_the_names_that_people_have(scheme, folder, recwarn):
    root, _, _ = folder
    new, expected, _ = rearrange(root, SCHEMES[scheme])
    dataset = ImageNet(new, index_file=root / "imagenet_index.npz")
    for split, contents in expected.items():
        assert [Path(path).read_bytes() for path in dataset.paths(split)] == contents
    assert not [warning for warning in recwarn if "left out" in str(warning.message)]


def test_a_class_in_a_name_must_be_the_examples(folder):
    root, _, _ = folder
    new, _, moved = rearrange(root, SCHEMES["hugging face, flat"])
    path = moved["train", folder[1][0]]
    wrong = next(synset for synset in SYNSETS if synset not in path.name)
    path.rename(path.with_name(f"{path.name.rsplit('_', 1)[0]}_{wrong}.JPEG"))
    with pytest.raises(DataError, match="1 in the folder of another class"):
        ImageNet(new, index_file=root / "imagenet_index.npz").paths("train")


def test_names_that_cannot_be_matched_are_counted_and_named(folder):
    root, train, _ = folder
    path = root / "train" / train[4].split("_")[0] / train[4]
    path.rename(path.with_name("cat.JPEG"))
    with pytest.raises(DataError, match=r"1 missing .*; 1 image with a name that is not in the index .*cat.JPEG"):
        ImageNet(root).paths("train")


def test_folders_that_lead_back_end(folder):
    root, _, _ = folder
    (root / "train" / "again").symlink_to(root / "train")
    assert len(ImageNet(root).paths("train")) == 24


def test_links_into_nothing_are_missing_files(folder):
    root, train, _ = folder
    path = root / "train" / train[4].split("_")[0] / train[4]
    path.unlink()
    path.symlink_to("../.git/annex/objects/of-a-file-that-was-not-fetched.JPEG")
    (root / "train" / "a-folder.jpeg").mkdir()
    with pytest.raises(DataError, match=f"of 24 files in the index, 1 missing .such as {train[4]}"):
        ImageNet(root).paths("train")
    dataset = load_dataset("imagenet", root, allow_missing=True)
    with pytest.warns(UserWarning, match="1 missing"):
        assert dataset.missing("train") == [train[4]]
    assert len(dataset.digest()) == 64


def test_a_split_without_any_file_is_one_line(folder):
    root, _, _ = folder
    dataset = ImageNet(root, allow_missing=True, images={"train": [], "test": []})
    with pytest.warns(UserWarning, match="24 missing"), pytest.raises(DataError, match="has none of the images of tr"):
        evaluate(Means(), dataset, "train")


def test_missing_files_are_left_out_where_that_is_allowed(folder):
    root, train, _ = folder
    whole = ImageNet(root)
    expected = torch.cat([batch.images for batch in whole.batches("train", 5)])
    gone = [3, 4, 20]
    for index in gone:
        (root / "train" / train[index].split("_")[0] / train[index]).unlink()
    dataset = load_dataset("imagenet", root, allow_missing=True)
    with pytest.warns(UserWarning, match="of 24 files in the index, 3 missing .*; the others are used"):
        assert dataset.missing("train") == [train[index] for index in gone]
    there = [index for index in range(24) if index not in gone]
    batches = list(dataset.batches("train", 5))
    assert torch.cat([batch.index for batch in batches]).tolist() == there
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected[there])
    assert torch.equal(torch.cat([batch.labels for batch in batches]), whole.labels("train")[there])
    evaluation = evaluate(Means(), dataset, "train")
    assert evaluation.index.tolist() == there
    assert dataset.missing("test") == []
    with pytest.raises(DataError, match=f"3 images of train are missing, such as {train[3]}, and new runs need all"):
        check_complete(dataset, "new runs")
    check_complete(load_dataset("digits"), "new runs")
    for ask in (dataset.image, dataset.picture):
        with pytest.raises(DataError, match=f"{train[20]} is missing"):
            ask("train", 20)
    steps = [(0, torch.tensor([[0, 20]]))]
    with pytest.raises(DataError, match=f"{train[20]} is missing"):
        next(dataset.training_batches("resized-crop-flip", "cpu")([0], steps))
    with pytest.raises(DataError, match="3 missing"):
        ImageNet(root).paths("train")


class Means(torch.nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * torch.arange(1000.0)


def test_a_split_is_a_data_set_of_torch_that_decodes(folder):
    root, train, _ = folder
    dataset = ImageNet(root)
    rows = dataset.split("train")
    image, label = rows[5]
    path = root / "train" / train[5].split("_")[0] / train[5]
    assert torch.equal(image, load_imagenet_image(path.read_bytes()))
    assert label == dataset.labels("train")[5]
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(rows, [5, 0]), num_workers=1)
    assert torch.equal(next(iter(loader))[0][0], image)
    assert torch.equal(dataset.image("train", torch.tensor(5)), image)
    picture = dataset.picture("train", 5)
    assert (picture.dtype, picture.shape) == (np.uint8, (3, *2 * [int(0.875 * min(Image.open(path).size))]))
    assert torch.equal(preprocess_crop(picture.transpose(1, 2, 0)), image)
    for index in (-1, 24, "5", 5.0, None):
        with pytest.raises(DataError, match=r"no image of example|expected a published index, an integer"):
            dataset.image("train", index)
    assert repr(dataset) == f"<imagenet: 24 train and 8 test images in {root}, 1000 classes>"
    assert len({dataset, dataset}) == 1


def test_the_images_that_the_published_pipeline_re_encoded_come_as_it_stored_them(folder):
    root, train, _ = folder
    name = "n01739381_1309.JPEG"
    with np.load(root / "imagenet_index.npz", allow_pickle=True) as index:
        arrays = dict(index)
    old = next(place for place, one in enumerate(train) if one.startswith("n01440764"))
    arrays["tr_filenames"][old] = name.encode()
    (root / "train" / "n01440764" / train[old]).unlink()
    ((_, data),) = make_jpegs(["cmyk"], each=1, seed=3)
    (root / "train" / "n01440764" / name).write_bytes(data)
    np.savez(root / "imagenet_index.npz", **arrays)
    image = ImageNet(root).image("train", old)
    assert torch.equal(image, load_imagenet_image(reencode(data, name)))
    assert torch.equal(image, load_imagenet_image(data, name))
    assert not torch.equal(image, load_imagenet_image(data))
    path = root / "train" / "n01440764" / name
    for spelled in (path, str(path), f"file://{path}"):
        assert torch.equal(image, load_imagenet_image(spelled))
    with pytest.raises(DataError, match=r"nothing.JPEG: cannot be read \(No such file or directory\)"):
        load_imagenet_image("nothing.JPEG")


def test_a_digest_tells_names_sizes_and_labels(folder):
    root, train, _ = folder
    first = ImageNet(root).digest()
    assert ImageNet(root).digest() == first
    path = root / "train" / train[0].split("_")[0] / train[0]
    path.write_bytes(path.read_bytes() + b"\0")
    second = ImageNet(root).digest()
    with np.load(root / "imagenet_index.npz", allow_pickle=True) as index:
        arrays = dict(index)
    arrays["tt_labels"][3] = (arrays["tt_labels"][3] + 1) % 1000
    np.savez(root / "imagenet_index.npz", **arrays)
    assert len({first, second, ImageNet(root).digest()}) == 3


def test_a_default_device_moves_no_index_label_or_image(folder):
    torch.set_default_device("meta")
    try:
        dataset = ImageNet(folder[0])
        (batch,) = dataset.batches("test", 100)
        steps = [(0, torch.zeros(1, 3, dtype=torch.int64, device="cpu"))]
        ((images, labels),) = dataset.training_batches("resized-crop-flip", "cpu")([0], steps)
    finally:
        torch.set_default_device(None)
    for tensor in (*vars(batch).values(), images, labels, dataset.original_index("train")):
        assert tensor.device.type == "cpu"
