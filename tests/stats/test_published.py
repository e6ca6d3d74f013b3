"""Published files by name: fetched once from their address, checked, and brought into the order asked for.

Also of stats/published_files.py, stats/published_list.py, storage/digests.py.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from heldout_torch import DataError, HeldoutError, ZooError
from heldout_torch.data import tfds_order
from heldout_torch.stats import (
    ClasswiseInfluence,
    InfluencePairs,
    Scores,
    fetch_published,
    list_published,
    load_classwise,
    load_pairs,
    load_published,
    load_scores,
)
from tests.helpers.published import INFLUENCE, M, N, published_list

NAMES = [
    "cifar10-cscores", "cifar100-cscores", "imagenet-cscores", "mnist-cscores", "cifar100-memorization",
    "cifar100-influence", "cifar100-pairs", "imagenet-memorization", "imagenet-index", "imagenet-influence",
    "imagenet-pairs",
]  # fmt: skip


def assert_equal(one, other):
    assert type(one) is type(other)
    assert one.order == other.order
    for name, value in vars(one).items():
        if name == "classes":
            assert [vars(each).keys() for each in value] == [vars(each).keys() for each in other.classes]
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(other, name))


def test_the_package_s_own_list_has_every_name():
    known = list_published()
    assert len(set(known.values())) == len(known)
    assert list(known) == NAMES
    urls = {file.url for one in known.values() for file in (one.file, *one.file.parts)}
    assert len(urls - {None}) == 10
    assert all(url.startswith("https://pluskid.github.io/") for url in urls - {None})


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_fetched_once_and_gives_its_kind(published_server, name):
    kind = InfluencePairs if "pairs" in name else ClasswiseInfluence if "influence" in name else Scores
    for order in ("original", "published"):
        loaded = load_published(name, order)
        assert type(loaded) is kind
        assert loaded.order == ("published" if "imagenet" in name else order)
    again = load_published(name, "published")
    sizes = {path.name: path.stat().st_size for path in published_server.folder.iterdir()}
    assert dict(published_server.sent) == {path: sizes[path] for path in published_server.sent}  # none of them twice
    assert_equal(again, loaded)


@pytest.mark.parametrize("name", ["cifar10-cscores", "cifar100-cscores", "cifar100-memorization", "mnist-cscores"])
def test_scores_come_in_the_order_asked_for(published_server, published_files, name):
    file = {"cifar100-memorization": "cifar100_infl_matrix.npz", "mnist-cscores": "mnist-cscores.npy"}
    arrays = published_files[1][file.get(name, f"{name}-orig-order.npz")]
    stored = arrays if name == "mnist-cscores" else arrays["tr_mem" if "mem" in name else "scores"]
    own, other = ("published", "original") if name == "mnist-cscores" else ("original", "published")
    np.testing.assert_array_equal(load_published(name, own).scores, stored)
    moved = load_published(name, other)
    order = tfds_order("train", N)
    assert moved.scores[5] == stored[np.flatnonzero(order == 5)[0] if other == "original" else order[5]]
    if name != "mnist-cscores":
        key = "tr_labels" if "mem" in name else "labels"
        np.testing.assert_array_equal(moved.labels, arrays[key][order])


def test_influence_is_about_the_same_examples_in_either_order(published_server, published_files):
    original, published = (load_published("cifar100-influence", order) for order in ("original", "published"))
    train, test = tfds_order("train", N), tfds_order("test", M)
    np.testing.assert_array_equal(original.memorization[train], published.memorization)
    for one, other in zip(original.classes, published.classes, strict=True):
        assert (other.label, (np.diff(other.train_index) > 0).all()) == (one.label, True)
        assert sorted(train[other.train_index]) == one.train_index.tolist()
        assert (published.labels_test[other.test_index] == one.label).all()
        expected = (train[other.train_index][:, None] / 1000 + test[other.test_index] / 1e6).astype(np.float32)
        np.testing.assert_array_equal(other.influence, expected)
    pairs, moved = (load_published("cifar100-pairs", order) for order in ("original", "published"))
    np.testing.assert_array_equal(tfds_order("train", 50_000)[moved.train_index], pairs.train_index)
    np.testing.assert_array_equal(tfds_order("test", 10_000)[moved.test_index], pairs.test_index)
    np.testing.assert_array_equal(
        pairs.train_index, published_files[1]["cifar100_high_infl_pairs_infl0.15_mem0.25.npz"]["tr_idx"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("labels", "its labels differ from those of imagenet_index.npz"),
        ("names", "has no score of .* and 0 other files"),
    ],
)
def test_scores_of_other_images_than_those_of_the_index_are_refused(
    published_server, published_files, tmp_path, change, message
):
    folder = shutil.copytree(published_files[0], tmp_path / "changed")
    arrays = dict(published_files[1]["imagenet-cscores-with-filename.npz"])
    if change == "labels":
        arrays["labels"] = np.roll(arrays["labels"], 1)
    else:
        arrays = {name: array[1:] for name, array in arrays.items()}
    np.savez(folder / "imagenet-cscores-with-filename.npz", **arrays)
    (tmp_path / "list.toml").write_text(published_list(folder, published_server.url))
    with pytest.raises(DataError, match=message):
        load_published("imagenet-cscores", folder=folder)


def test_a_list_of_one_s_own_may_say_that_files_are_in_published_order(published_server, published_files, tmp_path):
    named = (tmp_path / "list.toml").read_text()
    (tmp_path / "list.toml").write_text(named.replace('order = "original"', 'order = "published"'))
    arrays = published_files[1]["cifar100_high_infl_pairs_infl0.15_mem0.25.npz"]
    pairs = load_published("cifar100-pairs", "original")
    np.testing.assert_array_equal(pairs.train_index, tfds_order("train", 50_000)[arrays["tr_idx"]])
    np.testing.assert_array_equal(pairs.test_index, tfds_order("test", 10_000)[arrays["tt_idx"]])
    influence = load_published("cifar100-influence", "original")
    arrays = published_files[1]["cifar100_infl_matrix.npz"]
    np.testing.assert_array_equal(influence.memorization[tfds_order("train", N)], arrays["tr_mem"])
    for one in influence.classes:
        stored = arrays[f"tr_classidx_{one.label}"]
        assert one.train_index.tolist() == sorted(tfds_order("train", N)[stored])
        assert (influence.labels_test[one.test_index] == one.label).all()


def test_imagenet_s_files_are_read_with_names_as_python_objects(published_server, published_files):
    index = published_files[1]["imagenet_index.npz"]
    scores = load_published("imagenet-cscores")
    np.testing.assert_array_equal(scores.scores, published_files[2])  # in the order of the index, not of the file
    assert scores.by_filename()[index["tr_filenames"][7].decode()] == published_files[2][7]
    memorized = load_published("imagenet-memorization")
    assert memorized.by_filename() == dict(
        zip([name.decode() for name in index["tr_filenames"]], index["tr_mem"], strict=True)
    )
    influence = load_published("imagenet-influence")  # labels and memorization are in the index alone
    np.testing.assert_array_equal(influence.labels_test, index["tt_labels"])
    np.testing.assert_array_equal(influence.memorization, index["tr_mem"])
    assert [one.label for one in influence.classes] == list(range(5))
    with pytest.raises(DataError, match="has no file names"):
        load_published("cifar10-cscores").by_filename()


@pytest.mark.parametrize("name", ["cifar10-cscores", "imagenet-index", "imagenet-influence"])
def test_a_wrong_byte_is_refused_and_not_kept(published_server, tmp_path, name):
    file = f"{INFLUENCE}_split_ab.bin" if name == "imagenet-influence" else list_published()[name].file.name
    published_server.faults[file] = ["wrong"]
    with pytest.raises(ZooError, match=f"{file}: is not the published file"):
        fetch_published(name)
    assert not [path for path in (tmp_path / "cache" / "published").iterdir() if path.name != ".locks"]
    fetch_published(name)


def test_joined_parts_must_be_the_whole(published_server, tmp_path):
    listed = (tmp_path / "list.toml").read_text()
    (tmp_path / "list.toml").write_text(listed.replace(f', "{INFLUENCE}_split_ac.bin"]', "]"))
    with pytest.raises(ZooError, match="the joined parts are not the published file, their MD5 differs"):
        fetch_published("imagenet-influence")


def test_a_damaged_cached_file_is_fetched_again(published_server):
    path = fetch_published("cifar100-pairs")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert fetch_published("cifar100-pairs").read_bytes() == whole


def test_a_broken_connection_and_a_server_without_ranges_are_got_over(published_server):
    file = list_published()["cifar100-influence"].file.name
    published_server.faults[file] = ["drop", "500"]
    assert fetch_published("cifar100-influence").read_bytes() == (published_server.folder / file).read_bytes()
    fetch_published("cifar100-influence").unlink()
    published_server.ranges = False
    for name in ("cifar100-influence", "imagenet-influence"):
        fetch_published(name)


def test_offline_gives_what_is_kept_and_nothing_else(published_server, monkeypatch):
    kept = fetch_published("cifar10-cscores")
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    asked = sum(published_server.requests.values())
    assert fetch_published("cifar10-cscores") == kept
    with pytest.raises(
        ZooError, match=r"cifar100-cscores-orig-order\.npz: is not kept in .*cache.*OFFLINE.*HELDOUT_TORCH_PUBLISHED$"
    ):
        fetch_published("cifar100-cscores")
    assert sum(published_server.requests.values()) == asked


def test_a_folder_that_lacks_the_file_is_named(published_server, tmp_path, monkeypatch):
    monkeypatch.setenv("HELDOUT_TORCH_PUBLISHED", str(tmp_path / "copies"))
    told = rf"; {tmp_path}/copies, which HELDOUT_TORCH_PUBLISHED names, has no cifar10-cscores-orig-order.npz$"
    monkeypatch.setenv("HELDOUT_TORCH_OFFLINE", "1")
    with pytest.raises(ZooError, match=told):
        fetch_published("cifar10-cscores")
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE")
    there, published_server.folder = published_server.folder, tmp_path
    with pytest.raises(ZooError, match=r"there is no such file.*" + told):
        fetch_published("cifar10-cscores")
    published_server.folder = there
    assert fetch_published("cifar10-cscores").is_file()


def test_a_local_copy_is_taken_and_checked(published_server, published_files, tmp_path, monkeypatch):
    for name in NAMES:
        assert load_published(name, folder=published_files[0]).order
    monkeypatch.setenv("HELDOUT_TORCH_PUBLISHED", str(published_files[0]))
    assert fetch_published("cifar10-cscores").parent == published_files[0]
    parts = tmp_path / "parts"
    parts.mkdir()
    for part in ("aa", "ab", "ac"):
        name = f"{INFLUENCE}_split_{part}.bin"
        (parts / name).write_bytes((published_files[0] / name).read_bytes())
    assert (
        fetch_published("imagenet-influence", parts).read_bytes()
        == (published_files[0] / f"{INFLUENCE}.npz").read_bytes()
    )
    assert not published_server.requests
    with pytest.raises(DataError, match=r"parts: has no imagenet_index\.npz"):
        fetch_published("imagenet-index", parts)
    (parts / "mnist-cscores.npy").write_bytes(b"x")
    with pytest.raises(ZooError, match="is not the published file, its git blob id differs"):
        fetch_published("mnist-cscores", parts)
    (parts / "mnist-cscores.npy").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")  # a clone without LFS
    with pytest.raises(ZooError, match=r"its git blob id differs \(it is a pointer of Git LFS.*; remove it"):
        fetch_published("mnist-cscores", parts)
    monkeypatch.setenv("HELDOUT_TORCH_PUBLISHED", str(parts))  # what it lacks is fetched
    fetch_published("imagenet-index")
    assert published_server.requests


def test_concurrent_callers_fetch_once(published_server):
    size = (published_server.folder / "cifar100_infl_matrix.npz").stat().st_size
    command = [sys.executable, "-c", "from heldout_torch.stats import *; print(fetch_published('cifar100-influence'))"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        paths = {str(path) for path in threads.map(fetch_published, ["cifar100-influence"] * 8)}
    paths |= {process.communicate()[0].decode().strip() for process in processes}
    assert len(paths) == 1
    assert dict(published_server.sent) == {"cifar100_infl_matrix.npz": size}


def test_errors_name_what_there_is(published_server, tmp_path):
    named = (tmp_path / "list.toml").read_text()
    (tmp_path / "list.toml").write_text(named.replace(f'url = "{published_server.url}/mnist-cscores.npy"', ""))
    with pytest.raises(ZooError, match=r"mnist-cscores\.npy: no address is known for it; name a folder that has it"):
        load_published("mnist-cscores")
    with pytest.raises(DataError, match="did you mean 'cifar10-cscores'"):
        load_published("cifar10-cscore")
    with pytest.raises(DataError, match="order is 'mine'"):
        load_published("cifar10-cscores", "mine")
    loads = {"cifar10-cscores": load_scores, "cifar100-pairs": load_pairs, "cifar100-influence": load_classwise}
    for name, load in loads.items():
        with pytest.raises(DataError, match=rf"{name}: there is no such file; load_published"):
            load(name)
    for text in ("[names.x]\nfile = 'a'", "[files.'../a']\ncheck = 'md5:" + "0" * 32 + "'\n[names.x]\nfile = '../a'"):
        (tmp_path / "list.toml").write_text(text)
        with pytest.raises(HeldoutError, match=r"list\.toml: is not a list of published files"):
            list_published()
