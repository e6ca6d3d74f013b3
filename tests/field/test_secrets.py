"""Passwords and signatures in a zoo's address: in nothing that is printed and in no file that is written."""

import pytest

from heldout_torch.cli import main
from heldout_torch.zoo import sample_zoo
from tests.helpers.archives import pack
from tests.helpers.server import Server

SECRETS = ("hush", "c2lnbmF0dXJl")


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Where a zoo and an archive of the sample's runs are served, with a password and a signature."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    served = tmp_path / "served"
    assert main(["export", str(sample_zoo()), "--zoo", str(served / "zoo")]) == 0
    pack(sample_zoo(), served / "runs.tar.gz")
    with Server(served).running() as server:
        server.login = f"me:{SECRETS[0]}"
        host = server.url.removeprefix("http://")
        yield lambda name: f"http://me:{SECRETS[0]}@{host}/{name}"


def test_no_verb_tells_or_keeps_what_is_secret_in_an_address(address, tmp_path, monkeypatch, capfd):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    zoo, archive = address("zoo"), address(f"runs.tar.gz?X-Amz-Signature={SECRETS[1]}")
    which = ["--experiment", "digits-mlp-tf", "--subset-ratio", "0.7"]
    for words in (
        ["zoo", "list", zoo],
        ["zoo", "check", zoo],
        ["zoo", "pull", zoo],
        ["zoo", "index", zoo],
        ["export", zoo, "--zoo", "copied"],
        ["export", archive, "--zoo", "exported"],
        ["archive", "index", archive, "--out", "runs.seek"],
        ["archive", "inspect", archive],
        ["verify", zoo, "--results", "log.jsonl"],
        ["evaluate", zoo, "--out", "evaluated"],
        ["evaluate", zoo, "--save", "outputs", "--out", "outputs"],
        ["stats", "memorization", zoo, *which, "--out", "scores.npz", "--table", "table"],
        ["report", zoo, "--experiment", "digits-mlp-tf", "--out", "report"],
        ["train", "digits-mlp", "--subset-ratio", "0.5", "--runs", "0", "--zoo", zoo],
    ):
        status = main(words)
        told = "".join(capfd.readouterr())
        assert status == (words[-1] == zoo and words[1] not in ("list", "check", "pull")), told
        for secret in SECRETS:
            assert secret not in told, words
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 50
    for secret in SECRETS:
        assert not [path for path in tmp_path.rglob("*") if secret in path.name]
        assert not [path for path in written if secret.encode() in path.read_bytes()]
