"""Models in half the bytes: rounded weights, exact batch norm, float32 for whoever reads, no silent mixtures.

Also of zoo/mixing.py.
"""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from heldout_torch import AuxArrays, ZooError, build_model, load_run
from heldout_torch.archives.stream import export_archive
from heldout_torch.cli import main
from heldout_torch.data import load_digits
from heldout_torch.evaluation import verify
from heldout_torch.stats import RunTable, memorization
from heldout_torch.zoo import RunMetadata, known_experiments
from heldout_torch.zoo.dtypes import DTYPES, halved
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.indexing import index_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_zoo
from heldout_torch.zoo.records import RunFiles
from tests.helpers.archives import EXPERIMENT, multiply, pack
from tests.helpers.zoos import files_below, manifest_of

CIFAR = known_experiments()["cifar10-inception"]
KEY = RunKey("cifar10-inception", 0.7, 3)
STEPS = {"bfloat16": 2**-8, "float16": 2**-11}  # half the distance of neighbours, relative

each_dtype = pytest.mark.parametrize("dtype", sorted(DTYPES))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("dtypes")
    multiply(root / "tree", 4)
    assert main(["export", str(root / "tree"), "--zoo", str(root / "zoo"), "--quiet"]) == 0
    return root


def runs_below(folder):
    return {name: data for name, data in files_below(folder).items() if "archive.json" not in name}


def a_state():
    torch.manual_seed(0)
    state = build_model(CIFAR.architecture, **CIFAR.config).state_dict()
    for name, tensor in state.items():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand_like(tensor) + 0.1)
        elif tensor.is_floating_point():
            tensor[tensor.abs() < 1e-6] = 0.0  # or one of two million would become 0, and its tensor stay as it is
    return state


def a_run(state, dtype=None):
    order = np.arange(50000, dtype=np.int32)
    yes = np.ones(50000, np.uint8)
    aux = AuxArrays(yes[:35000], yes[35000:], yes[:10000], order[:35000], order[35000:], order[:10000], order[:35000])
    return RunFiles.of(replace(RunMetadata.of(CIFAR, KEY, 80), dtype=dtype), state, aux)


@each_dtype
def test_half_the_bytes_hold_rounded_weights_and_exact_batch_norm(tmp_path, dtype):
    state, zoo = a_state(), FolderZoo(tmp_path)
    run = a_run(state)
    with zoo:
        assert zoo.put_files(run.stored_as(dtype))
    model = tmp_path / str(KEY) / "model.safetensors"
    assert 0.5 < model.stat().st_size / len(run.contents["model.safetensors"]) < 0.52
    found = zoo.state(KEY)
    assert found.keys() == state.keys()
    norms = 0
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        if ".bn." in name or ".norm." in name or f"{name.rpartition('.')[0]}.running_mean" in state:
            norms += 1
            assert torch.equal(found[name], tensor)
        else:
            assert torch.equal(found[name], tensor.to(DTYPES[dtype]).float())
            assert ((found[name] - tensor).abs() <= tensor.abs() * STEPS[dtype] + 2**-25).all()
            assert not torch.equal(found[name], tensor) or not tensor.any()
    assert norms > 50
    with safe_open(model, framework="pt") as file:
        assert json.loads(file.metadata()["heldout_torch"])["dtype"] == dtype


@each_dtype
def test_equal_input_gives_equal_bytes_and_a_second_time_changes_nothing(dtype):
    run = a_run(a_state()).stored_as(dtype)
    assert run == a_run(a_state()).stored_as(dtype) == a_run(a_state(), dtype)
    assert run.stored_as(dtype) is run
    assert run.stored_as(None) is run
    other = next(name for name in DTYPES if name != dtype)
    with pytest.raises(ZooError, match=rf"run {KEY}: is stored as {dtype}, only float32 becomes {other}"):
        run.stored_as(other)


def test_what_is_lost_in_16_bits_stays_as_it_is():
    values = {
        "large": torch.tensor([70000.0, 1.0]), "small": torch.tensor([1e-8, 1.0]), "zero": torch.tensor([0.0, 1.0]),
        "infinite": torch.tensor([float("inf"), float("nan")]), "count": torch.tensor([3]),
        "norm.running_mean": torch.ones(2), "norm.weight": torch.ones(2), "normal.weight": torch.ones(2),
        "double": torch.ones(2, dtype=torch.float64),
    }  # fmt: skip
    narrow = {name for name, tensor in halved(values, "float16").items() if tensor.dtype == torch.float16}
    assert narrow == {"zero", "infinite", "normal.weight"}
    narrow = {name for name, tensor in halved(values, "bfloat16").items() if tensor.dtype == torch.bfloat16}
    assert narrow == {"large", "small", "zero", "infinite", "normal.weight"}
    alone = {"running_mean": torch.ones(2), "weight": torch.ones(2)}  # a network that is one batch norm
    assert all(tensor.dtype == torch.float32 for tensor in halved(alone, "float16").values())


