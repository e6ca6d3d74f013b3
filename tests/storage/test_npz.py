"""npz and npy files: NumPy's are read, ours are read by NumPy, and what is damaged or too large is one line."""

import io
import random
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from heldout_torch.errors import DataError, ZooError
from heldout_torch.storage.npz import map_npy, npz_bytes, read_npy, read_npz
from tests.soak.mutants import of_bytes

ARRAYS = {
    "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "bits": np.array([True, False]),
    "words": np.array(["äb", "c"]),
    "names": np.array([b"ab", b"c"]),
    "big_endian": np.arange(3, dtype=">i8"),
    "scalar": np.array(7),
    "empty": np.empty((0, 5)),
}


def npy(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), version, allow_pickle=True)
    return buffer.getvalue()


def headed(header, body=b""):
    header = header.encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def zipped(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of two members of one name
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def assert_equal(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.flags.writeable
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    for source in (tmp_path / "a.npz", str(tmp_path / "a.npz"), (tmp_path / "a.npz").read_bytes()):
        found = read_npz(source)
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert_equal(found[name], array)


@pytest.mark.parametrize("name", ["numbers", "columns", "big_endian", "empty"])
def test_a_mapped_array_is_the_one_of_the_file_and_only_read(name, tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    found = map_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, ARRAYS[name], strict=True)
    assert isinstance(found, np.memmap) == (not found.flags.writeable) == (name != "empty")


@given(numpy_st.arrays(st.sampled_from("?bBhHiIqQefdFD"), numpy_st.array_shapes(min_dims=0, max_dims=4, min_side=0)))
@settings(max_examples=50, deadline=None)
def test_any_array_survives(array):
    for version in ((1, 0), (2, 0), (3, 0)):
        assert_equal(read_npy(npy(array, version)), array)
    assert_equal(read_npz(npz_bytes({"a": array}, compress=True))["a"], array)


@pytest.mark.parametrize("compress", [True, False])
def test_numpy_reads_what_we_write_and_equal_arrays_are_equal_bytes(compress, monkeypatch):
    data = npz_bytes(ARRAYS, compress)
    with np.load(io.BytesIO(data), allow_pickle=False) as npz:
        assert list(npz.files) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(npz[name], array)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2030, 1, 1, 0, 0, 0, 0, 0, 0))
    assert npz_bytes(ARRAYS, compress) == data
    assert (len(data) < len(npz_bytes(ARRAYS))) == compress


def test_only_what_is_wanted_is_read_whatever_lies_beside_it():
    data = zipped([
        ("a.npy", npy(1)), ("loss.npy", npy(np.array([{"a": 1}], object))), ("b.npy", b"no array"),
        ("notes.txt", b"text"), ("c.npy", npy(3)),
    ])  # fmt: skip
    assert read_npz(data, wanted=["a"]) == {"a": 1}
    assert read_npz(data, wanted=["c"], optional=["a", "z"]) == {"c": 3, "a": 1}
    with pytest.raises(DataError, match="file: has no d, e, only a, b, c, loss"):
        read_npz(data, "file", ["a", "e", "d"])


def test_arrays_are_bounded_together(tmp_path):
    data = npz_bytes({name: np.zeros(10) for name in "abc"})
    each = len(npy(np.zeros(10)))
    assert list(read_npz(data, max_bytes=3 * each)) == ["a", "b", "c"]
    assert list(read_npz(data, wanted=["b"], optional=["c", "d"], max_bytes=2 * each)) == ["b", "c"]
    with pytest.raises(DataError, match=f"unpacks to {3 * each} bytes, more than the largest size"):
        read_npz(data, max_bytes=3 * each - 1)


