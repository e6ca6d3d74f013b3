"""What several verbs understand by the same words.

Also of cli/output.py.
"""

import argparse
import re
import resource
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heldout_torch.cli import VERBS, main, verb_parser
from heldout_torch.cli.output import as_advised
from heldout_torch.data import load_digits
from heldout_torch.experiments import known_experiments
from heldout_torch.stats import save_indices
from heldout_torch.zoo import sample_zoo
from heldout_torch.zoo.keys import RunKey
from heldout_torch.zoo.open import open_writable
from tests.helpers.zoos import declare, export

EXPERIMENT = "digits-mlp-tf"


@pytest.fixture
def zoo(tmp_path):
    export(sample_zoo(), tmp_path / "zoo")
    return tmp_path / "zoo"


def error_of(capsys, *words):
    capsys.readouterr()
    assert main([*map(str, words)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def summary(capsys, *words):
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("runs", ["0-99999999999", "0-4294967295", "0-10000000"])
def test_a_list_of_too_many_runs_is_wrong_usage_and_costs_no_memory(runs, zoo, capsys):
    tracemalloc.start()
    with pytest.raises(SystemExit) as stop:
        main(["zoo", "list", str(zoo), "--runs", runs])
    assert stop.value.code == 2
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert re.search(r"is not a list of runs|more than 10000000 at once", capsys.readouterr().err)


def test_a_long_list_that_few_runs_fit_costs_no_memory(zoo, capsys):
    tracemalloc.start()
    assert main(["zoo", "list", str(zoo), "--runs", "2-9999999"]) == 0
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize("verb", [["verify", "ZOO"], ["evaluate", "ZOO", "--out", "OUT"], ["train", "digits-mlp"]])
def test_a_device_that_is_none_is_one_line_before_the_work(verb, zoo, tmp_path, capsys):
    """Of `verify` and `evaluate` it was a traceback."""
    more = ["--runs", 0, "--subset-ratio", 0.7, "--zoo", tmp_path / "new"] if verb[0] == "train" else []
    words = [{"ZOO": zoo, "OUT": tmp_path / "out"}.get(word, word) for word in verb]
    line = error_of(capsys, *words, *more, "--device", "cdua")
    assert line.startswith("error: device 'cdua' cannot be used here")
    assert line.endswith("; did you mean 'cuda'?")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_most_like_an_experiments_is_told_by_export(zoo, tmp_path, capsys):
    line = error_of(capsys, "export", "cifar10-inceptoin", "--zoo", tmp_path / "new")
    assert line.endswith("; did you mean 'cifar10-inception'?")
    assert "there is no such folder" in error_of(capsys, "export", tmp_path / "nothing", "--zoo", tmp_path / "new")


def test_names_that_the_zoo_declares_may_have_been_meant(zoo, tmp_path, capsys):
    declare(replace(known_experiments()[EXPERIMENT], name="shades"), zoo / "shades")
    words = ["--subset-ratio", "0.7", "--runs", "0", "--zoo", zoo]
    assert error_of(capsys, "train", "shaeds", *words).endswith("; did you mean 'shades'?")
    assert error_of(capsys, "report", zoo, "--experiment", "shaeds", "--out", tmp_path / "r").endswith("'shades'?")
    words = ["--subset-ratio", "0.7", "--out", tmp_path / "x.csv", "--labels", "cifar10-cscore"]
    line = error_of(capsys, "stats", "memorization", zoo, "--experiment", EXPERIMENT, *words)
    assert line.endswith("nor is it the name of a published one; did you mean 'cifar10-cscores'?")


def test_what_is_wrong_with_many_runs_is_told_once(zoo, tmp_path, capsys):
    assert main(["export", str(zoo), "--zoo", str(tmp_path / "half"), "--dtype", "bfloat16", "--quiet"]) == 0
    assert main(["verify", str(tmp_path / "half"), "--runs", "0-2", "--quiet"]) == 1
    first, *others = capsys.readouterr().err.splitlines()
    assert "run digits-mlp-tf/0.7/0: is stored as bfloat16" in first
    assert others == [f"error: run {EXPERIMENT}/0.7/{run}: the same as run {EXPERIMENT}/0.7/0" for run in (1, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--experiment", "digits-mlp-t"], "it has digits-mlp-tf/0.7 runs 0-5"),
        (["--runs", "50"], "it has digits-mlp-tf/0.7 runs 0-5"),
        (["--subset-ratio", "0.1"], "it has digits-mlp-tf/0.7 runs 0-5"),
        (["--min-accuracy", "0.999"], "none of 6 runs has 0.999 or more on the test set"),
    ],
)
def test_filters_that_match_nothing_say_what_is_there(options, message, zoo, capsys):
    """Used to print a header and end with 0."""
    assert message in error_of(capsys, "zoo", "list", zoo, *options)
    assert capsys.readouterr().out == ""


def test_the_environment_names_the_zoo_that_is_read(zoo, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["zoo", "list"])
    assert stop.value.code == 2
    monkeypatch.setenv("HELDOUT_TORCH_ZOO", str(zoo))
    capsys.readouterr()
    assert summary(capsys, "zoo", "check") == f"checked 6 runs of {zoo}, 0 wrong"
    assert "copied 6 runs" in summary(capsys, "zoo", "push", tmp_path / "other")
    assert "2 runs verified" in summary(capsys, "verify", "--runs", "0-1")
    assert "2 runs evaluated" in summary(capsys, "evaluate", "--runs", "0-1", "--out", tmp_path / "out")
    words = ["--experiment", EXPERIMENT, "--out", tmp_path / "scores.npz"]
    assert "wrote consistency" in summary(capsys, "stats", "consistency", *words)
    for words in (["zoo", "index"], ["train", "digits-mlp", "--runs", "0", "--subset-ratio", "0.5"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2


def parsers():
    """Yield the words and the parser of every verb, or of every action of one."""
    for verb in VERBS:
        parser = verb_parser(verb)
        some = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        yield from ((f"{verb} {name}", action) for name, action in some[0].items()) if some else ((verb, parser),)


@pytest.mark.parametrize("named", [False, True])
def test_every_place_that_the_environment_may_name_is_shown_so(named, monkeypatch):
    if named:
        monkeypatch.setenv("HELDOUT_TORCH_ZOO", "ZOO")
    found = {}
    for words, parser in parsers():
        usage = parser.format_usage()
        for action in parser._actions:
            if action.metavar in ("ZOO", "SOURCE") and not action.option_strings:
                by_variable = "may be left out if the environment variable HELDOUT_TORCH_ZOO names it" in action.help
                assert (f" [{action.metavar}]" in usage) == by_variable, words
                found.setdefault(by_variable, set()).add(words)
    assert found.pop(False) == {"archive inspect", "zoo index"}  # an archive alone; it is written
    assert found[True] >= {
        "verify",
        "evaluate",
        "export",
        "report",
        "zoo list",
        "zoo push",
        "stats keep",
        "stats pairs",
    }


def test_the_help_of_a_statistic_speaks_of_what_it_writes():
    about = {words: parser.description for words, parser in parsers() if words.startswith("stats ")}
    assert {words for words, text in about.items() if "order of the data set's own files" in text} == {
        "stats memorization", "stats consistency", "stats influence", "stats pairs",
    }  # fmt: skip
    assert {words for words, text in about.items() if ".npz, .csv or .parquet" not in text} == {
        "stats influence", "stats accuracy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("python", "command_line"),
    [
        ("is not a published file; pass verify_checksums=False to use it", "--skip-checksums"),
        ("give its folder, or pass download=True", "--download"),
        (
            "was trained by another recipe (epochs is 1, not 2); give the new runs another name",
            "another name: --name NAME",
        ),
        ("cifar10: give the path of its folder", "--data"),
        ("pass allow_missing=True to go on", "--allow-missing"),
        ("how it counts examples: pass order='original' or order='published'", "give --order original or published"),
        ("only the data set can map; pass its original_index", "can map; give --data"),
        (
            "labels: give the data set, or files that have the labels, such as",
            "(--data), or files (--labels) that",
        ),
        ("as an npy file, and say their order", "and give --order"),
        ("name a file for it, out=FILE", "with --out"),
        ("heldout_torch.list_runs('a/zoo') lists what is there", "heldout zoo list a/zoo lists what is there"),
    ],
)
def test_advice_is_for_the_command_line(python, command_line):
    advised = as_advised(f"error: {python}")
    assert command_line in advised
    assert not re.search(r"=True|=False|heldout_torch\.|ask for", advised)


def shifted(tmp_path):
    """The digits with all labels wrong."""
    digits, arrays = load_digits(), {"__num_classes": np.int64(10), "__data_scale": np.int64(16)}
    for name, split in (("train", digits.train), ("test", digits.test)):
        arrays[f"{name}__image"] = split.images[:, 0].numpy()
        arrays[f"{name}__label"] = (split.labels.numpy() + 1) % 10
    np.savez(tmp_path / "wrong.npz", **arrays)
    return ["--data", tmp_path / "wrong.npz"]


def test_verify_on_other_data_is_done_again(zoo, tmp_path, capsys):
    """Used to say "2 runs verified, 0 with mismatches" whatever the data, once it had said so."""
    assert "2 runs verified" in summary(capsys, "verify", zoo, "--runs", "0-1")
    assert main(["verify", str(zoo), "--runs", "0-1", *map(str, shifted(tmp_path))]) == 1
    assert "0 runs verified, 2 with mismatches" in capsys.readouterr().out
    assert "2 runs verified" in summary(capsys, "verify", zoo, "--runs", "0-1")


def test_evaluations_of_other_data_or_of_a_run_that_changed_are_made_again(zoo, tmp_path, capsys):
    words = ["evaluate", zoo, "--out", tmp_path / "out", "--runs", "0-1"]
    assert "2 runs evaluated" in summary(capsys, *words)
    assert "0 runs evaluated" in (line := summary(capsys, *words))
    assert "2 already there" in line
    assert "2 runs evaluated" in summary(capsys, *words, *shifted(tmp_path))
    assert "2 runs evaluated" in summary(capsys, *words)
    one, other = (RunKey(EXPERIMENT, 0.7, run) for run in (1, 3))
    with open_writable(zoo) as place:
        place.put(place.metadata(one), place.state(other), place.aux(one), overwrite=True)
    line = summary(capsys, *words)
    assert "1 run evaluated" in line
    assert "1 already there" in line


def test_outputs_of_other_data_or_with_flips_are_refused(zoo, tmp_path, capsys):
    words = ["evaluate", zoo, "--out", tmp_path / "out", "--runs", "0-1", "--save", "outputs"]
    assert "2 runs evaluated" in summary(capsys, *words)
    assert "2 already there" in summary(capsys, *words)
    for other in (["--flips"], shifted(tmp_path)):
        assert "has outputs made with" in error_of(capsys, *words, *other)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["stats", "memorizatio", "Z"], "memorization"),
        (["zoo", "chek", "Z"], "check"),
        (["verify", "Z", "--precision", "exat"], "exact"),
        (["stats", "keep", "Z", "--by", "memorisation"], "memorization"),
    ],
)
def test_a_misspelt_word_among_few_is_answered_by_the_nearest(words, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert f"did you mean {meant!r}?" in capsys.readouterr().err


def test_a_data_set_of_a_users_own_that_is_not_named_is_asked_for_by_its_option(capsys):
    words = ["declare", "mine", "--dataset", "mine", "--architecture", "mlp"]
    assert main(words) == 1
    assert "or give with --data the npz file that holds it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "said"), [("{}", "it needs 'widths'"), ('{"width": [8]}', "it has no option 'width'")]
)
def test_options_of_a_network_are_named_without_python(config, said, capsys, tmp_path):
    words = ["declare", "mine", "--dataset", "digits", "--architecture", "mlp", "--config", config]
    assert main([*words, "--out", str(tmp_path / "mine.toml")]) == 1
    line = capsys.readouterr().err
    assert said in line
    assert "__init__" not in line


PROC = Path("/proc/zoo")  # where not even the superuser makes a file
STATISTIC = ("--experiment", "digits-mlp-tf", "--out")


@pytest.mark.skipif(not PROC.parent.is_dir(), reason="this system has no /proc")
@pytest.mark.parametrize(
    "words",
    [
        ("stats", "memorization", "ZOO", *STATISTIC, PROC / "m.npz"),
        ("stats", "pairs", "ZOO", *STATISTIC, PROC / "m.csv"),
        ("stats", "influence", "ZOO", *STATISTIC, PROC.with_suffix(".npz")),
        ("stats", "keep", "ZOO", "--by", "memorization", "--fraction", "0.5", *STATISTIC, PROC / "m.npz"),
        ("stats", "memorization", "ZOO", "--table", PROC, *STATISTIC, "OUT.npz"),
        ("report", "ZOO", *STATISTIC, PROC),
        ("experiment", "digits-mlp", "--subset-ratio", "0.7", "--runs", "0", "--zoo", "OUT", "--out", PROC),
        ("evaluate", "mine.safetensors", "--experiment", "digits-mlp", "--subset", "s.npy", "--out", PROC / "a.npz"),
        ("archive", "index", "ZOO.tar.gz", "--out", PROC),
        ("export", "digits-mlp-tf", "--zoo", "OUT", "--index", PROC),
        ("declare", "mine", "--data", "mine.npz", "--architecture", "mlp", "--out", PROC / "mine.toml"),
        ("verify", "ZOO", "--results", PROC),
    ],
    ids=lambda words: " ".join(map(str, words[:2])),
)
def test_a_place_that_takes_no_files_is_noticed_before_anything_is_read(words, zoo, tmp_path, capsys, monkeypatch):
    """Tried, not looked up: the superuser may write everywhere, and cannot."""
    for module, name in (("tables", "open_zoo"), ("evaluate_file", "load_file"), ("report", "open_zoo")):
        monkeypatch.setattr(f"heldout_torch.cli.{module}.{name}", lambda *_: pytest.fail("work has begun"))
    named = {"ZOO": str(zoo), "OUT": str(tmp_path / "out"), "OUT.npz": str(tmp_path / "out.npz")}
    status = 0
    try:
        status = main([named.get(word, word) for word in map(str, words)])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_the_aux_arrays_of_a_network_have_the_name_of_an_npz_file(tmp_path, capsys):
    words = ["mine.safetensors", "--experiment", "digits-mlp", "--subset", "s.npy", "--out", str(tmp_path / "a.csv")]
    assert main(["evaluate", *words]) == 1
    assert "a.csv: the file name must end in .npz\n" in capsys.readouterr().err


@contextmanager
def files_of_at_most(size):
    """As a full disk or a quota would: a file takes so many bytes and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("stats", "memorization", "ZOO", "--table", "OUT", "--experiment", EXPERIMENT, "--out", "OUT.npz"), "out/"),
        (("report", "ZOO", "--experiment", EXPERIMENT, "--out", "OUT"), "out: "),
        (("evaluate", "MINE", "--experiment", EXPERIMENT, "--subset", "SUBSET", "--out", "OUT.npz"), "out.npz: "),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_a_disk_that_is_full_at_the_end_is_told_with_what_and_why(words, named, zoo, tmp_path, capsys):
    save_indices(tmp_path / "subset.npz", np.arange(700), "original")
    model = sorted(zoo.rglob("model.safetensors"))[0]
    own = {"ZOO": zoo, "MINE": model, "SUBSET": tmp_path / "subset.npz", "OUT": tmp_path / "out"}
    own["OUT.npz"] = tmp_path / "out.npz"
    with files_of_at_most(3000):
        assert main([str(own.get(word, word)) for word in words]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {tmp_path}/{named}")
    assert "cannot be written (" in line
    assert "None" not in line
    assert "partial" not in line