@each_dtype
def test_export_and_push_and_the_archive_store_the_same(made, tmp_path, dtype):
    pack(made / "tree", tmp_path / "runs.tar.gz")
    for source, target in ((made / "tree", "a"), (made / "zoo", "b"), (tmp_path / "runs.tar.gz", "c")):
        assert main(["export", str(source), "--zoo", str(tmp_path / target), "--dtype", dtype, "--quiet"]) == 0
    assert main(["zoo", "push", str(made / "zoo"), str(tmp_path / "d"), "--dtype", dtype, "--quiet"]) == 0
    first = files_below(tmp_path / "a")
    assert files_below(tmp_path / "b") == files_below(tmp_path / "d") == first
    assert runs_below(tmp_path / "c") == first
    # Between zoos the bytes stay what they are.
    assert main(["zoo", "push", str(tmp_path / "a"), str(tmp_path / "e"), "--quiet"]) == 0
    assert files_below(tmp_path / "e") == first
    manifest = json.loads((tmp_path / "e/manifest.json").read_text())
    assert {entry["dtype"] for entry in manifest["experiments"][EXPERIMENT]["runs"]["0.7"].values()} == {dtype}
    (tmp_path / "e/manifest.json").unlink()
    with_records = index_zoo(FolderZoo(tmp_path / "e")).manifest
    assert {record.dtype for record in with_records.runs.values()} == {dtype}


def test_readers_see_float32(made, tmp_path):
    zoo = tmp_path / "zoo"
    assert main(["export", str(made / "tree"), "--zoo", str(zoo), "--dtype", "float16", "--quiet"]) == 0
    runs = [load_run(EXPERIMENT, 0.7, 1, zoo=place) for place in (zoo, made / "zoo")]
    assert {tensor.dtype for tensor in runs[0].model.state_dict().values()} == {torch.float32}
    assert runs[0].metadata == replace(runs[1].metadata, dtype="float16")
    images = load_digits().test.images / 16
    assert torch.allclose(runs[0].model(images), runs[1].model(images), atol=0.02)
    ours, theirs = (RunTable.from_zoo(place, EXPERIMENT, 0.7) for place in (zoo, made / "zoo"))
    assert np.array_equal(memorization(ours), memorization(theirs), equal_nan=True)
    assert main(["evaluate", str(zoo), "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"]) == 0
    assert main(["zoo", "check", str(zoo), "--quiet"]) == 0


