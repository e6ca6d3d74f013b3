"""Every format that is read from elsewhere: a good input, how it is damaged, and what reads it."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from heldout_torch import AuxArrays
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.indexed import IndexedArchive
from heldout_torch.archives.tar_stream import read_members
from heldout_torch.checkpoints import Checkpoint
from heldout_torch.data.imagenet_index import read_imagenet_index
from heldout_torch.data.npz import load_npz
from heldout_torch.errors import DataError
from heldout_torch.evaluation.verification_log import VerificationLog
from heldout_torch.experiments import Experiment, read_declaration
from heldout_torch.experiments.recipe import read_recipe
from heldout_torch.stats import ExampleFacts, InfluencePairs, Scores, write_pairs, write_scores
from heldout_torch.stats.columns import read_columns, write_columns
from heldout_torch.stats.influence_files import load_classwise, load_pairs
from heldout_torch.stats.output_files import start_outputs, write_outputs
from heldout_torch.stats.outputs import OutputTable
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.score_files import load_scores
from heldout_torch.storage.npz import npz_bytes
from heldout_torch.training.state import load_state, save_state
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.model_file import read_model_header
from heldout_torch.zoo.open import open_zoo
from heldout_torch.zoo.records import RunFiles, read_record
from tests.helpers.archives import multiply, pack
from tests.soak import mutants

Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        good: Contents of a good file.
        damage: What makes a damaged one of it.
        read: Reads the contents, or raises HeldoutError.
    """

    good: bytes
    damage: Damage
    read: Callable[[bytes], object]


def all_formats(folder: Path) -> dict[str, Format]:
    """Return the formats by name; those that are read by path are written into a folder first."""
    key = RunKey("digits-mlp-tf", 0.7, 0)
    zoo = open_zoo(sample_zoo())
    files: RunFiles = zoo.files(key)
    names = dict(files.in_order())
    run = sample_zoo() / "digits-mlp-tf/0.7/0"
    index, data = (next((run / "checkpoints").glob(f"*{part}*")).read_bytes() for part in (".index", ".data-"))
    experiment = Experiment.from_json("mine", {**json.loads(zoo.experiment(key.experiment).to_bytes())}, "mine")

    def by_path(read: Callable[[Path], object], ending: str = ".npz") -> Callable[[bytes], object]:
        def write_and_read(contents: bytes) -> object:
            path = folder / f"input{ending}"
            path.write_bytes(contents)
            return read(path)

        return write_and_read

    def read_model(contents: bytes) -> object:
        return RunFiles.unrecorded(
            {**files.contents, "model.safetensors": contents}, key, zoo.experiment(key.experiment), "run"
        )

    manifest = Manifest({key: files.record})
    return {
        "bundle index": Format(index, mutants.of_bytes, lambda contents: dict(Checkpoint(contents, [data]))),
        "bundle data": Format(data, mutants.of_bytes, lambda contents: dict(Checkpoint(index, [contents]))),
        "aux_arrays.npz": Format(names["aux_arrays.npz"], mutants.of_npz, AuxArrays.read),
        "safetensors": Format(names["model.safetensors"], _of_safetensors, read_model),
        "run.json": Format(names["run.json"], mutants.of_json, lambda contents: read_record(contents, key, "run.json")),
        "manifest.json": Format(
            manifest.to_bytes(), mutants.of_json, lambda contents: Manifest.from_bytes(contents, "manifest.json")
        ),
        "experiment.json": Format(
            experiment.to_bytes(), mutants.of_json, lambda contents: read_declaration("mine", contents)
        ),
        "verification log": Format(_log(), mutants.of_json, by_path(lambda path: _read_log(path), ".jsonl")),
        "scores": Format(npz_bytes(_scores()), mutants.of_npz, by_path(load_scores)),
        "table in CSV": Format(_kept(folder / "kept.csv"), mutants.of_bytes, by_path(_read_kept, ".csv")),
        "table in Parquet": Format(_kept(folder / "kept.parquet"), mutants.of_bytes, by_path(_read_kept, ".parquet")),
        "scores in CSV": Format(_scores_in(folder / "s.csv"), mutants.of_bytes, by_path(load_scores, ".csv")),
        "scores in Parquet": Format(
            _scores_in(folder / "s.parquet"), mutants.of_bytes, by_path(load_scores, ".parquet")
        ),
        "pairs in CSV": Format(_pairs_in(folder / "p.csv"), mutants.of_bytes, by_path(load_pairs, ".csv")),
        "pairs in Parquet": Format(_pairs_in(folder / "p.parquet"), mutants.of_bytes, by_path(load_pairs, ".parquet")),
        "pairs": Format(npz_bytes(_pairs()), mutants.of_npz, by_path(load_pairs)),
        "class-wise influence": Format(npz_bytes(_classwise()), mutants.of_npz, by_path(load_classwise)),
        "ImageNet index": Format(npz_bytes(_imagenet()), mutants.of_npz, by_path(read_imagenet_index)),
        "data set": Format(npz_bytes(_dataset()), mutants.of_npz, by_path(lambda path: load_npz(path, "mine"))),
        "model header": Format(
            names["model.safetensors"], _of_safetensors, lambda contents: read_model_header(contents, key, "run")
        ),
        "training state": Format(_state(folder), _of_safetensors, by_path(_read_state, ".safetensors")),
        "seek index": Format(*_seek_index(folder)),
        "run table": Format(*_table(folder / "table")),
        "output table": Format(*_outputs(folder / "outputs")),
        "recipe": Format(_RECIPE, mutants.of_bytes, by_path(read_recipe, ".toml")),
        "tar": Format(_tar(run), mutants.of_bytes, _read_tar),
    }


