"""A zoo on the Hugging Face Hub: few commits, resumed, waits that are asked for, and no word of the token.

Also of storage/hub.py, zoo/card.py.
"""

import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")  # the extra `hub`

import heldout_torch.zoo.hub as zoo_hub
from heldout_torch import ZooError, list_runs, load_run
from heldout_torch.cli import main
from heldout_torch.experiments import Experiment
from heldout_torch.zoo.cache import cache_folder
from heldout_torch.zoo.card import card
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.manifest import Manifest
from heldout_torch.zoo.open import open_writable, open_zoo
from tests.helpers.archives import EXPERIMENT, contents, multiply
from tests.helpers.hub import TOKEN, Hub
from tests.helpers.zoos import export, files_below

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    export(multiply(root / "tree", 6), root / "zoo")
    return root / "zoo"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    with Hub().serving(tmp_path / "home", monkeypatch) as serving:
        yield serving


def push(zoo, hub, *options):
    return main(["zoo", "push", str(zoo), hub.location, *options])


def test_what_is_pushed_is_pulled(zoo, hub, capsys):
    assert push(zoo, hub) == 0
    assert f"copied 6 runs to {hub.location}, 0 already there, 0 failed" in capsys.readouterr().out
    assert {name: data for name, data in hub.files.items() if name.count("/") == 3} == contents(zoo)
    assert main(["zoo", "pull", hub.location, "--quiet"]) == 0
    assert contents(cache_folder(hub.location)) == contents(zoo)
    assert hub.leaks == []


def test_a_batch_is_one_commit_with_its_records_and_the_manifest_comes_last(zoo, hub, monkeypatch):
    monkeypatch.setattr(zoo_hub, "RUNS", 4)
    assert push(zoo, hub, "--quiet") == 0
    assert [len(commit) for commit in hub.commits] == [12, 6, 2]
    for commit in hub.commits[:2]:
        folders = {path.rpartition("/")[0] for path in commit}
        assert sorted(commit) == sorted(
            f"{folder}/{name}" for folder in folders for name in ("aux_arrays.npz", "model.safetensors", "run.json")
        )
    assert hub.commits[2] == ["README.md", "manifest.json"]
    assert hub.requests["resolve"] < 10  # the records that were written are not fetched for the manifest
    # A second time nothing is sent.
    before = len(hub.commits)
    assert push(zoo, hub, "--quiet") == 0
    assert len(hub.commits) == before


def test_large_files_go_ahead_of_the_commit_when_many_bytes_are_held(zoo, hub, monkeypatch):
    monkeypatch.setattr(zoo_hub, "HELD", 1)
    held = []
    add = zoo_hub.hub.addition

    def note(*arguments):
        held.append(add(*arguments))
        return held[-1]

    monkeypatch.setattr(zoo_hub.hub, "addition", note)
    assert push(zoo, hub, "--quiet") == 0
    assert len(hub.commits) == 2
    large = [operation for operation in held if operation.path_in_repo.endswith((".npz", ".safetensors"))]
    assert len(large) == 12
    assert all(operation.path_or_fileobj == b"" for operation in large)
    assert {name: data for name, data in hub.files.items() if name.count("/") == 3} == contents(zoo)


def test_readers_take_it(zoo, hub, monkeypatch, tmp_path):
    assert push(zoo, hub, "--quiet") == 0
    monkeypatch.delenv("HF_TOKEN")
    before = hub.requests["tree"]
    assert list_runs(hub.location) == list_runs(zoo)
    run = load_run(EXPERIMENT, 0.7, 2, zoo=hub.location)
    assert run.metadata == load_run(EXPERIMENT, 0.7, 2, zoo=zoo).metadata
    for verb in (["zoo", "check"], ["zoo", "list"], ["verify", "--device", "cpu"]):
        words = [*verb[: 2 if verb[0] == "zoo" else 1], hub.location, *verb[2 if verb[0] == "zoo" else 1 :]]
        assert main([*words, "--quiet"]) == 0, words
    assert main(["export", hub.location, "--zoo", str(tmp_path / "back"), "--quiet"]) == 0
    assert contents(tmp_path / "back") == contents(zoo)
    assert hub.requests["tree"] == before  # reading needs neither listing nor package nor token
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    hub.refused = 500
    assert load_run(EXPERIMENT, 0.7, 2, zoo=hub.location).key.run == 2


def test_a_private_zoo_is_read_with_the_token_that_no_other_server_sees(zoo, hub, monkeypatch, capsys):
    assert push(zoo, hub, "--quiet") == 0
    hub.private = True
    assert load_run(EXPERIMENT, 0.7, 2, zoo=hub.location).key.run == 2
    assert hub.requests["large"] > 12
    assert hub.leaks == []
    monkeypatch.delenv("HF_TOKEN")
    assert main(["zoo", "check", hub.location]) == 1
    assert re.search(r"error: hf://\S+: access is refused \(401 .*set HF_TOKEN", capsys.readouterr().err)


