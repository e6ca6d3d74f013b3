"""Every verb on every place that holds runs: equal results, or one line and nothing written."""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heldout_torch import list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.stats import RunTable
from heldout_torch.storage.listing import list_files
from heldout_torch.storage.urls import read_file
from tests.helpers.archives import multiply, pack
from tests.helpers.server import Server
from tests.helpers.zoos import export

EXPERIMENT, RATIO, RUNS = "digits-mlp-tf", 0.7, 4
PLACES = ["folder", "web", "s3", "tree", "archive", "web archive"]
WRITABLE = ["folder", "s3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same runs as a tree, a zoo's folder and an indexed archive."""
    root = tmp_path_factory.mktemp("places")
    multiply(root / "tree", RUNS)
    assert all(outcome.error is None for outcome in export(root / "tree", root / "zoo"))
    (root / "archive").mkdir()
    pack(root / "tree", root / "archive" / "runs.tar.gz")
    assert main(["archive", "index", str(root / "archive" / "runs.tar.gz"), "--quiet"]) == 0
    return root


@pytest.fixture
def open_place(made, bucket):
    """What gives the location of a place of these runs by its kind."""
    with ExitStack() as stack:

        def location(kind):
            if kind == "web":
                return stack.enter_context(Server(made / "zoo").running()).url
            if kind == "web archive":
                return stack.enter_context(Server(made / "archive").running()).url + "/runs.tar.gz"
            if kind == "s3":
                assert main(["zoo", "push", str(made / "zoo"), f"{bucket}/zoo", "--quiet"]) == 0
                return f"{bucket}/zoo"
            return str(made / {"folder": "zoo", "tree": "tree", "archive": "archive/runs.tar.gz"}[kind])

        yield location


@pytest.fixture
def place(open_place, request):
    return open_place(request.param)


def files_of(location):
    """Names and digests of the runs' files of a zoo, wherever it is; the manifest tells of times."""
    names = sorted(name for name in list_files(location) if name.count("/") == 3 and "/evaluations/" not in name)
    return {name: hashlib.sha256(read_file(f"{location}/{name}")).hexdigest() for name in names}


def snapshot(*folders):
    return {
        str(path): path.read_bytes() for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


def arrays(path):
    """What a file of arrays holds; a NaN is one here."""
    with open(path, "rb") as file:
        found = np.load(file)
        named = {"": found} if isinstance(found, np.ndarray) else dict(found)
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in named.items()}


def command(*words):
    assert main([*map(str, words), "--quiet"]) == 0


def told(capsys, *words):
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# What is read


def from_load_run(place, out, capsys):
    run = load_run(EXPERIMENT, RATIO, 2, place)
    weights = {name: tensor.numpy().tolist() for name, tensor in run.model.state_dict().items()}
    return weights, {name: array.tolist() for name, array in vars(run.aux).items()}, replace(run.metadata, archive=None)


def from_list_runs(place, out, capsys):
    return list_runs(place)


def from_run_table(place, out, capsys):
    table = RunTable.from_zoo(place, EXPERIMENT, RATIO)
    table.save(out)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def from_verify(place, out, capsys):
    return told(capsys, "verify", place, "--results", out)


def from_evaluate(place, out, capsys):
    command("evaluate", place, "--out", out, "--runs", "0-1")
    return files_of(str(out))


def from_evaluate_outputs(place, out, capsys):
    command("evaluate", place, "--out", out, "--runs", "0-1", "--save", "outputs")
    folder = out / EXPERIMENT / repr(RATIO) / "outputs"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def from_statistic(name, *options):
    def run(place, out, capsys):
        path = out.with_suffix(".npz")
        command("stats", name, place, "--experiment", EXPERIMENT, *options, "--out", path)
        return arrays(path)

    return run


def from_report(place, out, capsys):
    command("report", place, "--experiment", EXPERIMENT, "--out", out)
    page = (out / "index.html").read_text()
    return page.replace(place, "PLACE").replace(str(out), "OUT")


def from_check(place, out, capsys):
    (summary,) = told(capsys, "zoo", "check", place)
    return summary["checked"], summary["wrong"]


def from_list(place, out, capsys):
    # The files of a checkpoint are others than those of a zoo.
    return [{**row, "bytes": None} for row in told(capsys, "zoo", "list", place, "--runs", "1-9")]


def from_accuracy(place, out, capsys):
    return told(capsys, "stats", "accuracy", place, "--experiment", EXPERIMENT)


def from_export(place, out, capsys):
    command("export", place, "--zoo", out, "--runs", "0-2")
    return files_of(str(out))


def from_push(place, out, capsys):
    command("zoo", "push", place, out)
    return files_of(str(out))


READERS = {
    "load_run": from_load_run,
    "list_runs": from_list_runs,
    "RunTable.from_zoo": from_run_table,
    "verify": from_verify,
    "evaluate": from_evaluate,
    "evaluate --save outputs": from_evaluate_outputs,
    "stats memorization": from_statistic("memorization", "--subset-ratio", RATIO),
    "stats consistency": from_statistic("consistency"),
    "stats influence": from_statistic("influence", "--subset-ratio", RATIO),
    "stats pairs": from_statistic("pairs", "--subset-ratio", RATIO),
    "stats keep": from_statistic("keep", "--fraction", "0.5", "--by", "consistency", "--empty-zero"),
    "report": from_report,
    "zoo check": from_check,
    "zoo list": from_list,
    "stats accuracy": from_accuracy,
    "export": from_export,
    "zoo push": from_push,
}


@pytest.fixture(scope="module")
def expected():
    """Results by reader, of the folder."""
    return {}


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_read_is_the_same_everywhere(reader, place, made, tmp_path, capsys, expected):
    if reader not in expected:
        expected[reader] = READERS[reader](str(made / "zoo"), tmp_path / "expected", capsys)
    assert READERS[reader](place, tmp_path / "out", capsys) == expected[reader]
    assert expected[reader]


@pytest.mark.parametrize("kind", PLACES)
def test_runs_are_pulled_from_where_they_are_far_away(kind, open_place, capsys):
    place = open_place(kind)
    if kind in ("web", "s3"):
        (summary,) = told(capsys, "zoo", "pull", place, "--runs", "1-2")
        assert (summary["fetched"], summary["failed"]) == (2, 0)
        assert len(list(Path(summary["folder"]).rglob("model.safetensors"))) == 2
    else:
        refused(capsys, "zoo", "pull", place)


# What is written


def refused(capsys, *words):
    """Check that a command ends with one line and status 1."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    return line


WRITERS = {
    "export": ["export", "ZOO", "--zoo", "TARGET"],
    "evaluate": ["evaluate", "ZOO", "--out", "TARGET", "--runs", "0-1"],
    "train": [
        "train", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0-1", "--recipe", "RECIPE", "--zoo", "TARGET",
    ],
    "zoo push": ["zoo", "push", "ZOO", "TARGET"],
}  # fmt: skip


def words_of(writer, made, tmp_path, target):
    recipe = tmp_path / "quick.toml"
    recipe.write_text("epochs = 2\nbatch_size = 64\nlearning_rate = 0.1\n")
    names = {"ZOO": made / "zoo", "TARGET": target, "RECIPE": recipe}
    return [str(names.get(word, word)) for word in WRITERS[writer]]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_bucket_is_given_the_bytes_that_a_folder_is(writer, made, bucket, tmp_path):
    command(*words_of(writer, made, tmp_path, tmp_path / "target"))
    command(*words_of(writer, made, tmp_path, f"{bucket}/target"))
    assert files_of(f"{bucket}/target") == files_of(str(tmp_path / "target")) != {}
    assert list_runs(f"{bucket}/target") == list_runs(tmp_path / "target") != []


@pytest.mark.parametrize("kind", [kind for kind in PLACES if kind not in WRITABLE])
@pytest.mark.parametrize("writer", [*WRITERS, "zoo index"])
def test_what_cannot_be_written_is_one_line_and_nothing_is(
    writer, kind, made, open_place, tmp_path, monkeypatch, capsys
):
    target = open_place(kind)
    words = ["zoo", "index", target] if writer == "zoo index" else words_of(writer, made, tmp_path, target)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = snapshot(made, tmp_path)
    refused(capsys, *words)
    assert snapshot(made, tmp_path) == before


@pytest.mark.parametrize("kind", WRITABLE)
def test_an_index_is_written_where_it_can_be(kind, open_place, capsys):
    assert told(capsys, "zoo", "index", open_place(kind))[0]["indexed"] == RUNS


# The table of issue 11, and files


def test_what_was_evaluated_is_no_obstacle_to_the_model(made, tmp_path, capsys):
    """Row 1: runs with aux arrays only were taken for whole ones, and no model was written."""
    command("evaluate", made / "tree", "--out", tmp_path / "out", "--runs", "0-1")
    (summary,) = told(capsys, "export", made / "tree", "--zoo", tmp_path / "out", "--runs", "0-1")
    assert (summary["exported"], summary["skipped"]) == (2, 0)
    assert load_run(EXPERIMENT, RATIO, 1, tmp_path / "out").model


FILES = {
    "stats --out": ["stats", "memorization", "ZOO", "--experiment", EXPERIMENT, "--subset-ratio", "0.7", "--out", "X"],
    "stats --table": [
        "stats", "memorization", "ZOO", "--experiment", EXPERIMENT, "--subset-ratio", "0.7", "--out", "OUT.npz",
        "--table", "X",
    ],
    "report --out": ["report", "ZOO", "--experiment", EXPERIMENT, "--out", "X"],
    "verify --results": ["verify", "ZOO", "--results", "X"],
    "experiment --out": ["experiment", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0-1", "--zoo", "OUT",
                         "--out", "X"],
    "archive index --out": ["archive", "index", "ZOO", "--out", "X"],
}  # fmt: skip


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
def test_files_are_local(words, made, bucket, tmp_path, monkeypatch, capsys):
    """Row 2: a URL became a folder `s3:/bucket` without a word."""
    monkeypatch.chdir(tmp_path)
    names = {"ZOO": made / "zoo", "X": f"{bucket}/x.npz"}
    assert "is a URL" in refused(capsys, *[names.get(word, word) for word in words])
    assert snapshot(tmp_path) == {}
    assert list_files(bucket) == {}


FOLDERS = {
    "stats --table": ["--table", "X", "stats", "memorization", "ZOO", "--out", "OUT.npz"],
    "report --out": ["--out", "X", "report", "ZOO"],
    "experiment --out": ["--out", "X", "experiment", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0", "--zoo",
                         "OUT"],
    "train --zoo": ["--zoo", "X", "train", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0"],
    "export --zoo": ["--zoo", "X", "export", "ZOO"],
    "evaluate --out": ["--out", "X", "evaluate", "ZOO"],
    "zoo push": ["X", "zoo", "push", "ZOO"],
    "zoo index": ["X", "zoo", "index"],
}  # fmt: skip


@pytest.mark.parametrize("name", ["x.npz", "there/r.html", "X.CSV", "t.parquet"])
@pytest.mark.parametrize("words", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_is_not_made_under_the_name_of_a_file(words, name, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"ZOO": made / "zoo", "X": name}
    place = words.index("X") + 1
    words = [names.get(word, word) for word in (*words[place:], *words[:place])]
    assert f"{name}: is the name of a file, but a folder is written" in refused(capsys, *words)
    assert snapshot(tmp_path) == {}
    (tmp_path / name).mkdir(parents=True)  # by somebody who means it
    main([*map(str, words), "--quiet"])
    assert "is the name of a file" not in capsys.readouterr().err


NEW_FILES = {
    "stats memorization": ["stats", "memorization", "ZOO", "--empty-zero", "--out", "new/one/x.npz"],
    "stats keep": ["stats", "keep", "ZOO", "--by", "memorization", "--fraction", "0.5", "--empty-zero", "--out",
                   "new/one/x.csv"],
    "stats accuracy": ["stats", "accuracy", "ZOO", "--out", "new/one/x.csv"],
    "verify --results": ["verify", "ZOO", "--runs", "0", "--results", "new/one/x.jsonl"],
    "archive index --out": ["archive", "index", "ARCHIVE", "--out", "new/one/x.seek"],
    "declare --out": ["declare", "x", "--dataset", "digits", "--architecture", "mlp", "--config", '{"widths": [4]}',
                      "--out", "new/one/x.toml"],
}  # fmt: skip


@pytest.mark.parametrize("words", NEW_FILES.values(), ids=NEW_FILES)
def test_folders_on_the_way_to_a_file_are_made(words, made, tmp_path, monkeypatch):
    """One rule for all verbs; docs/formats.md says it."""
    monkeypatch.chdir(tmp_path)
    names = {"ZOO": made / "zoo", "ARCHIVE": made / "archive" / "runs.tar.gz"}
    command(*[names.get(word, word) for word in words])
    assert [path.name for path in (tmp_path / "new").rglob("*") if path.is_file()] == [Path(words[-1]).name]


@pytest.mark.parametrize("words", [FILES["stats --out"], FILES["verify --results"]])
def test_a_folder_is_no_file_and_that_is_seen_before_the_work(words, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"ZOO": made / "zoo", "X": "."}
    monkeypatch.setattr("heldout_torch.zoo.folder.FolderZoo.keys", None)  # no work is begun
    assert refused(capsys, *[names.get(word, word) for word in words]).startswith("error: .: ")


def test_verify_leaves_nothing_in_the_current_folder(made, tmp_path, monkeypatch, capsys):
    """Row 7."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command("verify", made / "zoo", "--runs", 0)
    assert snapshot(tmp_path / "here") == {}
    assert [row.get("known") for row in told(capsys, "verify", made / "zoo", "--runs", 0)] == [True, None]