_RECIPE = b"""
epochs = 3
batch_size = 16
learning_rate = 0.1
"""


def _of_safetensors(data: bytes, chance: random.Random) -> bytes:
    """Damage the bytes, or the header with its length made right."""
    if chance.random() < 0.3:
        return mutants.of_bytes(data, chance)
    length = int.from_bytes(data[:8], "little")
    header = mutants.of_json(data[8 : 8 + length], chance)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _state(folder: Path) -> bytes:
    save_state(f"{folder}/state", _TENSORS, 7, [0])
    return (folder / "state").read_bytes()


def _read_state(path: Path) -> None:
    if load_state(str(path), _TENSORS, 9) is None:  # with a warning: training begins anew
        raise DataError("no state of this training")


_TENSORS = {"w": torch.zeros(3, 4), "losses": torch.ones(2, 3)}


def _seek_index(folder: Path) -> tuple[bytes, Damage, Callable[[bytes], object]]:
    archive = pack(multiply(folder / "tree", 1), folder / "archive.tar.gz")
    build_index(archive)
    place = Path(f"{archive}.seek")

    def read(contents: bytes) -> object:
        place.write_bytes(contents)
        zoo = IndexedArchive(str(archive))
        return [zoo.files(key) for key in zoo.keys()]

    def damage(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return mutants.of_bytes(data, chance)
        length = int.from_bytes(data[8:16], "little")
        lines = gzip.decompress(data[16 : 16 + length]).splitlines()
        number = chance.randrange(len(lines))
        lines[number] = mutants.of_json(lines[number], chance)
        table = gzip.compress(b"\n".join(lines) + b"\n", 1)
        return data[:8] + len(table).to_bytes(8, "little") + table + data[16 + length :]

    return place.read_bytes(), damage, read


def _table(folder: Path) -> tuple[bytes, Damage, Callable[[bytes], object]]:
    RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7).save(folder)
    return _of_folder(folder, lambda: RunTable.load(folder).correct("test"))


def _outputs(folder: Path) -> tuple[bytes, Damage, Callable[[bytes], object]]:
    start_outputs(folder, ["e/0.5/0", "e/0.5/1"], 9, 3)
    write_outputs(folder, "e/0.5/1", np.arange(9) % 2 == 0, np.arange(9.0), np.arange(3.0))
    return _of_folder(folder, lambda: (OutputTable.load(folder).mask(), OutputTable.load(folder).margins_test.sum()))


def _of_folder(folder: Path, read: Callable[[], object]) -> tuple[bytes, Damage, Callable[[bytes], object]]:
    """Return a folder's files as one zip file, what damages one of them, and what reads them as a folder again."""
    names = [path.name for path in folder.iterdir()]

    def write_and_read(contents: bytes) -> object:
        members = mutants.unzipped(contents)
        for name in names:
            (folder / name).unlink(missing_ok=True)  # the old one may be mapped
            if name in members:
                (folder / name).write_bytes(members[name])
        return read()

    return mutants.zipped({name: (folder / name).read_bytes() for name in names}), mutants.of_member, write_and_read


