"""Archives made to harm, and archives that came to harm: named, bounded, and nothing outside the zoo."""

import gzip
import io
import tarfile

import pytest
from isal import igzip

from heldout_torch.archives.stream import export_archive
from tests.helpers.archives import EXPERIMENT, contents, multiply, pack
from tests.helpers.memory import growth
from tests.helpers.zoos import export as export_tree

RUN = f"{EXPERIMENT}/0.7/0"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Three runs: the files of the first, the whole tar stream, and the contents of the export."""
    folder = tmp_path_factory.mktemp("good")
    tree = multiply(folder / "tree", 3)
    export_tree(tree, folder / "zoo")
    stream = gzip.decompress(pack(tree, folder / "good.tar.gz", seed=None).read_bytes())
    files = {str(path.relative_to(tree / RUN)): path.read_bytes() for path in (tree / RUN).rglob("*") if path.is_file()}
    return files, stream, contents(folder / "zoo")


def write(path, members):
    """Write an archive of (header, data) pairs."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for header, data in members:
            tar.addfile(header, io.BytesIO(data))


def member(name, data=b"", kind=tarfile.REGTYPE, link="", size=None):
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.size = kind, link, len(data) if size is None else size
    return header, data


def export(path, zoo):
    with open(path, "rb") as stream:
        results = list(export_archive(stream, path.name, zoo, workers=2))
    return [result.error for result in results if result.error], sum(result.error is None for result in results)


@pytest.mark.parametrize("header", [member("my label", kind=b"V"), member(f"{RUN}/", b"Yaux_arrays.npz\0\0", b"D")])
def test_labels_and_lists_of_names_that_gnu_tar_writes_are_passed_over(good, tmp_path, header):
    """As `tar --label` and `--listed-incremental` do."""
    files, _, expected = good
    path = tmp_path / "of_gnu.tar.gz"
    write(path, [header, *(member(f"{RUN}/{name}", data) for name, data in files.items())])
    assert export(path, tmp_path / "zoo") == ([], 1)
    found = contents(tmp_path / "zoo")
    assert found == {name: data for name, data in expected.items() if name in found}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (member(f"/{RUN}/aux_arrays.npz", b"x"), "absolute path"),
        (member("/etc/heldout", b"x"), "absolute path"),
        (member(f"../{RUN}/aux_arrays.npz", b"x"), "the path leads out of its folder"),
        (member(f"{EXPERIMENT}/0.7/../../../out", b"x"), "the path leads out of its folder"),
        (member(f"{RUN}/aux_arrays.npz", kind=tarfile.SYMTYPE, link="/etc/passwd"), "link to '/etc/passwd'"),
        (member(f"{RUN}/checkpoints/ckpt-30.index", kind=tarfile.LNKTYPE, link="../../x"), "link to '../../x'"),
        (member(f"{RUN}/aux_arrays.npz", kind=tarfile.CHRTYPE), "neither a file nor a folder"),
        (member(f"{RUN}/aux_arrays.npz", kind=tarfile.BLKTYPE), "neither a file nor a folder"),
        (member(f"{RUN}/aux_arrays.npz", kind=tarfile.FIFOTYPE), "neither a file nor a folder"),
    ],
)
def test_a_member_that_is_no_plain_file_of_its_place_is_refused_by_name(good, tmp_path, bad, reason):
    files, _, expected = good
    (tmp_path / "inside").mkdir()
    path = tmp_path / "hostile.tar.gz"
    write(path, [bad, *(member(f"{RUN}/{name}", data) for name, data in files.items())])
    errors, exported = export(path, tmp_path / "inside" / "zoo")
    assert errors == [f"hostile.tar.gz: member {bad[0].name!r} is refused: {reason}"]
    assert exported == 1
    found = contents(tmp_path / "inside" / "zoo")
    assert found == {name: data for name, data in expected.items() if name.startswith(f"{RUN}/")}
    assert {p.name for p in tmp_path.iterdir()} == {"inside", path.name}
    assert {p.name for p in (tmp_path / "inside").iterdir()} == {"zoo"}


@pytest.mark.parametrize(
    "bad",
    [
        member("../" + "x" * 60_000),
        member("a", kind=tarfile.SYMTYPE, link="x" * 60_000),
        member(f"{'x/' * 30_000}{RUN}/aux_arrays.npz", b"from a second folder"),
    ],
)
def test_of_a_name_as_long_as_a_header_may_be_the_beginning_is_told(good, tmp_path, bad):
    files, _, _ = good
    first = member(f"{RUN}/checkpoints/ckpt-30.index", files["checkpoints/ckpt-30.index"])
    write(tmp_path / "bad.tar.gz", [first, bad])
    (error, *_), done = export(tmp_path / "bad.tar.gz", tmp_path / "zoo")
    assert done == 0
    assert "x" in error
    assert len(error) < 500


