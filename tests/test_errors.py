"""Messages: one line, safe to show, without what URLs carry in secret."""

import ast
import errno
import inspect
import pickle
import re
import time
from pathlib import Path

import numpy as np
import pytest

import heldout_torch
import hubconf
from heldout_torch import load_run, stats
from heldout_torch.archives.build_index import build_index
from heldout_torch.data import load_dataset
from heldout_torch.errors import (
    DataError,
    HeldoutError,
    ZooError,
    counted,
    listed,
    nearest,
    os_errors,
    printable,
    warn,
)
from heldout_torch.experiments import known_experiments
from heldout_torch.zoo import sample_zoo


@pytest.mark.parametrize("error", [HeldoutError, ZooError, DataError])
def test_a_message_is_one_line_without_escape_sequences(error):
    message = str(error("tensor model/\x1b[31mred\n\r\x9b2J\u202egnp.exe\u2028next is not known"))
    assert message.isprintable()
    assert message == r"tensor model/\x1b[31mred\n\r\x9b2J\u202egnp.exe\u2028next is not known"


def test_a_warning_is_one_line_without_escape_sequences_too():
    with pytest.warns(UserWarning, match="zoo") as found:
        warn("zoo/\x1b[31mred\n of s3://key:secret@bucket")
    assert str(found[0].message) == r"zoo/\x1b[31mred\n of s3://...@bucket"
    assert found[0].filename == __file__


def test_all_warnings_of_the_package_are_made_so():
    files = Path(heldout_torch.__file__).parent.rglob("*.py")
    assert [file.name for file in files if re.search(r"\bwarnings\.warn\b", file.read_text())] == ["errors.py"]


def test_what_a_terminal_shows_stays_as_it_is():
    for text in ("zoo/cifar10 0.7/3: größer als 7 µm, 猫", r"C:\zoo\new", "a@b.c and what? {x}", "http://host/zoo"):
        assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:s3cr3t@host/zoo: not there", "https://...@host/zoo: not there"),
        ("s3://key@bucket", "s3://...@bucket"),
        ("ftp://u:p@ss@host/zoo", "ftp://...@host/zoo"),
        ("https://host/zoo?X-Amz-Signature=s3cr3t: not there", "https://host/zoo?...: not there"),
        ("('403', url='https://host/x?sig=s3cr3t')", "('403', url='https://host/x?...')"),
        ("(https://host/x?sig=s3cr3t)", "(https://host/x?...)"),
        ("copy https://a:b@c/d?e to gs://f:g@h/i", "copy https://...@c/d?... to gs://...@h/i"),
        ("simplecache::https://u:s3cr3t@host/zoo", "simplecache::https://...@host/zoo"),
        ("https://host/a@b", "https://host/a@b"),
        ("s3://user:s3'cr3t@host/zoo: bad", "s3://...@host/zoo: bad"),
        ("https://user:s3/cr3t@host/zoo: bad", "https://...@host/zoo: bad"),
        ("https://user:s3?cr3t@host/zoo?sig=s3cr3t: bad", "https://...@host/zoo?...: bad"),
        ("https://user:s3#cr3t@host:80/zoo: bad", "https://...@host:80/zoo: bad"),
        ("http://host:8000/zoo@main and http://[::1]:8000/a@b", "http://host:8000/zoo@main and http://[::1]:8000/a@b"),
        ("hf://datasets/me/runs@main/a", "hf://datasets/me/runs@main/a"),
        ("https://host/zoo?sig=s3'cr3t: bad", "https://host/zoo?...: bad"),
        ("'https://host/zoo' and 'https://host/x?a=b'", "'https://host/zoo' and 'https://host/x?...'"),
    ],
)
def test_credentials_of_urls_are_not_shown(text, shown):
    assert str(HeldoutError(text)) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "name",
    [
        "x" * 2**18, "a://b:c" * 2**15 + "@", "a://b?" + ":" * 2**18 + "c", "\x1b" * 2**18, "a://" + "b" * 2**18,
        "a://b:c/" * 2**15,
    ],
)  # fmt: skip
def test_a_message_that_quotes_a_long_name_is_cut_and_made_at_once(name):
    start = time.process_time()
    message = str(HeldoutError(f"tar: member {name} is refused"))
    assert time.process_time() - start < 3.0  # it took minutes, in proportion to the square of the length
    assert len(message) < 4100
    assert message.startswith("tar: member ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "x.npz"), "No such file"),
        (OSError("5 requested and 3\nwritten"), "5 requested and 3 written"),
        (OSError(), "OSError"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_its_reason(error, reason):
    with pytest.raises(DataError, match=rf"^x.npz: cannot be written \({reason}\)$"), os_errors(
        DataError, "x.npz: cannot be written"
    ):  # fmt: skip
        raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs/0"), r"runs/0: cannot be read \(Permission denied\)"),
        (OSError("not all was read"), r"runs: cannot be read \(not all was read\)"),
    ],
)
def test_what_the_system_refuses_names_the_file_that_it_is_about(error, line):
    with pytest.raises(DataError, match=f"^{line}$"), os_errors(DataError, "cannot be read", "runs"):
        raise error


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ZooError("s3://a:b@c/d\n")))
    assert type(error) is ZooError
    assert str(error) == r"s3://...@c/d\n"