def _scores() -> dict[str, np.ndarray]:
    return {"labels": np.arange(20) % 10, "scores": np.linspace(0, 1, 20), "order": np.array("original")}


def _pairs() -> dict[str, np.ndarray]:
    return {
        "tr_idx": np.arange(5), "tt_idx": np.arange(5), "infl": np.linspace(0.2, 1, 5), "mem": np.linspace(0.3, 1, 5),
    }  # fmt: skip


def _classwise() -> dict[str, np.ndarray]:
    arrays = {"tr_labels": np.arange(6) % 2, "tt_labels": np.arange(4) % 2, "tr_mem": np.linspace(0, 1, 6)}
    for label in range(2):
        arrays[f"tr_classidx_{label}"] = np.arange(label, 6, 2)
        arrays[f"tt_classidx_{label}"] = np.arange(label, 4, 2)
        arrays[f"infl_matrix_class{label}"] = np.zeros((3, 2), np.float32)
    return arrays


def _imagenet() -> dict[str, np.ndarray]:
    names = np.array([b"n01440764_%d.JPEG" % i for i in range(6)])
    return {
        "tr_filenames": names, "tr_labels": np.arange(6), "tr_mem": np.linspace(0, 1, 6), "tt_filenames": names[:2],
        "tt_labels": np.arange(2),
    }  # fmt: skip


def _dataset() -> dict[str, np.ndarray]:
    arrays = {"__num_classes": np.array(10), "__data_scale": np.array(255.0)}
    for split, count in (("train", 12), ("test", 5)):
        arrays[f"{split}__image"] = np.zeros((count, 4, 4, 3), np.uint8)
        arrays[f"{split}__label"] = np.arange(count) % 10
        arrays[f"{split}__index"] = np.arange(count)
    return arrays


def _log() -> bytes:
    split = {"examples": 4, "missing": 0, "mismatched": [1], "margins": [0.5], "ties": [False]}
    return json.dumps(
        {
            "run": "a/0.7/1",
            "files": "1" * 64,
            "data": "0" * 64,
            "matches": 3,
            "examples": 4,
            "tie_margin": 0.1,
            "splits": {"test": split},
        }
    ).encode()


def _kept(path: Path) -> bytes:
    columns = {"original_index": np.arange(50), "score": np.arange(50) / 7, "dataset": np.full(50, "digits")}
    write_columns(path, columns)
    return path.read_bytes()


def _scores_in(path: Path) -> bytes:
    names = np.array([f"n{i}.JPEG" for i in range(20)])
    facts = ExampleFacts(20, np.arange(20)[::-1].copy(), np.arange(20) % 3, names)
    scores = np.linspace(0, 1, 20, dtype=np.float32)
    write_scores(path, Scores(scores, facts.labels, names, scores, order="published"), facts)
    return path.read_bytes()


def _pairs_in(path: Path) -> bytes:
    index, values = np.arange(5), np.linspace(0.2, 1, 5, dtype=np.float32)
    write_pairs(path, InfluencePairs(index, index, values, values, values), ExampleFacts(9), ExampleFacts(9))
    return path.read_bytes()


def _read_kept(path: Path) -> object:
    return read_columns(path, {"original_index": "i"}, {"dataset"})


def _read_log(path: Path) -> list[int]:
    found = VerificationLog(path, ["test"], "0" * 64).read()
    return [count for runs in found.values() for one in runs.values() for count in (one.matches, one.ties)]


def _tar(run: Path) -> bytes:
    buffer = io.BytesIO()
    for form in (tarfile.PAX_FORMAT,):
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            archive.add(run, "digits-mlp-tf/0.7/0")
            archive.add(run, "digits-mlp-tf/0.7/1", filter=_with_long_headers)
    return buffer.getvalue()


def _with_long_headers(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.pax_headers = {"comment": "x" * 300}
    return member


def _read_tar(contents: bytes) -> None:
    for member in read_members(io.BytesIO(contents), "archive.tar"):
        if member.key is not None:
            member.read()
