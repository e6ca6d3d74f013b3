"""`heldout export` of archives by address, and `heldout archive inspect`, as the command line gives them."""

import json
from importlib import resources

import numpy as np
import pytest

from heldout_torch import load_run
from heldout_torch.archives.build_index import build_index
from heldout_torch.cli import main
from heldout_torch.experiments import Archive, known_experiments
from tests.archives.test_unforeseen import EXTRA, add_variables, run_folder
from tests.helpers.archives import EXPERIMENT, contents, multiply, pack
from tests.helpers.scripted import Script, serving
from tests.helpers.server import Server


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of 30 runs in order, one of which has variables that nobody knows."""
    folder = tmp_path_factory.mktemp("archive")
    tree = multiply(folder / "tree", 30)
    add_variables(run_folder(tree, 1), EXTRA)
    return pack(tree, folder / "runs.tar.gz", seed=None)


def test_a_url_is_read_in_one_pass_and_the_same_is_skipped_next_time(archive, tmp_path, capsys):
    zoo = str(tmp_path / "zoo")
    main(["export", str(archive), "--zoo", str(tmp_path / "local"), "--ignore", "model/ema/*"])
    with serving(Script(archive.read_bytes(), {"cut": 200_000})) as url:
        assert main(["export", url, "--zoo", zoo, "--ignore", "model/ema/*"]) == 0
        assert main(["export", url, "--zoo", zoo, "--ignore", "model/ema/*"]) == 0
    out, err = capsys.readouterr()
    assert "exported 30 runs" in out
    assert "skipped 30 already there" in out
    assert f"reading {url}, {archive.stat().st_size:,} bytes" in err
    assert "on from byte" in err
    assert contents(tmp_path / "zoo") == contents(tmp_path / "local")


def test_unknown_variables_fail_one_run_with_the_way_on(archive, tmp_path, capsys):
    assert main(["export", str(archive), "--zoo", str(tmp_path / "zoo")]) == 1
    err = capsys.readouterr().err
    assert f"error: run {EXPERIMENT}/0.7/1: " in err
    assert "--ignore 'model/ema/*'" in err
    assert main(["export", str(archive), "--zoo", str(tmp_path / "zoo"), "--ignore", "model/ema/*"]) == 0
    assert load_run(EXPERIMENT, 0.7, 1, tmp_path / "zoo").metadata.ignored == ["model/ema/*"]


def test_chosen_runs_end_the_reading_and_it_says_so(archive, tmp_path, capsys):
    chosen = ["--experiment", EXPERIMENT, "--subset-ratio", "0.7", "--runs", "0,10"]
    with serving(Script(archive.read_bytes())) as url:
        assert main(["export", url, "--zoo", str(tmp_path / "zoo"), *chosen]) == 0
    assert "all selected runs were read" in capsys.readouterr().err
    record = json.loads((tmp_path / "zoo" / EXPERIMENT / "archive.json").read_text())
    assert (record["md5"], record["verified"]) == (None, None)


def test_chosen_runs_of_an_experiment_by_its_name_end_the_reading_too(archive, tmp_path, monkeypatch, capsys):
    known = known_experiments()
    with serving(Script(archive.read_bytes())) as url:
        there = {**vars(known[EXPERIMENT]), "archive": Archive(url)}
        monkeypatch.setitem(known, EXPERIMENT, known[EXPERIMENT].__class__(**there))
        monkeypatch.setattr("heldout_torch.cli.export.sample_zoo", lambda: tmp_path / "nothing is bundled")
        chosen = ["--subset-ratio", "0.7", "--runs", "0,10"]
        assert main(["export", EXPERIMENT, "--zoo", str(tmp_path / "zoo"), *chosen]) == 0
    assert "all selected runs were read" in capsys.readouterr().err


def test_chosen_runs_of_an_indexed_archive_cost_only_themselves(archive, tmp_path):
    build_index(archive, spacing=2**18)
    with Server(archive.parent).running() as server:
        url = f"{server.url}/{archive.name}"
        assert main(["export", url, "--zoo", str(tmp_path / "zoo"), "--runs", "3"]) == 0
        assert main(["export", url, "--zoo", str(tmp_path / "gone"), "--runs", "99"]) == 1
    assert load_run(EXPERIMENT, 0.7, 3, tmp_path / "zoo").metadata.run == 3
    assert not (tmp_path / "gone").exists()


def test_a_published_archive_goes_by_its_experiments_name_unless_a_path_has_it(archive, tmp_path, monkeypatch, capsys):
    with serving(Script(archive.read_bytes())) as url:
        known = known_experiments()
        monkeypatch.setitem(known, "cifar10-inception", known["cifar10-inception"].__class__(
            **{**vars(known["cifar10-inception"]), "archive": Archive(url)}
        ))  # fmt: skip
        main(["export", "cifar10-inception", "--zoo", str(tmp_path / "zoo"), "--ignore", "model/ema/*"])
        assert f"reading {url}" in capsys.readouterr().err
        monkeypatch.chdir(tmp_path)
        multiply(tmp_path / "tree", 2)
        (tmp_path / "tree").rename(tmp_path / "cifar10-inception")
        assert main(["export", "cifar10-inception", "--zoo", str(tmp_path / "zoo2")]) == 0
        assert "reading" not in capsys.readouterr().err


def test_inspect_says_what_an_export_would_meet(archive, capsys):
    assert main(["archive", "inspect", str(archive)]) == 1
    out = capsys.readouterr().out
    assert f"30  {EXPERIMENT}/0.7/#/aux_arrays.npz" in out
    assert "model/ema/decay" in out
    assert "--ignore 'model/ema/*'" in out
    assert main(["archive", "inspect", str(archive), "--ignore", "model/ema/*", "--bytes", "1M"]) == 0
    assert "an export would convert all runs like these" in capsys.readouterr().out


def test_inspect_is_told_as_json_too(archive, capsys):
    assert main(["--json", "archive", "inspect", str(archive), "--ignore", "model/ema/*"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert facts["ended"] is True
    assert facts["runs"] == {"digits-mlp-tf/0.7": sum(facts["runs"].values())}
    assert facts["converted"][0].startswith("digits-mlp-tf/0.7/")
    assert facts["problems"] == {}
    assert set(facts["unknown"]) == {"model/ema/decay", "model/ema/w"}


def test_inspect_by_address_verifies_what_it_converted(archive, capsys):
    data = ["--data", str(resources.files("heldout_torch.data") / "digits.npz")]
    with serving(Script(archive.read_bytes())) as url:
        command = ["archive", "inspect", url, "--bytes", "200k", "--ignore", "model/ema/*"]
        assert main([*command, *data]) == 0
    out = capsys.readouterr().out
    assert "read 200,000 bytes, its beginning" in out
    assert "converted run" in out
    assert f"run {EXPERIMENT}/0.7/0: 1797 out of 1797 predictions match, 0 ties" in out


def test_inspect_finds_predictions_that_do_not_match(archive, tmp_path, capsys):
    with np.load(resources.files("heldout_torch.data") / "digits.npz") as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    (label,) = [name for name in changed if name.startswith("train") and "label" in name]
    changed[label] = (changed[label] + 1) % 10
    np.savez(tmp_path / "wrong.npz", **changed)
    command = ["archive", "inspect", str(archive), "--ignore", "model/ema/*", "--data", str(tmp_path / "wrong.npz")]
    assert main(command) == 1
    assert "out of 1797 predictions match" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0", "x", "-1", "2.5G", "1e9", "G"])
def test_a_wrong_number_of_bytes_is_wrong_usage(archive, text):
    with pytest.raises(SystemExit) as stop:
        main(["archive", "inspect", str(archive), "--bytes", text])
    assert stop.value.code == 2


def test_what_is_no_archive_is_one_line(tmp_path, capsys):
    (tmp_path / "page.tar.gz").write_bytes(b"<html>sign in</html>")
    assert main(["archive", "inspect", str(tmp_path / "page.tar.gz")]) == 1
    assert "is a web page or a message saved" in capsys.readouterr().out
    assert main(["archive", "inspect", str(tmp_path / "absent.tar.gz")]) == 1
    assert main(["export", str(tmp_path / "page.tar.gz"), "--zoo", str(tmp_path / "zoo")]) == 1
    err = capsys.readouterr().err
    assert "absent.tar.gz: cannot be read" in err
    assert "page.tar.gz: is a web page or a message saved" in err
