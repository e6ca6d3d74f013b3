"""Look-alikes of the published files, and a server and a list of them."""

import hashlib
import io
import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import heldout_torch.stats
from heldout_torch.storage import retries
from tests.helpers.server import Server

N, M = 60, 30  # examples of the look-alikes
LIST = Path(heldout_torch.stats.__file__).with_name("published.toml")
INFLUENCE = "imagenet_infl_matrix"


def matrices(labels):
    """Class-wise arrays whose entries say which examples they are about."""
    arrays = {}
    for label in np.unique(np.concatenate(labels)):
        train, test = (np.flatnonzero(row == label) for row in labels)
        arrays[f"tr_classidx_{label}"], arrays[f"tt_classidx_{label}"] = train, test
        arrays[f"infl_matrix_class{label}"] = (train[:, None] / 1000 + test / 1e6).astype(np.float32)
    return arrays


def objects(names):
    return np.array([name.encode() for name in names], object)


def look_alikes():
    """Arrays of each published file, names of files as arrays of Python objects."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, N), rng.integers(0, 5, M)
    pairs = {
        "tr_idx": rng.integers(0, N, 9), "tt_idx": rng.integers(0, M, 9), "infl": rng.random(9), "mem": rng.random(9)
    }  # fmt: skip
    names = [f"n{label:08}_{i}.JPEG" for i, label in enumerate(labels[0])]
    shuffled = rng.permutation(N)
    scores = rng.random(N)
    return {
        "cifar10-cscores-orig-order.npz": {"labels": labels[0], "scores": rng.random(N)},
        "cifar100-cscores-orig-order.npz": {"labels": labels[0], "scores": rng.random(N)},
        "imagenet-cscores-with-filename.npz": {
            "labels": labels[0][shuffled], "scores": scores[shuffled],
            "filenames": objects([names[i] for i in shuffled]),
        },
        "mnist-cscores.npy": rng.random(N),
        "cifar100_infl_matrix.npz": {
            "tr_labels": labels[0], "tt_labels": labels[1], "tr_mem": rng.random(N), **matrices(labels),
            "more": rng.random(600_000),  # so that it comes in several pieces
        },
        "cifar100_high_infl_pairs_infl0.15_mem0.25.npz": pairs,
        "imagenet_high_infl_pairs_infl0.15_mem0.25.npz": pairs,
        "imagenet_index.npz": {
            "tr_filenames": objects(names), "tr_labels": labels[0], "tr_mem": rng.random(N),
            "tt_filenames": objects([f"ILSVRC2012_val_{i:08}.JPEG" for i in range(M)]), "tt_labels": labels[1],
        },
        f"{INFLUENCE}.npz": matrices(labels),
    }, scores  # fmt: skip


def contents(arrays):
    data = io.BytesIO()
    np.savez(data, **arrays) if isinstance(arrays, dict) else np.save(data, arrays)
    return data.getvalue()


def git_blob(path):
    return subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()


def write_look_alikes(folder):
    """Write every file under its published name; give the arrays in them, and ImageNet's scores by index."""
    arrays, scores = look_alikes()
    for name, each in arrays.items():
        (folder / name).write_bytes(contents(each))
    joined = (folder / f"{INFLUENCE}.npz").read_bytes()
    for i, part in enumerate(("aa", "ab", "ac")):
        (folder / f"{INFLUENCE}_split_{part}.bin").write_bytes(joined[i * 700 : (i + 1) * 700 if i < 2 else None])
    return arrays, scores


def published_list(folder, url):
    """The package's list with the checks and addresses of look-alikes."""
    text = []
    for path in sorted(folder.iterdir()):
        entry = {"check": f"git-blob:{git_blob(path)}", "url": f"{url}/{path.name}"}
        if path.name == f"{INFLUENCE}.npz":
            parts = [f"{INFLUENCE}_split_{part}.bin" for part in ("aa", "ab", "ac")]
            entry = {"check": f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}", "parts": parts}
        if path.name.startswith("cifar10-"):
            entry["check"] = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            entry["bytes"] = path.stat().st_size
        text.append(f'[files."{path.name}"]\n' + "".join(f"{k} = {json.dumps(v)}\n" for k, v in entry.items()))
    names = LIST.read_text()
    return "\n".join(text) + names[names.index("\n[names.") :]


@contextmanager
def served(folder, tmp_path, monkeypatch):
    """Serve look-alikes, as the list of published files says; the cache is the test's own."""
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HELDOUT_TORCH_PUBLISHED_LIST", str(tmp_path / "list.toml"))
    for name in ("HELDOUT_TORCH_PUBLISHED", "HELDOUT_TORCH_OFFLINE", "HELDOUT_TORCH_ZOO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retries, "WAITS", (0.01, 0.02, 0.03))
    with Server(folder).running() as running:
        (tmp_path / "list.toml").write_text(published_list(folder, running.url))
        yield running
