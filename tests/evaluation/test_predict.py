"""Logits of runs on images as people hold them; what is none is one line, and runs stay as they were."""

import numpy as np
import pytest
import torch

from heldout_torch import load_run, load_runs, predict
from heldout_torch.errors import DataError

IMAGES = torch.from_numpy(np.random.default_rng(0).random((5, 1, 8, 8), np.float32))


@pytest.fixture
def run():
    return load_run("digits-mlp-tf/0.7/3")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "images",
    [
        IMAGES.numpy().astype(">f4"),
        IMAGES.flip(3).numpy()[..., ::-1],
        np.broadcast_to(IMAGES.numpy(), IMAGES.shape),
        list(IMAGES),
        IMAGES.tolist(),
        IMAGES.clone().requires_grad_(),
        IMAGES.to(memory_format=torch.channels_last),
    ],
    ids=["big endian", "flipped", "read only", "list", "numbers", "with gradient", "channels last"],
)
def test_images_are_taken_in_every_form(run, images):
    assert torch.equal(predict(run, images), predict(run, IMAGES))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            IMAGES[0],
            r"a tensor of float32 \(1, 8, 8\), expected a tensor of floats .*; one image: images\[None\]",
        ),
        (IMAGES.permute(0, 2, 3, 1), r"\(5, 8, 8, 1\), channels last; expected \(5, 1, 8, 8\)"),
        ((IMAGES, torch.zeros(5)), "tuple, expected a tensor of floats"),
        (IMAGES.to_sparse(), "a sparse tensor"),
        (IMAGES.to("meta"), "a tensor without data"),
    ],
)
def test_what_are_no_images_is_one_line(run, images, message):
    with pytest.raises(DataError, match=f"images are {message}"):
        predict(run, images)


def test_a_network_that_gives_no_logits_is_named(run):
    run.model.register_forward_hook(lambda module, given, logits: (logits, logits))
    with pytest.raises(DataError, match=r"run digits-mlp-tf/0.7/3 gives tuple, expected a tensor of logits"):
        predict(run, IMAGES)
    with pytest.raises(DataError, match=r"str 'digits-mlp-tf/0.7/3' is not a run, expected what load_run returns"):
        predict("digits-mlp-tf/0.7/3", IMAGES)


def test_runs_stay_in_the_mode_they_were_in(run):
    run.model.train()
    run.model.layers[0].eval()
    expected = predict(load_runs("digits-mlp-tf/0.7/3"), IMAGES)
    assert torch.equal(predict(run, IMAGES), expected)
    assert [module.training for module in (run.model, *run.model.layers)] == [True, False, True]