def test_a_writer_sees_what_is_committed_and_asks_for_the_rest(zoo, hub):
    assert push(zoo, hub, "--runs", "0-2", "--quiet") == 0
    target = open_writable(hub.location)
    keys = list_runs(zoo)
    with target:
        assert target.missing(keys) == keys[3:]
        assert target.put_files(open_zoo(zoo).files(keys[0])) is False
        assert target.put_files(open_zoo(zoo).files(keys[4])) is True
        assert target.missing(keys) == [keys[3], keys[5]]
        assert len(hub.commits) == 2
    assert open_zoo(hub.location).keys() == [*keys[:3], keys[4]]
    assert pickle.loads(pickle.dumps(target)).location == hub.location


def test_aux_arrays_come_to_a_model_and_a_model_to_aux_arrays(zoo, hub):
    keys, source = list_runs(zoo), open_zoo(zoo)
    with open_writable(hub.location) as target:
        for key in keys[:2]:
            target.put(source.metadata(key), None, source.aux(key))
        assert target.missing(keys[:2]) == keys[:2]
        assert target.put_files(source.files(keys[0]))  # of the same batch
    reader = open_zoo(hub.location)
    assert reader.state(keys[0]).keys() == source.state(keys[0]).keys()
    with pytest.raises(ZooError, match="has only aux arrays"):
        reader.state(keys[1])


