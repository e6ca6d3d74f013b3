"""Small files that declare a lot, or are large and hold nothing: refused in a line, in little memory.

The bounds are listed in docs/reliability.md; the list is compared with the constants.

Also of zoo/file_limits.py.
"""

import importlib.util
import io
import os
import pkgutil
import re
import shutil
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import heldout_torch
from heldout_torch import HeldoutError, load_dataset
from heldout_torch.archives import limits
from heldout_torch.data.transforms import load_imagenet_image
from heldout_torch.evaluation.verification_log import VerificationLog
from heldout_torch.experiments.recipe import read_recipe
from heldout_torch.stats.columns import read_columns
from heldout_torch.stats.influence_files import load_pairs
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable
from heldout_torch.training.state import load_state
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from tests.helpers.zoos import export

REPOSITORY = Path(__file__).parents[2]
KEY = RunKey("digits-mlp-tf", 0.7, 0)
AUX = [f"{kind}_{part}" for kind in ("correctness", "index") for part in ("train", "removed", "test")] + [
    "subsample_idx"
]
PAIRS = ["tr_idx", "tt_idx", "infl", "mem"]
HUGE = 2**42  # bytes of a file that takes none on the disk


def huge(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.truncate(HUGE)
    return path


def in_zoo(folder, name, data=None):
    """Open a zoo of which one file is huge, or holds other bytes."""
    export(sample_zoo(), folder, runs=[0, 1])
    path = folder / name
    path.unlink(missing_ok=True)
    huge(path) if data is None else path.write_bytes(data)
    return open_zoo(folder)


def jpeg(height, width):
    """A JPEG that declares so many pixels, and has 64."""
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "jpeg")
    at = data.getvalue().index(b"\xff\xc0") + 5
    return data.getvalue()[:at] + struct.pack(">HH", height, width) + data.getvalue()[at + 4 :]


def png(height, width):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def npy_of(folder, name, shape):
    """Let an array of a saved table declare another shape."""
    folder = folder / "table"
    table = RunTable.from_zoo(sample_zoo(), KEY.experiment, 0.7)
    table.save(folder)
    with open(folder / f"{name}.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u8", "fortran_order": False, "shape": shape})
    return folder


def npz_of(path, **shapes):
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in shapes.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", header.getvalue())
    return path


def written(path, data):
    path.write_bytes(data)
    return path


def texts(path):
    """Return a Parquet file of some kilobytes whose column is a text of a megabyte in 100,000 rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    column = arrow.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), ["x" * 2**20])
    parquet.write_table(arrow.table({"filename": column}), path, compression="gzip")
    return path


def parquet(path):
    """A Parquet file of 40 kB with 34 million rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"index": np.zeros(2**20, np.int64)})
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(33):
            writer.write_table(table)
    return path


def cifar(folder):
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        huge(folder / "cifar-10-batches-py" / name)
    return folder


