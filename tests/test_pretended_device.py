"""The pretended CUDA device finds the mistakes it is for, and the package makes none of them."""

import re

import pytest
import torch
import torch.nn.functional as F

from heldout_torch.data import arrays, load_digits
from heldout_torch.data.views import View, load_views
from heldout_torch.float32 import float32_only
from tests.data.photographs import make_jpegs
from tests.helpers.devices import only_pretended
from tests.pretend_cuda import pretended_cuda, streams
from tests.pretend_cuda.tensor import CudaTensor, address

pytestmark = only_pretended


@pytest.fixture
def views(tmp_path):
    """Two batches of views."""
    found = []
    for number, (_, data) in enumerate(make_jpegs(["420"], each=4, seed=0)):
        (tmp_path / f"{number}.jpeg").write_bytes(data)
        found.append(View(str(tmp_path / f"{number}.jpeg")))
    return found[:2], found[2:]


def problems_of_views(views):
    with pretended_cuda() as journal:
        for images in load_views(views, "cuda", workers=2):
            images.sum()
        del images
    return journal.finish()


def test_streams_of_image_files_are_in_order(views):
    assert problems_of_views(views) == []


def test_image_files_are_prepared_on_a_stream_of_their_own_and_wait_for_nothing(views):
    """So that the GPU computes meanwhile."""
    with pretended_cuda() as journal:
        for images in load_views(views, "cuda", workers=2):
            assert journal.memory[address(images)].home != torch.cuda.current_stream().number
    assert not journal.syncs


def test_a_stream_that_does_not_wait_for_another_is_seen(views, monkeypatch):
    monkeypatch.setattr(streams.Stream, "wait_event", lambda self, event: None)
    assert any("what another stream may not have written yet" in problem for problem in problems_of_views(views))


def test_memory_that_may_be_given_out_too_early_is_seen(views, monkeypatch):
    monkeypatch.setattr(CudaTensor, "record_stream", lambda self, stream: None)
    assert any("without record_stream" in problem for problem in problems_of_views(views))


def test_writing_what_another_stream_still_reads_is_seen():
    with pretended_cuda() as journal:
        a, side = torch.zeros(3, device="cuda"), torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            a + 1
        a.record_stream(side)
        a.zero_()
    (problem,) = journal.finish()
    assert re.fullmatch(
        r"zero_ at test_pretended_device.py:\d+ writes what another stream may not have read yet", problem
    )


def test_a_divisor_that_lies_on_the_host_is_seen(monkeypatch):
    """It is a copy that waits for the device, at every batch."""

    def syncs():
        with pretended_cuda() as journal:
            digits = load_digits().to("cuda")
            journal.syncs.clear()
            assert len(list(digits.batches("test", 90, "cuda"))) == 4
        return sum(journal.syncs.values())

    assert syncs() == 0
    monkeypatch.setattr(arrays, "scaled", lambda images, by: images / torch.tensor(by, device=images.device))
    assert syncs() == 4


def test_waiting_for_the_device_is_counted_by_line():
    with pretended_cuda() as journal:
        a = torch.arange(5.0).to("cuda")
        a.cpu(), a[a > 1], float(a.sum()), torch.tensor(1.0, device="cuda")
        a.to("cuda", non_blocking=True)
        torch.cuda.synchronize()
    assert sorted(why for why, _ in journal.syncs) == [
        "_local_scalar_dense", "copy to the device", "copy to the device", "copy to the host", "mask", "synchronize",
    ]  # fmt: skip
    assert all(place.startswith("test_pretended_device.py:") for _, place in journal.syncs)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda a: a + torch.ones(3),
        lambda a: a @ torch.ones(3, 3),
        lambda a: torch.ones(3)[a.long()],
        lambda a: torch.cat([a, torch.ones(1)]),
        lambda a: a.numpy(),
        lambda a: a + torch.ones(3, device="cuda:1"),
        lambda a: a.index_put_((torch.tensor([0, 1]),), torch.ones(2)),
    ],
)
def test_what_cuda_refuses_is_refused(mistake):
    with pretended_cuda(devices=2):
        a = torch.ones(3, device="cuda:0")
        with pytest.raises((RuntimeError, TypeError), match=r"same device|either on cpu|numpy"):
            mistake(a)
        assert (a * torch.tensor(2.0)).tolist() == [2, 2, 2]  # a single number may lie on the host


def test_products_are_rounded_where_tf32_is_allowed():
    torch.manual_seed(0)
    images, weight = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3)
    truth = F.conv2d(images, weight)
    with pretended_cuda():
        there = images.to("cuda"), weight.to("cuda")
        rounded = F.conv2d(*there).cpu()
        with float32_only():
            exact = F.conv2d(*there).cpu()
    assert torch.equal(exact, truth)
    assert 1e-5 < ((rounded - truth).abs() / truth).max() < 1e-2


def test_a_pytorch_that_it_does_not_fit_is_one_line(monkeypatch):
    def gone(*arguments, **options):
        raise TypeError("no such\nargument")

    monkeypatch.setattr(torch.Tensor, "_make_wrapper_subclass", gone)
    with pytest.raises(RuntimeError) as error, pretended_cuda():
        pass
    assert str(error.value) == (
        f"tests/pretend_cuda does not fit PyTorch {torch.__version__} (TypeError: no such argument)"
    )


def test_nothing_is_left_behind():
    before = torch.tensor, torch.Tensor.to, torch.cuda.is_available(), torch.cuda.Stream
    with pretended_cuda():
        assert torch.cuda.is_available()
    assert (torch.tensor, torch.Tensor.to, torch.cuda.is_available(), torch.cuda.Stream) == before