def test_whoever_stops_in_the_middle_leaves_what_was_put_and_a_manifest(zoo, hub):
    keys, source = list_runs(zoo), open_zoo(zoo)

    def stop():
        with open_writable(hub.location) as target:
            target.put_files(source.files(keys[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert open_zoo(hub.location).keys() == keys[:1]


def test_the_wait_that_is_asked_for_is_waited_and_told(zoo, hub, slept, caplog):
    hub.waits = [7, 1800]
    with caplog.at_level(logging.WARNING, "heldout_torch"):
        assert push(zoo, hub, "--quiet") == 0
    assert [wait for wait in slept if wait >= 5] == [7.0, 1800.0]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("heldout_torch")]
    assert f"{hub.location}: 429 too many commits; waiting 1800 seconds, then again" in told
    assert len(list_runs(hub.location)) == 6


def test_a_wait_of_more_than_an_hour_is_an_error_and_the_next_call_goes_on(zoo, hub, slept, capsys, monkeypatch):
    monkeypatch.setattr(zoo_hub, "RUNS", 2)
    hub.quota, hub.window = 1, 90000.0
    assert push(zoo, hub) == 1
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "and asks to wait 90000 seconds; call again later" in error
    assert not slept
    assert len(hub.commits) == 1
    assert hub.requests["commit"] == 2  # nobody asks again, not at the end either
    hub.quota = None
    assert push(zoo, hub) == 0
    assert "copied 4 runs" in capsys.readouterr().out
    sent = [path for commit in hub.commits for path in commit if path.count("/") == 3]
    assert len(sent) == len(set(sent)) == 18


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_down_is_asked_a_bounded_number_of_times(zoo, hub, slept, capsys, status):
    hub.refused = status
    assert push(zoo, hub) == 1
    assert "cannot be reached" in capsys.readouterr().err.splitlines()[-1]
    assert sum(slept) < 1000


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_token_is_one_line_without_it(zoo, hub, slept, capsys, caplog, status):
    hub.refused = status
    assert push(zoo, hub) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"error: {hub.location}: access is refused ({status} ")
    assert error.count("error:") == 1
    assert not slept
    assert TOKEN not in error + caplog.text


def test_the_token_is_in_no_file_and_no_message(zoo, hub, capfd, tmp_path, caplog):
    hub.waits = [0]
    assert push(zoo, hub) == 0
    assert main(["zoo", "pull", hub.location]) == 0
    said = capfd.readouterr()
    assert TOKEN not in said.out + said.err + caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert not [name for name, data in hub.files.items() if TOKEN.encode() in data]
    assert TOKEN.encode() not in pickle.dumps(open_zoo(hub.location))
    for secret in (TOKEN, "another/kind+of=token"):
        assert str(ZooError(f"Illegal header value 'Bearer {secret}'")) == "Illegal header value 'Bearer ...'"


def test_without_the_package_it_is_one_line_and_reading_works(zoo, hub, monkeypatch, capsys):
    assert push(zoo, hub, "--quiet") == 0
    capsys.readouterr()  # what that package itself warns of
    hub.private = True
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert push(zoo, hub) == 1
    assert capsys.readouterr().err == (
        f"error: {hub.location}: writing to the Hub needs huggingface_hub, which is not installed: "
        "pip install huggingface_hub\n"
    )
    assert len(list_runs(hub.location)) == 6


@pytest.mark.parametrize(
    "location", ["hf://someone/runs", "hf://datasets/someone", "hf://datasets/someone/runs/below", "hf://datasets/a/b@"]
)
def test_other_places_of_the_hub_are_one_line(zoo, hub, capsys, location):
    assert main(["zoo", "push", str(zoo), location]) == 1
    assert "expected hf://datasets/USER/NAME" in capsys.readouterr().err
    assert main(["zoo", "list", location]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("page", "named"),
    [("", ""), ("/", ""), ("/tree/main", "@main"), ("/tree/refs%2Fpr%2F1", "@refs%2Fpr%2F1")],
)
def test_the_address_of_a_page_is_answered_by_what_to_name(page, named):
    """A page has no manifest, which is what the error was about."""
    with pytest.raises(
        ZooError, match=f"is a page for browsers; name the data set as hf://datasets/someone/runs{named}$"
    ):
        list_runs(f"https://huggingface.co/datasets/someone/runs{page}")


def test_offline_nothing_is_written(zoo, hub, monkeypatch, capsys):
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    assert push(zoo, hub) == 1
    assert "HELDOUT_TORCH_OFFLINE forbids the use of the network" in capsys.readouterr().err
    assert not hub.requests


def test_the_card_says_what_is_there_and_a_persons_own_stays(zoo, hub):
    assert push(zoo, hub, "--runs", "0-3", "--quiet") == 0
    text = hub.files["README.md"].decode()
    assert text.startswith("---\nlicense: apache-2.0\n")
    (row,) = re.findall(r"^\| digits.*$", text, re.MULTILINE)
    assert row.startswith("| digits-mlp-tf | digits | mlp | 0.7 | 4 (0-3) | ")
    records = [open_zoo(zoo).record(key) for key in list_runs(zoo)[:4]]
    for part, cell in enumerate(row.split("|")[6:9]):
        assert float(cell) == pytest.approx(sum(record.accuracy[part] for record in records) / 4, abs=1e-4)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["run"].key == RunKey(EXPERIMENT, 0.7, 0)
    citation = (REPOSITORY / "CITATION.cff").read_text()
    for line in re.findall(r"title = {(.*)}", text):
        assert line in citation
    assert text.count("@inproceedings{") == 2
    assert "license: Apache-2.0" in citation
    assert push(zoo, hub, "--runs", "4", "--quiet") == 0
    assert "| 5 (0-4) |" in hub.files["README.md"].decode()
    hub.files["README.md"] = b"# My own"
    assert push(zoo, hub, "--quiet") == 0
    assert hub.files["README.md"] == b"# My own"
    assert len(open_zoo(hub.location).keys()) == 6


def test_names_on_the_card_are_only_names(zoo):
    key = list_runs(zoo)[0]
    source = open_zoo(zoo)
    name = "x](http://evil) | <script>`$(rm)`\n# *b*"
    experiment = replace(source.experiment(EXPERIMENT), dataset=name)
    assert isinstance(experiment, Experiment)
    text = card(Manifest({key: source.record(key)}), {EXPERIMENT: experiment}, "hf://datasets/a/b").decode()
    (row,) = [line for line in text.splitlines() if line.startswith("| digits")]
    assert row.count("|") == 9
    assert not {"<", "`", "[", "]", "*", "$"} & set(row)
    assert "script" in row


_PUSH = """
import sys
from heldout_torch.cli import main
sys.exit(main(["zoo", "push", sys.argv[1], sys.argv[2], "--quiet"]))
"""


@pytest.mark.slow
def test_two_thousand_runs_take_few_commits_and_go_on_after_a_kill(tmp_path, hub):
    outcomes = export(multiply(tmp_path / "tree", 2000), tmp_path / "zoo")
    assert len(outcomes) == 2000
    shutil.rmtree(tmp_path / "tree")
    hub.quota = 40
    command = [sys.executable, "-c", _PUSH, str(tmp_path / "zoo"), hub.location]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) as first:
        while len(hub.commits) < 4:
            assert first.poll() is None
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    assert 600 <= sum(name.endswith("run.json") for name in hub.files) < 2000
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True)
    sent = [path for commit in hub.commits for path in commit if path.count("/") == 3]
    assert len(sent) == len(set(sent)) == 6000  # what was committed is not sent again
    assert len(hub.commits) <= 40
    assert main(["zoo", "pull", hub.location, "--quiet"]) == 0
    assert contents(cache_folder(hub.location)) == contents(tmp_path / "zoo")
    assert files_below(tmp_path / "zoo").keys() <= hub.files.keys() | {"manifest.json"}
