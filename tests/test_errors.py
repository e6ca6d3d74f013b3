"""Messages: one line, safe to show, without what URLs carry in secret."""

import pickle
import re
from pathlib import Path

import pytest

import heldout_torch
from heldout_torch.errors import DataError, HeldoutError, ZooError, nearest, printable, warn


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
        ("https://host/zoo?sig=s3'cr3t: bad", "https://host/zoo?...: bad"),
        ("'https://host/zoo' and 'https://host/x?a=b'", "'https://host/zoo' and 'https://host/x?...'"),
    ],
)
def test_credentials_of_urls_are_not_shown(text, shown):
    assert str(HeldoutError(text)) == shown
    assert printable(shown) == shown


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ZooError("s3://a:b@c/d\n")))
    assert type(error) is ZooError
    assert str(error) == r"s3://...@c/d\n"


def test_a_misspelt_name_finds_its_nearest():
    known = ["cifar10-inception", "cifar100-inception", "digits-mlp"]
    assert nearest("cifar10-inceptio", known) == "; did you mean 'cifar10-inception'?"
    assert nearest("Digits-MLP", known) == "; did you mean 'digits-mlp'?"
    assert nearest("imagenet", known) == ""