READERS = {
    "run.json": lambda f: in_zoo(f, f"{KEY}/run.json").record(KEY),
    "manifest.json": lambda f: in_zoo(f, "manifest.json").read("manifest.json"),
    "experiment.json": lambda f: in_zoo(f, "mine/experiment.json").experiment("mine"),
    "aux_arrays.npz": lambda f: in_zoo(f, f"{KEY}/aux_arrays.npz").aux(KEY),
    "model.safetensors": lambda f: in_zoo(f, f"{KEY}/model.safetensors").state(KEY),
    "files of a run": lambda f: in_zoo(f, f"{KEY}/model.safetensors").files(KEY),
    "model's header": lambda f: in_zoo(f, f"{KEY}/model.safetensors", struct.pack("<Q", 2**60) + b"{}").state(KEY),
    "evaluations": lambda f: in_zoo(f, "e/0.7/evaluations/0.json").read("e/0.7/evaluations/0.json"),
    "declared aux arrays": lambda f: in_zoo(
        f, f"{KEY}/aux_arrays.npz", npz_of(f.parent / "a.npz", **dict.fromkeys(AUX, (2**40,))).read_bytes()
    ).aux(KEY),
    "table.json": lambda f: RunTable.load(huge(npy_of(f, "trained_on", (2, 2)) / "table.json").parent),
    "declared table": lambda f: RunTable.load(npy_of(f, "trained_on", (2**40, 1))),
    "outputs.json": lambda f: OutputTable.load(huge(f / "outputs.json").parent),
    "log": lambda f: VerificationLog(huge(f / "log.jsonl"), ["test"], "0" * 64).read(),
    "state": lambda f: load_state(str(huge(f / "s.safetensors")), {"w": torch.zeros(3)}, 9) or refuse(),
    "recipe": lambda f: read_recipe(huge(f / "recipe.toml")),
    "columns": lambda f: read_columns(huge(f / "pairs.csv"), {}),
    "line of CSV": lambda f: read_columns(written(f / "kept.csv", b"index\n" + b"1," * 2**20), {"index": "i"}),
    "declared Parquet": lambda f: read_columns(parquet(f / "kept.parquet"), {"index": "i"}),
    "texts in Parquet": lambda f: read_columns(texts(f / "kept.parquet"), {"filename": "U"}),
    "pairs": lambda f: load_pairs(huge(f / "pairs.npz")),
    "declared pairs": lambda f: load_pairs(npz_of(f.parent / "p.npz", **dict.fromkeys(PAIRS, (2**40,)))),
    "data set": lambda f: load_dataset("mine", huge(f / "data.npz")),
    "CIFAR": lambda f: load_dataset("cifar10", cifar(f)),
    "image": lambda f: load_imagenet_image(huge(f / "image.JPEG")),
    "declared JPEG": lambda f: load_imagenet_image(jpeg(65500, 65500)),
    "declared PNG": lambda f: load_imagenet_image(png(60000, 60000)),
    "declared PNG below Pillow's bound": lambda f: load_imagenet_image(png(10001, 10001)),
}  # fmt: skip


def refuse():
    raise HeldoutError("is none")


@pytest.fixture
def grown():
    """What tells how many bytes the process has grown at most since the test began."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("only Linux tells peaks of a moment")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = _memory("VmRSS")
    return lambda: _memory("VmHWM") - before


def _memory(name):
    return int(re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_small_inputs_that_declare_a_lot_are_refused_in_little_memory(name, tmp_path, grown):
    folder = tmp_path / "place"
    folder.mkdir()
    with pytest.raises(HeldoutError) as error:
        READERS[name](folder)
    assert "\n" not in str(error.value)
    assert grown() < 300 * 2**20
    shutil.rmtree(folder)


def test_the_time_is_little(tmp_path):
    """All of them together, the zoos that they are tried in included."""
    start = time.monotonic()
    for name, read in READERS.items():
        (tmp_path / name).mkdir()
        with pytest.raises(HeldoutError):
            read(tmp_path / name)
    assert time.monotonic() - start < 2.0 * len(READERS)


def _listed():
    text = (REPOSITORY / "docs/reliability.md").read_text().partition("## Bounds")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([0-9^ ]+?) (?:bytes|[a-z ]+) \| `([\w.]+)\.(\w+)` \|$", text, re.MULTILINE)
    return {f"{module}.{name}": (what, number) for what, number, module, name in rows}


def test_the_list_of_bounds_says_what_the_constants_do():
    listed = _listed()
    assert len(listed) > 25
    for place, (what, number) in listed.items():
        module, _, name = place.rpartition(".")
        base, _, power = number.replace(" ", "").partition("^")
        value = getattr(importlib.import_module(f"heldout_torch.{module}"), name)
        assert value == (int(base) ** int(power) if power else int(base)), (place, what)


def test_no_bound_is_missing_from_the_list():
    names = {name for name in dir(limits) if name.isupper() and not name.startswith("_")}
    expected = {f"archives.limits.{name}" for name in names}
    for module in pkgutil.walk_packages(heldout_torch.__path__, "heldout_torch."):
        room = module.name.split(".")[1]
        if module.ispkg or room in ("report", "cli", "__main__", "models"):
            continue
        text = Path(importlib.util.find_spec(module.name).origin).read_text()
        found = re.findall(r"^(_?(?:MAX|LARGEST)_[A-Z]\w*) =", text, re.MULTILINE)
        expected |= {f"{module.name.partition('.')[2]}.{name}" for name in found}
    assert expected - _listed().keys() == OTHERWISE


# Bounds of other things than memory that inputs take.
OTHERWISE = {"archives.remote_stream._MAX_WAIT", "training.runs._MAX_STACK", "zoo.keys.MAX_RUN"}
