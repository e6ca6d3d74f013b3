"""Batches of training images: random crops, those of ImageNet in a few steps of ResNet50 on synthetic JPEGs.

Also of data/augment.py.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from heldout_torch import HeldoutError, load_run
from heldout_torch.data import arrays, load_digits, views
from heldout_torch.data.augment import crop_flip, draw_crop_flip, random_box
from heldout_torch.data.imagenet import ImageNet
from heldout_torch.training import Recipe, RunBatch, train_runs
from heldout_torch.zoo import known_experiments
from tests.data.photographs import make_jpegs
from tests.helpers.devices import on_devices

TRAIN, TEST = 16, 4


@pytest.fixture
def imagenet(tmp_path):
    images = [data for _, data in make_jpegs(["420"], each=TRAIN + TEST, seed=2)]
    train = [f"n{number % 2:08d}_{number}.JPEG" for number in range(TRAIN)]
    test = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(TEST)]
    for name, data in zip(train + test, images, strict=True):
        folder = tmp_path / ("val" if name in test else f"train/{name.split('_')[0]}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    np.savez(
        tmp_path / "imagenet_index.npz",
        tr_filenames=np.array([name.encode() for name in train]),
        tr_labels=np.arange(TRAIN) % 2,
        tr_mem=np.zeros(TRAIN),
        tt_filenames=np.array([name.encode() for name in test]),
        tt_labels=np.arange(TEST) % 2,
    )
    return ImageNet(tmp_path)


def test_boxes_are_of_the_stated_area_and_aspect_and_everywhere():
    random = np.random.default_rng(0)
    boxes = np.array([random_box(400, 500, random) for _ in range(2000)])
    top, left, rows, columns = boxes.T
    assert (boxes >= 0).all()
    assert (top + rows <= 400).all()
    assert (left + columns <= 500).all()
    area, aspect = rows * columns / 200_000, columns / rows
    assert 0.079 < area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert 0.74 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.35
    assert random_box(10, 1000, random) == (0, 0, 10, 1000)  # nothing of that area and aspect fits


def test_boxes_are_distributed_as_those_of_torchvision():
    """Its box has only one difference: after ten draws that do not fit it takes the largest in the middle."""
    random, image = np.random.default_rng(1), torch.empty(3, 400, 500)
    torch.manual_seed(0)
    ours = np.array([random_box(400, 500, random) for _ in range(3000)])
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(3000)])
    for number in (*range(4), lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 2] / box[:, 3]):
        one, other = (number(boxes) if callable(number) else boxes[:, number] for boxes in (ours, theirs))
        assert ks_2samp(one, other).statistic < 0.05  # 0.035 is passed by one in twenty


def test_crop_flip_shifts_and_flips_each_image_by_itself():
    size = 9
    image = torch.arange(1, size * size + 1).reshape(1, size, size)  # no two pixels alike
    images = image.expand(600, 1, size, size)
    changed = crop_flip(images, torch.from_numpy(draw_crop_flip(600, run=1, step=2)))
    padded = F.pad(image, (4, 4, 4, 4))
    possible = {}
    for top in range(8):
        for left in range(8):
            crop = padded[:, top : top + size, left : left + size]
            possible[crop.numpy().tobytes()] = (top, left, False)
            possible[crop.flip(2).contiguous().numpy().tobytes()] = (top, left, True)
    drawn = [possible[one.contiguous().numpy().tobytes()] for one in changed]
    assert {top for top, _, _ in drawn} == {left for _, left, _ in drawn} == set(range(8))
    assert 250 < sum(flip for _, _, flip in drawn) < 350
    assert len({(top, left) for top, left, _ in drawn}) > 50  # the two offsets are drawn apart
    assert torch.equal(changed, crop_flip(images, torch.from_numpy(draw_crop_flip(600, run=1, step=2))))
    assert not torch.equal(changed, crop_flip(images, torch.from_numpy(draw_crop_flip(600, run=1, step=3))))


@on_devices
@pytest.mark.parametrize("augmentation", ["none", "crop-flip"])
def test_each_run_sees_its_own_examples_and_draws_however_many_are_sent_together(device, augmentation, monkeypatch):
    dataset, runs = load_digits(), [4, 9]
    random = np.random.default_rng(0)
    steps = [(step, torch.from_numpy(random.integers(0, 1437, (2, 5 if step % 3 else 2)))) for step in range(8)]

    def batches():
        return list(dataset.training_batches(augmentation, device)(runs, iter(steps)))

    for at_once in (2**17, 1, 25):
        monkeypatch.setattr(arrays, "DRAWS_AT_ONCE", at_once)
        for (step, index), (images, labels) in zip(steps, batches(), strict=True):
            assert torch.equal(labels.cpu(), dataset.labels("train")[index])
            for i, run in enumerate(runs):
                expected = dataset.train.images[index[i]]
                if augmentation == "crop-flip":
                    expected = crop_flip(expected, torch.from_numpy(draw_crop_flip(len(index[i]), run, step)))
                assert torch.equal(images[i].cpu(), expected.float() / 16)


def test_batches_differ_from_step_to_step_and_repeat(imagenet):
    batches_of = imagenet.training_batches("resized-crop-flip", "cpu")

    def batch(run, step):
        ((images, labels),) = batches_of([run], [(step, torch.tensor([[3, 0, 8]]))])
        assert labels.tolist() == [[1, 0, 0]]
        return images

    images = batch(5, 1)
    assert images.shape == (1, 3, 3, 224, 224)
    assert torch.equal(images, batch(5, 1))
    assert not torch.equal(images, batch(5, 2))
    assert not torch.equal(images, batch(6, 1))


@on_devices
def test_steps_come_in_order_each_runs_examples_with_their_labels(imagenet, device):
    steps = [(step, torch.tensor([[2 * step, 5], [1, 3 * step // 2]])) for step in range(7)]
    batches = list(imagenet.training_batches("resized-crop-flip", device)([4, 9], steps))
    assert len(batches) == 7
    for (step, index), (images, labels) in zip(steps, batches, strict=True):
        assert torch.equal(labels.cpu(), imagenet.labels("train")[index])
        for place, run in enumerate([4, 9]):
            alone = imagenet.training_batches("resized-crop-flip", "cpu")([run], [(step, index[place : place + 1])])
            assert torch.equal(images[place].cpu(), next(alone)[0][0])


def test_threads_decode_the_next_steps_while_one_is_made(imagenet):
    asked = []

    def steps():
        for step in range(8):
            asked.append(step)
            yield step, torch.tensor([[step, 0]])

    before = {*threading.enumerate()}
    batches = imagenet.training_batches("resized-crop-flip", "cpu")([0], steps())
    next(batches)
    assert asked == [0, 1, 2]
    batches.close()
    assert {*threading.enumerate()} <= before


def test_half_of_the_images_are_mirrored(imagenet, monkeypatch):
    """The same draws without the mirroring, and with all of it, tell which were mirrored."""
    index = torch.arange(16)[None].repeat(1, 12)
    ((images, _),) = imagenet.training_batches("resized-crop-flip", "cpu")([1], [(0, index)])
    decode = views.decode_view

    def with_flip(flip):
        monkeypatch.setattr(views, "decode_view", lambda view: decode(replace(view, flip=flip)))
        ((changed, _),) = imagenet.training_batches("resized-crop-flip", "cpu")([1], [(0, index)])
        return (changed == images).flatten(2).all(2)[0]

    plain, mirrored = with_flip(False), with_flip(True)
    assert (plain ^ mirrored).all()
    assert 70 < int(mirrored.sum()) < 122


def test_augmentations_that_do_not_fit_are_refused(imagenet):
    for dataset, augmentation in ((imagenet, "crop-flip"), (imagenet, "none"), (load_digits(), "resized-crop-flip")):
        with pytest.raises(HeldoutError, match=f"with augmentation '{augmentation}'"):
            dataset.training_batches(augmentation, "cpu")


@pytest.mark.slow
def test_resnet50_makes_a_few_steps(imagenet, tmp_path):
    experiment = replace(
        known_experiments()["imagenet-resnet50"], name="tiny-resnet50", train_examples=TRAIN, test_examples=TEST
    )
    recipe = Recipe(2, 4, 0.001, augmentation="resized-crop-flip")
    (result,) = train_runs(RunBatch(experiment, recipe, 0.5, (0,)), imagenet, tmp_path / "zoo")
    assert result.error is None
    run = load_run("tiny-resnet50", 0.5, 0, tmp_path / "zoo")
    assert run.metadata.global_step == 4
    assert int(run.model.bn1.num_batches_tracked) == 4
    assert np.array_equal(run.aux.subsample_idx, np.random.RandomState(0).choice(TRAIN, 8, replace=False))
