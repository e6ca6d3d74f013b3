"""`heldout zoo`: index, check, list, pull and push, as the command line gives them."""

import json

import pytest

from heldout_torch.cli import main
from heldout_torch.storage.urls import write_file
from heldout_torch.zoo.cache import cache_folder
from tests.helpers.archives import EXPERIMENT, contents, multiply
from tests.helpers.server import Server
from tests.helpers.zoos import export


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    export(multiply(tmp_path / "tree", 6), tmp_path / "zoo")
    assert main(["zoo", "index", str(tmp_path / "zoo")]) == 0
    return tmp_path / "zoo"


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_check_is_0_for_a_good_zoo_and_1_for_a_bad_one(zoo, capsys):
    assert main(["zoo", "check", str(zoo)]) == 0
    assert lines(capsys)[-1] == f"checked 6 runs of {zoo}, 0 wrong"
    (zoo / EXPERIMENT / "0.7/2/model.safetensors").write_bytes(b"x")
    assert main(["zoo", "check", str(zoo)]) == 1
    assert "/zoo/digits-mlp-tf/0.7/2: model.safetensors not as recorded" in capsys.readouterr().err


def test_what_check_advises_mends_the_run(zoo, tmp_path, capsys):
    """Used to advise "export or fetch the run again", which skips a run that is there."""
    for name in ("model.safetensors", "aux_arrays.npz"):
        (zoo / EXPERIMENT / "0.7/2" / name).write_bytes(b"x")
        again = ["export", str(tmp_path / "tree"), "--zoo", str(zoo), "--runs", "2"]
        assert main(again) == 0
        assert main(["zoo", "check", str(zoo)]) == 1
        assert "export the run again with --overwrite" in capsys.readouterr().err
        assert main([*again, "--overwrite"]) == 0
        assert main(["zoo", "check", str(zoo)]) == 0


def test_what_check_advises_mends_a_run_in_a_bucket(zoo, bucket, capsys):
    assert main(["zoo", "push", str(zoo), bucket, "--runs", "1-2"]) == 0
    write_file(f"{bucket}/{EXPERIMENT}/0.7/2/model.safetensors", b"x")
    assert main(["zoo", "check", bucket]) == 1
    assert "export the run again with --overwrite" in capsys.readouterr().err
    assert main(["export", str(zoo), "--zoo", bucket, "--runs", "2", "--overwrite"]) == 0
    assert main(["zoo", "check", bucket]) == 0


def test_an_experiment_as_a_bare_word_is_told_its_option(zoo, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["zoo", "list", str(zoo), EXPERIMENT])
    assert stop.value.code == 2
    assert f"unrecognized arguments: {EXPERIMENT}; an experiment is named by --experiment {EXPERIMENT}" in (
        capsys.readouterr().err
    )


def test_a_list_where_one_value_is_expected_is_told_so(tmp_path, capsys):
    words = ["stats", "memorization", "ZOO", "--experiment", EXPERIMENT, "--out", str(tmp_path / "m.npz")]
    for ratios in ("--subset-ratio 0.7 0.5", "--subset-ratio=0.7 0.7", "--subset-ratio 0.7 0.5 0.6"):
        with pytest.raises(SystemExit):
            main([*words, *ratios.split()])
        assert capsys.readouterr().err.endswith("; --subset-ratio takes one value here\n")
    with pytest.raises(SystemExit):
        main(["zoo", "list", "ZOO", "--runs", "0-3", "digits"])
    assert capsys.readouterr().err.endswith("digits; an experiment is named by --experiment digits\n")


def test_list_filters_by_ratio_run_and_accuracy(zoo, capsys):
    def listed(*options):
        capsys.readouterr()
        assert main(["zoo", "list", str(zoo), *options]) == 0
        return [line.split("\t") for line in lines(capsys)[1:]]

    rows = listed()
    assert [row[0] for row in rows] == [f"{EXPERIMENT}/0.7/{run}" for run in range(6)]
    assert [row[0] for row in listed("--runs", "1-2,5")] == [rows[i][0] for i in (1, 2, 5)]
    for options in (["--subset-ratio", "0.1"], ["--experiment", "other"], ["--runs", "7"]):
        assert main(["zoo", "list", str(zoo), *options]) == 1
        assert capsys.readouterr().err == f"error: {zoo}: holds no such run; it has digits-mlp-tf/0.7 runs 0-5\n"
    best = sorted(float(row[4]) for row in rows)
    assert [row for row in rows if float(row[4]) >= best[3]] == listed("--min-accuracy", str(best[3] - 0.0001))
    assert 0 < len(listed("--min-accuracy", str(best[3]))) < 6