def test_objects_are_refused_or_given_as_bytes(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    data = zipped([("a.npy", npy(np.array([Bomb(), Bomb()], object)))])
    (tmp_path / "touched").unlink(missing_ok=True)
    with pytest.raises(DataError, match="a holds object, expected numbers or text"):
        read_npz(data)
    seen = []
    read_npz(data, objects=lambda pickled, shape: seen.append((b"touched" in pickled, shape)) or np.zeros(2))
    assert seen == [(True, (2,))]
    assert not (tmp_path / "touched").exists()


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        "{'shape': (1L,), 'descr': '<f8', 'fortran_order': False}\n",
        '{"descr": "<f8", "fortran_order": False, "shape": (1, ), }',
    ],
)
def test_headers_of_other_writers_are_read(header):
    assert read_npy(headed(header, bytes(8))).tolist() == [0.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it ends too early"),
        (b"no npy file at all", "does not begin like"),
        (npy(1)[:-1], "7 bytes, but its shape is"),
        (npy(1) + b"x", "9 bytes, but its shape is"),
        (npy(1)[:30], "ends too early"),
        (b"\x93NUMPY\x04" + npy(1)[7:], "version 4"),
        (headed(HEADER.replace("1", "9" * 900)), "its shape is"),
        (headed(HEADER.replace("1", "9" * 5000)), "header that cannot be read"),
        (headed(HEADER.replace("(1,)", f"(0, {2**62}, {2**62})")), "."),
        (headed(HEADER.replace("1", "-1"), bytes(8)), "header that cannot be read"),
        (headed(HEADER.replace("<f8", "<f7"), bytes(7)), "f7"),
        (headed(HEADER.replace("<f8", "<U0")), "expected numbers or text"),
        (headed(HEADER.replace("<f8", "|V8"), bytes(8)), "expected numbers or text"),
        (headed(HEADER.replace("'<f8'", "[('a', '<f8')]"), bytes(8)), "header that cannot be read, or records"),
        (headed(HEADER.replace("<f8", "f8,f8"), bytes(16)), "header that cannot be read"),
        (headed("{'descr': '<f8', 'descr': '<f8', 'shape': (1,), }", bytes(8)), "header that cannot be read"),
        (headed("(" * 9000), "header that cannot be read"),
        (headed(" " * 20_000), "header of 20000 bytes"),
        (headed(HEADER.replace("(1,)", f"({'1,' * 65})"), bytes(8)), "."),
    ],
)
def test_wrong_npy_files_are_one_line(data, message):
    with pytest.raises(DataError, match=message):
        read_npy(data)
    for error in (DataError, ZooError):
        with pytest.raises(error, match=message) as caught:
            read_npz(zipped([("a.npy", data)]), "the file", error=error)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("the file: ")


def test_wrong_npz_files_are_one_line(tmp_path):
    with pytest.raises(DataError, match=r"a.npz: cannot be read \(No such file"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(DataError, match="Is a directory"):
        read_npz(tmp_path)
    with pytest.raises(DataError, match="npz file: is not a readable npz file"):
        read_npz(b"no zip file")
    with pytest.raises(DataError, match="it holds 'a' twice"):
        read_npz(zipped([("a.npy", npy(1)), ("a.npy", npy(2))]), wanted=["a"])
    with pytest.raises(DataError, match="compressed in another way"):
        read_npz(zipped([("a.npy", npy(1))], zipfile.ZIP_LZMA))
    encrypted = bytearray(zipped([("a.npy", npy(1))]))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match="encrypted"):
        read_npz(bytes(encrypted))


def grown(action):
    """Bytes that an action takes at most, beyond what there was."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(true_size, declared):
    """A deflated array whose directory declares fewer bytes than it has."""
    header = npy(np.zeros(0, np.uint8)).replace(b"(0,)", b"(%d,)" % (declared - 128))[:128]
    data = bytearray(zipped([("a.npy", header + bytes(true_size - 128))], zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(signature) + offset
        data[place : place + 4] = declared.to_bytes(4, "little")
    return bytes(data)


def test_what_unpacks_to_too_much_is_not_unpacked():
    def refused(data, message, **options):
        with pytest.raises(DataError, match=message):
            read_npz(data, **options)

    honest = zipped([("a.npy", npy(np.zeros(2**28, np.uint8)))], zipfile.ZIP_DEFLATED)
    assert (
        grown(lambda: refused(honest, "unpacks to 268435584 bytes, more than the largest size expected, 67108864"))
        < 2**23
    )
    assert grown(lambda: refused(honest, "more than the largest size expected, 1000", max_bytes=1000)) < 2**23
    assert len(read_npz(honest, max_bytes=2**29)["a"]) == 2**28
    lying = bomb(2**28, 2**20)
    assert grown(lambda: refused(lying, "Bad CRC-32")) < 2**24


def test_a_list_of_too_many_members_is_not_read():
    data = zipped((f"{i}.npy", b"") for i in range(100_000))

    def read():
        with pytest.raises(DataError, match="list of members is too long"):
            read_npz(data)

    assert grown(read) < 2**24


def test_damaged_files_give_one_line_or_the_same_arrays():
    data = npz_bytes({name: array for name, array in ARRAYS.items() if array.size}, compress=True)
    chance = random.Random(0)
    for _ in range(1500):
        try:
            found = read_npz(of_bytes(data, chance))
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            for name in set(found) & set(ARRAYS):
                np.testing.assert_array_equal(found[name], ARRAYS[name])
