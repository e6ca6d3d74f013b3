"""Paths and places as people write them."""

import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from heldout_torch.errors import DataError, HeldoutError
from heldout_torch.experiments import find_experiment
from heldout_torch.stats import OutputTable, RunTable, Scores, load_indices, load_scores, save_indices, save_scores
from heldout_torch.storage.paths import is_remote, local_path, place
from heldout_torch.zoo import list_runs, sample_zoo
from heldout_torch.zoo.open import open_writable


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/data/zoo", "/data/zoo"),
        ("zoo", "zoo"),
        (".", "."),
        ("/", "/"),
        ("/data/zoo/", "/data/zoo"),
        ("/data/zoo///", "/data/zoo"),
        ("  /data/zoo \t", "/data/zoo"),
        ("/data/zoo\r\n", "/data/zoo"),
        ("\ufeff/data/zoo", "/data/zoo"),
        ("'/data/zoo'", "/data/zoo"),
        ('"/data/zoo/"\n', "/data/zoo"),
        ("' /data/zoo '", "/data/zoo"),
        ("it's", "it's"),
        ("/data/my zoo", "/data/my zoo"),
        ("file:///data/zoo/", "/data/zoo"),
        ("FILE:///data/zoo", "/data/zoo"),
        ("file://localhost/data/zoo", "/data/zoo"),
        ("file:/data/zoo", "/data/zoo"),
        ("file:///data/my%20zoo", "/data/my zoo"),
        ("file:///data/a#b?c", "/data/a#b?c"),
        ("'file:///data/zoo' ", "/data/zoo"),
        ("~/zoo", "/home/me/zoo"),
        ("~", "/home/me"),
        ('"~/zoo"', "/home/me/zoo"),
        ("zoo/~", "zoo/~"),
        ("$DATA/zoo", "$DATA/zoo"),
        ("%DATA%/${DATA}", "%DATA%/${DATA}"),
        ("a:b", "a:b"),
        (Path("/data/zoo"), "/data/zoo"),
        (PurePosixPath("/data/zoo"), "/data/zoo"),
        (Path(" odd "), " odd "),
        (Path("'odd'"), "'odd'"),
        (Path("~"), "~"),
        (Path("file:///data/zoo"), "/data/zoo"),
    ],
)
def test_paths_are_as_they_were_meant(written, meant):
    assert local_path(written) == Path(meant)
    assert place(written) == Path(meant)
    assert not is_remote(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("s3://bucket/zoo", "s3://bucket/zoo"),
        ("S3://Bucket/Zoo", "s3://Bucket/Zoo"),
        ("HTTPS://example.org/Zoo", "https://example.org/Zoo"),
        (" 'https://example.org/zoo/' \n", "https://example.org/zoo"),
        (Path("s3://bucket/zoo"), "s3://bucket/zoo"),
        (Path("https://example.org/zoo/"), "https://example.org/zoo"),
        ("simplecache::s3://bucket/zoo/", "simplecache::s3://bucket/zoo"),
        ("https://example.org/~me/a%20b", "https://example.org/~me/a%20b"),
    ],
)
def test_urls_are_places_and_no_paths(written, meant):
    assert place(written) == meant
    with pytest.raises(DataError, match="is a URL, expected a path on this machine"):
        local_path(written)
    assert is_remote(written)
    assert is_remote(meant)


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "''", '"\n"', "a\0b", "file://data/zoo", "~nobody-of-this-name/zoo", "file://", "file://localhost",
        "http://", "https:///", "s3://", "simplecache::", "a" * 300, Path("b" * 256), "c/" * 3000,
        "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_path_is_one_line(written):
    for read in (local_path, place):
        with pytest.raises(DataError) as error:
            read(written)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["a" * 300, "\ud800", "http://"])
def test_functions_refuse_in_one_line_what_no_path_can_be(path):
    """Of some, Python said `OSError: File name too long`, or that an encoding fails."""
    readers = (RunTable.load, OutputTable.load, load_indices, load_scores, list_runs, open_writable)
    for use in (*readers, lambda path: save_indices(path, [1], "original")):
        with pytest.raises(HeldoutError):
            use(path)


def test_secrets_of_a_url_are_not_told():
    with pytest.raises(DataError) as error:
        local_path("s3://me:secret@bucket/zoo?X-Amz-Signature=secret")
    assert "secret" not in str(error.value)


def _as_written(path):
    """Spell a path as people, shells and configuration files do."""
    return [f"file://{path}", f" '{path}' ", f"{path}/", path, str(path)]


@pytest.mark.parametrize("spelling", range(5))
def test_functions_take_paths_as_people_write_them(tmp_path, spelling):
    def spelled(name):
        return _as_written(tmp_path / name)[spelling]

    table = RunTable.from_arrays(np.eye(4, dtype=bool)[:, :3], np.ones((4, 3)), np.ones((4, 2)), mix_ratios=True)
    table.save(spelled("table"))
    assert RunTable.load(spelled("table")).keys == table.keys
    save_indices(spelled("kept.npz"), np.arange(3), "original")
    assert load_indices(spelled("kept.npz"))[1] == "original"
    save_scores(spelled("scores.npz"), Scores(np.ones(3, np.float32), order="original"))
    assert load_scores(spelled("scores.npz")).order == "original"
    np.save(tmp_path / "margins.npy", np.ones((4, 2)))
    np.save(tmp_path / "masks.npy", np.eye(4, dtype=bool)[:, :3])
    assert OutputTable.from_files(spelled("masks.npy"), spelled("margins.npy")).runs == 4
    shutil.copy(sample_zoo().parent / "experiments" / "digits-mlp.toml", tmp_path / "digits-mlp.toml")
    assert find_experiment(spelled("digits-mlp.toml")).name == "digits-mlp"