def test_a_long_list_says_how_much_is_left_out():
    assert listed(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listed(range(101)) == f"{listed(range(10))} and 91 more"
    assert listed([]) == ""
    some = "6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 84 more"
    with pytest.raises(ZooError, match=f"runs {some} of digits-mlp-tf/0.7 are not in"):
        stats.RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7, range(100))


def test_a_misspelt_name_finds_its_nearest():
    known = ["cifar10-inception", "cifar100-inception", "digits-mlp"]
    assert nearest("cifar10-inceptio", known) == "; did you mean 'cifar10-inception'?"
    assert nearest("Digits-MLP", known) == "; did you mean 'digits-mlp'?"
    assert nearest("imagenet", known) == ""


def test_the_first_part_of_a_name_means_the_whole():
    known = ["cifar100-pairs", "cifar10-cscores-long", "cifar10-cscores", "digits-mlp-tf", "digits-mlp"]
    assert nearest("cifar10", known) == "; did you mean 'cifar10-cscores'?"
    assert nearest("Digits", known) == "; did you mean 'digits-mlp'?"
    assert nearest("", known) == ""


@pytest.mark.parametrize(
    ("mapping", "name", "meant", "error"),
    [
        (known_experiments, "cifar10", "cifar10-inception", ZooError),
        (known_experiments, "digits_mlp", "digits-mlp", ZooError),
        (stats.list_published, "cifar10", "cifar10-cscores", DataError),
    ],
)
def test_a_name_that_is_looked_up_where_it_is_not_is_one_line(mapping, name, meant, error):
    """It was a KeyError."""
    with pytest.raises(error, match=rf"'{name}' is not .*; did you mean '{meant}'\? \(there are "):
        mapping()[name]
    assert mapping().get(name) is None
    assert name not in mapping()
    assert mapping()[meant].name == meant
    assert pickle.loads(pickle.dumps(mapping())) == mapping()


def test_one_of_something_is_told_as_one():
    """There were "1 runs" in summaries, and where objects are shown."""
    assert [counted(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [counted(number, "class") for number in ("1", "1,000")] == ["1 class", "1,000 classes"]
    one = stats.RunTable.from_zoo(sample_zoo(), "digits-mlp-tf", 0.7, [3])
    assert repr(one) == "RunTable(1 run: digits-mlp-tf/0.7/3; 1437 training, 360 test examples)"
    assert repr(stats.Scores(np.ones(1))).startswith("Scores(1 example, ")
    with pytest.raises(DataError, match=r"^2 keys given for 1 run$"):
        stats.RunTable.from_arrays(*np.ones((3, 1, 2), bool), keys=["a", "b"])


# What errors advise to pass in Python, and the functions that it must be an argument of.
ADVISED = {
    "allow_missing": [load_dataset],
    "download": [load_dataset],
    "empty": [stats.memorization, stats.consistency, stats.influence],
    "mix_ratios": [stats.RunTable.from_arrays, stats.RunTable.from_aux, stats.RunTable.concat],
    "order": [stats.load_indices, stats.load_published_indices, stats.Scores, stats.InfluencePairs],
    "out": [build_index],
    "penalty": [stats.datamodels],
    "pretrained": [hubconf.digits_mlp_tf],
    "verify_checksums": [load_dataset],
    "zoo": [load_run],
}


def test_arguments_that_messages_advise_are_there():
    """In the package but for the command line, whose messages tests of its own look at."""
    advised = {}
    for path in Path(heldout_torch.__file__).parent.rglob("*.py"):
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if called and re.search(r"Error$|^warn$|^require$", node.func.id):
                parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                for part in filter(lambda part: isinstance(part, str), parts):
                    advised |= dict.fromkeys(re.findall(r"\b([a-z_]+)=(?=[\w'])", part), path)
    assert set(advised) - {"offline"} <= set(ADVISED), advised
    for name, functions in ADVISED.items():
        for function in functions:
            assert name in inspect.signature(function).parameters, (name, function)
