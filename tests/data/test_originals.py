"""CIFAR and MNIST are read from their original files into published order, and nothing else is."""

import functools
import hashlib
import http.server
import os
import pickle
import socket
import tarfile
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch
import torchvision

from heldout_torch.data import load_dataset, tfds_order
from heldout_torch.errors import DataError
from heldout_torch.storage import web
from tests.data.originals import write_cifar, write_mnist
from tests.helpers.server import Listener


def check(dataset, contents):
    for split, (images, labels) in contents.items():
        order = tfds_order(split, len(labels))
        rows = getattr(dataset, split)
        assert rows.original_index.tolist() == order.tolist()
        assert rows.index.tolist() == list(range(len(labels)))
        assert np.array_equal(rows.images.numpy().reshape(images.shape), images[order])
        assert np.array_equal(rows.labels.numpy(), labels[order])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_comes_in_published_order(name, protocol, tmp_path):
    contents = write_cifar(tmp_path, name, 60, 20, protocol)
    dataset = load_dataset(name, tmp_path, verify_checksums=False)
    check(dataset, contents)
    assert (dataset.num_classes, dataset.divide_by) == (10 if name == "cifar10" else 100, 255.0)


def test_cifar_is_found_in_its_own_folder_too(tmp_path):
    contents = write_cifar(tmp_path, "cifar10", 60, 20)
    check(load_dataset("cifar10", tmp_path / "cifar-10-batches-py", verify_checksums=False), contents)


@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_cifar_labels_may_come_first(protocol, tmp_path):
    contents = write_cifar(tmp_path, "cifar100", 60, 20)
    images, labels = contents["train"]
    batch = {b"fine_labels": labels.tolist(), b"data": images.reshape(60, 3072)}
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(batch, protocol))
    check(load_dataset("cifar100", tmp_path, verify_checksums=False), contents)


def test_cifar_stored_column_by_column(tmp_path):
    contents = write_cifar(tmp_path, "cifar100", 60, 20)
    images, labels = contents["train"]
    by_column = np.asfortranarray(images.reshape(60, 3072))
    batch = {"data": by_column, "fine_labels": labels.tolist()}
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(batch, 2))
    check(load_dataset("cifar100", tmp_path, verify_checksums=False), contents)


def test_cifar_pickled_by_python_2(tmp_path):
    contents = write_cifar(tmp_path, "cifar100", 60, 20)
    images, labels = contents["test"]
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x14M\x00\x0c\x86"
    array += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    array += b"T" + images.size.to_bytes(4, "little") + images.tobytes() + b"tb"
    numbers = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    pickled = b"\x80\x02}(U\x04data" + array + b"U\x0bfine_labels](" + numbers + b"eu."
    assert np.array_equal(pickle.loads(pickled, encoding="latin1")["data"].ravel(), images.ravel())
    (tmp_path / "cifar-100-python" / "test").write_bytes(pickled)
    check(load_dataset("cifar100", tmp_path, verify_checksums=False), contents)


def test_same_images_as_torchvision(tmp_path, monkeypatch):
    write_cifar(tmp_path, "cifar10", 60, 20)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_load_meta", lambda self: None)
    ours = load_dataset("cifar10", tmp_path, verify_checksums=False).train
    theirs = torchvision.datasets.CIFAR10(str(tmp_path))
    for row, original in enumerate(ours.original_index.tolist()):
        assert np.array_equal(ours.images[row].permute(1, 2, 0).numpy(), theirs.data[original])
        assert ours.labels[row] == theirs.targets[original]


def test_mnist_comes_in_published_order(tmp_path):
    contents = write_mnist(tmp_path, 60, 20)
    dataset = load_dataset("mnist", tmp_path, verify_checksums=False)
    check(dataset, contents)
    assert dataset.train.images.shape == (60, 1, 28, 28)
    theirs = torchvision.datasets.MNIST(str(tmp_path))
    assert torch.equal(dataset.train.images[:, 0], theirs.data[dataset.train.original_index])
    assert torch.equal(dataset.train.labels, theirs.targets[dataset.train.original_index])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_other_cifar_is_refused_unless_asked_for(name, tmp_path):
    write_cifar(tmp_path, name, 60, 20)
    with pytest.raises(DataError, match=r"is not the published file.*verify_checksums=False"):
        load_dataset(name, tmp_path)


def test_mnist_is_found_from_each_of_its_folders(tmp_path):
    write_mnist(tmp_path, 60, 20)
    digests = {
        load_dataset("mnist", folder, verify_checksums=False).digest()
        for folder in (tmp_path, tmp_path / "MNIST", tmp_path / "MNIST" / "raw")
    }
    assert len(digests) == 1


def test_other_mnist_is_refused_unless_asked_for(tmp_path):
    write_mnist(tmp_path, 60, 20)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: is not the published file"):
        load_dataset("mnist", tmp_path)