def test_a_damaged_run_is_told_and_the_others_are_listed_indexed_and_pushed(zoo, tmp_path, capsys):
    (zoo / EXPERIMENT / "0.7/2/run.json").write_bytes(b"{broken")
    for words, said in (
        (["list", zoo], "digits-mlp-tf/0.7/5\t"),
        (["push", zoo, tmp_path / "there"], "copied 5 runs to"),
        (["index", zoo], "indexed 6 runs in the manifest"),
    ):
        capsys.readouterr()
        assert main(["zoo", *map(str, words)]) == 1
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].startswith(said)
        assert "0.7/2/run.json: is not a readable record" in err
        assert err.count("error: ") == 1


def test_a_list_in_json_is_runs_alone_and_one_of_none_says_so(zoo, capsys):
    capsys.readouterr()
    assert main(["zoo", "list", str(zoo), "--json"]) == 0
    assert [json.loads(line)["run"] for line in lines(capsys)] == list(range(6))
    assert main(["zoo", "list", str(zoo), "--min-accuracy", "1"]) == 1
    assert capsys.readouterr().err == f"error: {zoo}: none of 6 runs has 1 or more on the test set\n"


def test_a_summary_tells_one_run_as_one(zoo, tmp_path, capsys):
    """There were "1 runs"."""
    new, one = str(tmp_path / "new"), ["--runs", "0"]
    for words, line in (
        (["zoo", "push", zoo, new, *one], f"copied 1 run to {new}, 0 already there, 0 failed"),
        (["zoo", "index", new], f"indexed 1 run in the manifest {new}/manifest.json, 0 damaged"),
        (["zoo", "check", new], f"checked 1 run of {new}, 0 wrong"),
        (["export", zoo, "--zoo", f"{new}er", *one], f"exported 1 run to {new}er, skipped 0 already there, 0 failed"),
        (["verify", zoo, *one], "1 run verified, 0 with mismatches, 0 failed"),
        (["stats", "accuracy", zoo, *one], "0.7: 1 run, train "),
        (["evaluate", zoo, "--out", f"{new}est", *one], f"1 run evaluated into {new}est, 0 already there, 0 failed"),
    ):
        assert main([*map(str, words)]) == 0
        assert lines(capsys)[-1].startswith(line)


def test_push_then_pull(zoo, tmp_path, capsys):
    served = tmp_path / "served"
    assert main(["zoo", "push", str(zoo), str(served)]) == 0
    assert lines(capsys)[-1] == f"copied 6 runs to {served}, 0 already there, 0 failed"
    with Server(served).running() as server:
        assert main(["zoo", "list", server.url]) == 0
        assert len(lines(capsys)) == 7
        assert main(["zoo", "pull", server.url, "--experiment", EXPERIMENT, "--runs", "0-3"]) == 0
        assert "4 runs in" in lines(capsys)[-1]
        assert len(contents(cache_folder(server.url))) == 12
        server.faults[f"{EXPERIMENT}/0.7/5/model.safetensors"] = ["wrong"] * 9
        assert main(["zoo", "pull", server.url]) == 1
        assert "error: run digits-mlp-tf/0.7/5: http" in capsys.readouterr().err
        server.faults.clear()
        assert main(["zoo", "pull", server.url]) == 0
    assert contents(cache_folder(server.url)) == contents(zoo)
    # And with the server gone, the cache is listed when offline.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELDOUT_TORCH_OFFLINE", "1")
        assert main(["zoo", "list", server.url]) == 0


@pytest.mark.parametrize("action", ["index", "check", "list"])
def test_what_is_no_zoo_is_one_line(action, tmp_path, capsys):
    (tmp_path / "letter").touch()
    assert main(["zoo", action, str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_an_empty_zoo_holds_no_runs(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for action in ("list", "check"):
        assert main(["zoo", action, str(tmp_path / "empty")]) == 1
        assert capsys.readouterr().err == f"error: {tmp_path}/empty: holds no runs\n"


def test_an_empty_place_is_no_place(capsys):
    assert main(["zoo", "list", ""]) == 1  # what an unset variable of a shell leaves
    assert capsys.readouterr().err == "error: '' is not a path\n"
