"""The reader gives TensorFlow's own bytes, and one-line errors for everything else.

Also of checkpoints/crc.py, checkpoints/table.py, checkpoints/wire.py.
"""

import io
import json
import runpy
import shutil
import sys

import google_crc32c
import numpy as np
import pytest

from heldout_torch import CheckpointError
from heldout_torch.checkpoints import Checkpoint, crc
from heldout_torch.checkpoints.wire import read_varint
from tests.helpers.bundles import masked

KINDS = ["one_shard", "several_shards", "many_variables", "every_dtype", "slots"]


def as_members(folder):
    """The same checkpoint from objects with seek and read, as an archive gives them."""
    shards = [io.BytesIO(path.read_bytes()) for path in sorted(folder.glob("ckpt-1.data-*"))]
    return Checkpoint((folder / "ckpt-1.index").read_bytes(), shards)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opener", [lambda folder: Checkpoint.open(folder / "ckpt-1"), as_members])
def test_every_tensor_is_byte_equal_to_tensorflows(checkpoints, kind, opener):
    folder = checkpoints / kind
    checkpoint = opener(folder)
    names = json.loads((folder / "names.json").read_text())
    assert sorted(checkpoint) == [name for name, _ in names]
    with np.load(folder / "expected.npz") as expected:
        for number, (name, shape) in enumerate(names):
            assert checkpoint[name].shape == tuple(shape)
            assert checkpoint[name].tobytes() == expected[str(number)].tobytes()


def footer_numbers(index):
    """Offset and size of the metaindex block, then of the index block."""
    numbers, position = [], 0
    for _ in range(4):
        number, position = read_varint(index[-48:], position)
        numbers.append(number)
    return numbers


def test_the_kinds_are_what_their_names_say(checkpoints):
    one, many = (
        footer_numbers((checkpoints / kind / "ckpt-1.index").read_bytes()) for kind in ("one_shard", "many_variables")
    )
    assert many[3] > 3 * one[3]  # the index block lists several data blocks, not one
    assert many[2] > 500_000  # bytes
    assert len(list((checkpoints / "several_shards").glob("ckpt-1.data-*-of-00003"))) == 3
    assert any("optimizer" in name for name in Checkpoint.open(checkpoints / "slots" / "ckpt-1"))


def test_tensors_are_read_only(checkpoints):
    checkpoint = Checkpoint.open(checkpoints / "one_shard" / "ckpt-1")
    assert not checkpoint["a/b"].flags.writeable


def test_strings_are_known_and_not_read(checkpoints):
    checkpoint = Checkpoint.open(checkpoints / "every_dtype" / "ckpt-1")
    assert [key for key in checkpoint.entries if key not in checkpoint] == ["text"]
    with pytest.raises(CheckpointError, match="not a tensor of numbers"):
        checkpoint["text"]
    with pytest.raises(KeyError):
        checkpoint["absent"]


def test_sliced_variables_are_refused_by_name(checkpoints):
    with pytest.raises(CheckpointError, match=r"v is a sliced .* not supported"):
        Checkpoint.open(checkpoints / "sliced" / "ckpt-1")["v"]


def test_a_compressed_block_is_refused(checkpoints):
    index = bytearray((checkpoints / "one_shard" / "ckpt-1.index").read_bytes())
    end = footer_numbers(index)[0]  # the metaindex begins where the first data block's trailer of five bytes ends
    index[end - 5] = 1
    crc = google_crc32c.value(bytes(index[: end - 4]))
    index[end - 4 : end] = (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(CheckpointError, match="compressed"):
        Checkpoint(bytes(index), [b""])


def test_damaged_tensor_bytes_are_found_when_read(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "one_shard", tmp_path / "run")
    data = next((tmp_path / "run").glob("*.data-*"))
    damaged = bytearray(data.read_bytes())
    damaged[5] ^= 1
    data.write_bytes(damaged)
    checkpoint = Checkpoint.open(tmp_path / "run" / "ckpt-1")
    with pytest.raises(CheckpointError, match=r"ckpt-1: a/b: checksum"):
        checkpoint["a/b"]


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_a_pointer_in_place_of_a_file_is_called_so(checkpoints, tmp_path, ending):
    """As in a clone without Git LFS."""
    shutil.copytree(checkpoints / "one_shard", tmp_path / "run")
    (tmp_path / "run" / f"ckpt-1.{ending}").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"\(it is a pointer of Git LFS"):
        dict(Checkpoint.open(tmp_path / "run" / "ckpt-1"))


def test_missing_shard_is_named(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "several_shards", tmp_path / "run")
    (tmp_path / "run" / "ckpt-1.data-00001-of-00003").unlink()
    with pytest.raises(CheckpointError, match=r"data-00001-of-00003: cannot be read"):
        Checkpoint.open(tmp_path / "run" / "ckpt-1")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"ckpt-3: expected .*data-00000-of-0000N"):
        Checkpoint.open(tmp_path / "ckpt-3")


def test_wrong_number_of_shards_is_refused(checkpoints):
    index = (checkpoints / "several_shards" / "ckpt-1.index").read_bytes()
    with pytest.raises(CheckpointError, match="3 data shards, but 1"):
        Checkpoint(index, [b""])


def test_checksums_without_the_package_are_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    check = runpy.run_path(crc.__file__)["check_crc"]
    for data in (b"", b"123456789", bytes(range(256)) * 5, np.arange(100, dtype=np.uint8)):
        check(data, masked(bytes(data)), "it")
        with pytest.raises(CheckpointError, match="it: checksum does not match"):
            check(data, masked(bytes(data)) ^ 1, "it")


def test_an_integer_has_64_bits():
    assert read_varint(b"\xff" * 9 + b"\x7f", 0) == (2**64 - 1, 10)
    with pytest.raises(CheckpointError, match="longer than 64 bits"):
        read_varint(b"\xff" * 10 + b"\x01", 0)