def test_an_existing_run_of_another_model_is_refused_and_not_skipped(made, tmp_path, capsys):
    source, target = str(made / "zoo"), str(tmp_path / "target")
    assert main(["zoo", "push", source, target, "--runs", "0-1", "--quiet"]) == 0
    assert main(["zoo", "push", source, target, "--runs", "0-1", "--quiet"]) == 0
    other = shutil.copytree(made / "zoo", tmp_path / "other")
    with FolderZoo(other) as zoo:
        key = RunKey(EXPERIMENT, 0.7, 1)
        state = {name: tensor + 1 for name, tensor in zoo.state(key).items()}
        zoo.put(zoo.metadata(key), state, zoo.aux(key), overwrite=True)
    before = runs_below(tmp_path / "target")
    capsys.readouterr()
    assert main(["zoo", "push", str(other), target, "--runs", "0-1"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [
        f"error: run {EXPERIMENT}/0.7/1: is in {target} with another model than in the source; replace it by heldout "
        "export --overwrite, or name another zoo"
    ]
    assert runs_below(tmp_path / "target") == before
    assert main(["export", str(other), "--zoo", target, "--runs", "0-1", "--overwrite", "--quiet"]) == 0
    assert main(["zoo", "push", str(other), target, "--runs", "0-1", "--quiet"]) == 0


def test_an_existing_run_of_another_dtype_is_refused_and_not_skipped(made, tmp_path, capsys):
    wide, narrow = str(tmp_path / "wide"), str(tmp_path / "narrow")
    pack(made / "tree", tmp_path / "runs.tar.gz")
    source, archive = str(made / "zoo"), str(tmp_path / "runs.tar.gz")
    assert main(["zoo", "push", source, wide, "--quiet"]) == 0
    assert main(["zoo", "push", source, narrow, "--dtype", "bfloat16", "--runs", "0-1", "--quiet"]) == 0
    before = {place: runs_below(tmp_path / place) for place in ("wide", "narrow")}
    capsys.readouterr()
    for verb in (
        ["zoo", "push", source, wide, "--dtype", "bfloat16"], ["export", source, "--zoo", wide, "--dtype", "bfloat16"],
        ["export", archive, "--zoo", wide, "--dtype", "bfloat16"], ["export", archive, "--zoo", narrow],
        ["zoo", "push", source, narrow], ["zoo", "push", narrow, wide],
        ["zoo", "push", source, narrow, "--dtype", "float16"],
    ):  # fmt: skip
        assert main([*verb, "--runs", "0-1", "--quiet"]) == 1, verb
        target = narrow if narrow in verb[-3:] and wide not in verb[1:] else wide
        error = capsys.readouterr().err.splitlines()
        there = "float32" if target == wide else "bfloat16"
        assert len(error) >= 2, verb
        assert error[0].startswith(f"error: run {EXPERIMENT}/0.7/0: is in {target} as {there}, and would be written"), (
            verb
        )
    # What is there in the same dtype is skipped, without a manifest, too.
    (tmp_path / "narrow/manifest.json").unlink()
    assert main(["zoo", "push", source, narrow, "--runs", "0-1"]) == 1
    assert main(["zoo", "push", source, narrow, "--dtype", "bfloat16", "--runs", "0-1"]) == 0
    assert "copied 0 runs" in capsys.readouterr().out
    assert {place: runs_below(tmp_path / place) for place in ("wide", "narrow")} == before
    # Whoever overwrites means it.
    assert main(["export", source, "--zoo", wide, "--dtype", "bfloat16", "--runs", "0-1", "--overwrite"]) == 0
    assert open_zoo(wide).metadata(RunKey(EXPERIMENT, 0.7, 1)).dtype == "bfloat16"


def test_verify_refuses_rounded_runs_one_by_one_and_goes_on(made, tmp_path, capsys):
    zoo = str(tmp_path / "zoo")
    assert main(["zoo", "push", str(made / "zoo"), zoo, "--dtype", "bfloat16", "--runs", "0,2", "--quiet"]) == 0
    assert main(["zoo", "push", str(made / "zoo"), zoo, "--runs", "1,3", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["verify", zoo, "--device", "cpu", "--results", str(tmp_path / "log")]) == 1
    said = capsys.readouterr()
    assert "2 runs verified, 0 with mismatches, 2 failed" in said.out
    assert f"error: run {EXPERIMENT}/0.7/0: is stored as bfloat16, its weights are rounded" in said.err
    assert f"error: run {EXPERIMENT}/0.7/2: the same as run {EXPERIMENT}/0.7/0" in said.err
    with pytest.raises(ZooError, match="only float32 runs are verified"):
        verify(load_run(EXPERIMENT, 0.7, 0, zoo=zoo), load_digits())


@pytest.mark.parametrize("dtype", ["float8", 16, ["float16"], {}, True])
def test_a_dtype_that_is_none_is_refused(made, tmp_path, dtype):
    zoo = tmp_path / "zoo"
    assert main(["zoo", "push", str(made / "zoo"), str(zoo), "--dtype", "float16", "--quiet"]) == 0
    key, manifest = RunKey(EXPERIMENT, 0.7, 1), zoo / "manifest.json"
    table = json.loads(manifest.read_bytes())
    table["experiments"][EXPERIMENT]["runs"]["0.7"]["1"]["dtype"] = dtype
    manifest.write_text(json.dumps(table))
    with pytest.raises(ZooError, match=r"a model is stored as|TypeError"):
        manifest_of(FolderZoo(zoo))
    record = {**FolderZoo(zoo).metadata(key).to_record(), "dtype": dtype}
    with pytest.raises(ZooError, match=r"is stored as 'float8'|field 'dtype' of the record is"):
        RunMetadata.from_record(record, "a file")


def test_an_export_of_the_archive_streams_in_16_bits(made, tmp_path):
    pack(made / "tree", tmp_path / "runs.tar.gz")
    stream = io.BytesIO((tmp_path / "runs.tar.gz").read_bytes())
    outcomes = list(export_archive(stream, "runs.tar.gz", tmp_path / "zoo", dtype="float16"))
    assert not [outcome.error for outcome in outcomes if outcome.error]
    assert {open_zoo(tmp_path / "zoo").metadata(key).dtype for key in open_zoo(tmp_path / "zoo").keys()} == {"float16"}