@pytest.fixture
def remote(tmp_path):
    """A folder, and the address under which it is served."""
    folder = tmp_path / "remote"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with Listener(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_download_is_checked_unpacked_and_read(remote, tmp_path, monkeypatch):
    folder, address = remote
    contents = write_cifar(folder, "cifar100", 60, 20)
    files, archive = folder / "cifar-100-python", folder / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(files, "cifar-100-python")
    source = torchvision.datasets.CIFAR100
    monkeypatch.setattr(source, "url", f"{address}/{archive.name}")
    with pytest.raises(DataError, match="cannot be downloaded"):
        load_dataset("cifar100", tmp_path / "mine", download=True)
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    for split in ("train", "test"):
        md5 = hashlib.md5((files / split).read_bytes()).hexdigest()
        monkeypatch.setattr(source, f"{split}_list", [[split, md5]])
    check(load_dataset("cifar100", tmp_path / "mine", download=True), contents)
    check(load_dataset("cifar100", tmp_path / "mine"), contents)


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "SILENCE", 0.3)
    before = socket.getdefaulttimeout()
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections, and says nothing
        monkeypatch.setattr(
            torchvision.datasets.CIFAR100, "url", f"http://127.0.0.1:{server.getsockname()[1]}/c.tar.gz"
        )
        with pytest.raises(DataError, match=r"c.tar.gz: cannot be downloaded to .*timed out"):
            load_dataset("cifar100", tmp_path, download=True)
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nsome"]
)
def test_a_server_that_speaks_otherwise_or_breaks_off_is_one_line(tmp_path, monkeypatch, said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(2):  # torchvision asks for the way first
                with suppress(OSError), server.accept()[0] as connection:
                    connection.recv(2**16)
                    connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr(
            torchvision.datasets.CIFAR100, "url", f"http://127.0.0.1:{server.getsockname()[1]}/c.tar.gz"
        )
        with pytest.raises(DataError, match=r"c.tar.gz: cannot be downloaded to "):
            load_dataset("cifar100", tmp_path, download=True)
        server.shutdown(socket.SHUT_RDWR)  # or a thread waits there for ever


def test_another_data_set_in_the_folder(tmp_path):
    write_cifar(tmp_path, "cifar100", 60, 20)
    with pytest.raises(DataError, match="does not hold cifar10 "):
        load_dataset("cifar10", tmp_path)
    os.rename(tmp_path / "cifar-100-python" / "train", tmp_path / "cifar-100-python" / "data_batch_1")
    for file in ("data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (tmp_path / "cifar-100-python" / file).write_bytes((tmp_path / "cifar-100-python" / "test").read_bytes())
    with pytest.raises(DataError, match="data_batch_1: has no labels"):
        load_dataset("cifar10", tmp_path / "cifar-100-python", verify_checksums=False)


def rewrite(path, **changes):
    batch = {**pickle.loads(path.read_bytes()), **changes}
    path.write_bytes(pickle.dumps(batch, 2))


def test_label_outside_the_classes_is_named(tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    rewrite(tmp_path / "cifar-10-batches-py" / "data_batch_2", labels=[0, 3, 10] + [1] * 9)
    with pytest.raises(DataError, match=r"data_batch_2: label 10 at position 2, expected 0 \.\.\. 9"):
        load_dataset("cifar10", tmp_path, verify_checksums=False)


@pytest.mark.parametrize("shape", [(12, 3071), (11, 3072), (12, 12288)])
def test_images_of_another_size_are_named(shape, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    rewrite(tmp_path / "cifar-10-batches-py" / "data_batch_3", data=np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"data_batch_3: has 12 labels and .* bytes of pixels"):
        load_dataset("cifar10", tmp_path, verify_checksums=False)


@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"", lambda data: b"\xff" + data[1:]])
def test_damaged_batch_is_named(damage, tmp_path):
    write_cifar(tmp_path, "cifar10", 60, 20)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="test_batch: is not a readable pickle"):
        load_dataset("cifar10", tmp_path, verify_checksums=False)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    contents = write_cifar(tmp_path, "cifar10", 60, 20)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    images, labels = contents["test"]
    batch = {"data": images.reshape(20, 3072), "labels": labels.tolist(), "bomb": Bomb()}
    path.write_bytes(pickle.dumps(batch, 2))
    check(load_dataset("cifar10", tmp_path, verify_checksums=False), contents)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "exploded").exists()


def test_mnist_with_images_missing(tmp_path):
    write_mnist(tmp_path, 60, 20)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: is not a whole idx file"):
        load_dataset("mnist", tmp_path, verify_checksums=False)
    path.unlink()
    with pytest.raises(DataError, match="does not hold mnist"):
        load_dataset("mnist", tmp_path, verify_checksums=False)


def test_mnist_with_a_label_outside_the_classes(tmp_path):
    write_mnist(tmp_path, 60, 20)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: label 10 at position 59"):
        load_dataset("mnist", tmp_path, verify_checksums=False)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "imagenet"])
def test_no_path_is_a_clear_error(name):
    with pytest.raises(DataError, match="give the path of its folder"):
        load_dataset(name)


def test_unknown_name(tmp_path):
    with pytest.raises(DataError, match="'svhn' is not known"):
        load_dataset("svhn", tmp_path)