def test_a_member_that_declares_a_huge_size_is_refused_and_never_read(good, tmp_path):
    files, _, _ = good
    header, _ = member(f"{RUN}/checkpoints/ckpt-30.data-00000-of-00001", size=2**40)
    write(tmp_path / "hostile.tar.gz", [member(f"{RUN}/aux_arrays.npz", files["aux_arrays.npz"])])
    # tarfile writes no such member, so its header is put before the end mark by hand.
    stream = gzip.decompress((tmp_path / "hostile.tar.gz").read_bytes()).rstrip(b"\0")
    stream += b"\0" * (-len(stream) % 512) + header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240
    (tmp_path / "hostile.tar.gz").write_bytes(gzip.compress(stream))
    errors, exported = export(tmp_path / "hostile.tar.gz", tmp_path / "zoo")
    assert exported == 0
    assert "declares 1099511627776 bytes, a run of digits-mlp-tf has at most" in errors[0]
    assert "cut off" in errors[1]


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 1])
def test_a_truncated_archive_keeps_what_was_finished(good, tmp_path, kept):
    _, stream, expected = good
    data = gzip.compress(stream)
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(data[: int(kept * len(data)) - 4])
    errors, exported = export(path, tmp_path / "zoo")
    assert "cut.tar.gz: is damaged or cut off near unpacked byte" in errors[0]
    assert exported == {0.05: 0, 0.5: 1, 0.9: 2, 1: 3}[kept]
    assert contents(tmp_path / "zoo").items() <= expected.items()
    assert len(contents(tmp_path / "zoo")) == 3 * exported
    assert not (tmp_path / "zoo" / EXPERIMENT / "archive.json").exists()


def test_a_flipped_bit_anywhere_is_found(good, tmp_path):
    _, stream, expected = good
    data = bytearray(gzip.compress(stream))
    path = tmp_path / "flipped.tar.gz"
    for place in range(20, len(data), len(data) // 40):
        flipped = data.copy()
        flipped[place] ^= 16
        path.write_bytes(flipped)
        errors, _ = export(path, tmp_path / str(place))
        assert errors, place
        assert contents(tmp_path / str(place)).items() <= expected.items()


@pytest.mark.parametrize("garbage", [b"garbage after the end", b"\x1f\x8b garbage that looks like gzip"])
def test_trailing_garbage_is_reported_and_the_runs_stay(good, tmp_path, garbage):
    _, stream, expected = good
    path = tmp_path / "trailing.tar.gz"
    path.write_bytes(gzip.compress(stream) + garbage)
    errors, exported = export(path, tmp_path / "zoo")
    assert len(errors) == 1
    assert exported == 3
    assert contents(tmp_path / "zoo") == expected


def test_data_after_the_end_mark_is_reported(good, tmp_path):
    path = tmp_path / "twice.tar.gz"
    path.write_bytes(gzip.compress(good[1] + b"more"))
    assert "data after the end of the archive" in export(path, tmp_path / "zoo")[0][0]


def test_a_damaged_header_does_not_pass_for_the_end(good, tmp_path):
    """Even where gzip's own checksum is right."""
    _, stream, _ = good
    place = stream.index(f"{EXPERIMENT}/0.7/2/aux".encode())
    damaged = stream[: place + 150] + b"9999" + stream[place + 154 :]
    (tmp_path / "header.tar.gz").write_bytes(gzip.compress(damaged))
    errors, exported = export(tmp_path / "header.tar.gz", tmp_path / "zoo")
    assert "bad header" in errors[0]
    assert exported == 2


def test_two_checkpoints_in_one_run_are_no_run(good, tmp_path):
    files, _, _ = good
    members = [member(f"{RUN}/{name}", data) for name, data in files.items()]
    members += [member(f"{RUN}/{n.replace('30', '31')}", data) for n, data in files.items() if "30" in n]
    write(tmp_path / "two.tar.gz", sorted(members, key=lambda pair: pair[0].name, reverse=True))
    errors, _ = export(tmp_path / "two.tar.gz", tmp_path / "zoo")
    assert len(errors) == 1
    write(tmp_path / "late.tar.gz", members)
    errors, exported = export(tmp_path / "late.tar.gz", tmp_path / "late")
    assert "after the run was complete" in errors[0]
    assert exported == 1


def test_an_unknown_experiment_is_named_once_and_the_others_exported(good, tmp_path):
    files, _, _ = good
    members = [member(f"{e}/0.7/{r}/{n}", d) for e in ("who", EXPERIMENT) for r in (0, 1) for n, d in files.items()]
    write(tmp_path / "mixed.tar.gz", members)
    errors, exported = export(tmp_path / "mixed.tar.gz", tmp_path / "zoo")
    assert len(errors) == 1
    assert "experiment 'who' is not known" in errors[0]
    assert exported == 2


IMPORTS = "from heldout_torch.archives.stream import export_archive\nimport heldout_torch.archives.convert, torchvision"
EXPORT = """
with open(folder / "bomb.tar.gz", "rb") as stream:
    for result in export_archive(stream, "bomb.tar.gz", folder / "zoo"):
        print(result.error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error"),
    [("member", "declares 2147483648 bytes"), ("header", "bad header"), ("other", ""), ("tail", "")],
)
def test_a_bomb_of_two_gigabytes_takes_no_memory(tmp_path, kind, error):
    header = tarfile.TarInfo(f"{RUN}/checkpoints/ckpt-1.data-00000-of-00001" if kind == "member" else "x")
    header.size = 2**31
    if kind == "header":
        header.type = tarfile.GNUTYPE_LONGNAME
    with igzip.open(tmp_path / "bomb.tar.gz", "wb", compresslevel=1) as bomb:
        bomb.write(header.tobuf() if kind != "tail" else bytes(1024))
        for _ in range(2**31 // 2**24):
            bomb.write(bytes(2**24))
    megabytes, printed = growth(tmp_path, IMPORTS, EXPORT)
    assert megabytes < 100
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 2**25
    assert error in printed
