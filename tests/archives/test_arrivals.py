"""What makes a run of an archive's files: an export in one pass and a seek index agree, whatever the archive does."""

import gzip
import io
import itertools
import tarfile

import pytest

from heldout_torch import HeldoutError, load_run
from heldout_torch.archives import arrivals
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.inspection import inspect_archive
from heldout_torch.archives.stream import export_archive
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.selection import Selection
from tests.helpers.archives import EXPERIMENT, multiply

AUX = "aux_arrays.npz"
RUN = f"{EXPERIMENT}/0.7/0"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Files of three runs, by number."""
    tree = multiply(tmp_path_factory.mktemp("runs"), 3)
    found = {}
    for number in range(3):
        folder = tree / EXPERIMENT / "0.7" / str(number)
        found[number] = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return found


def members(folder, files):
    return [(f"{folder}/{name}", data) for name, data in sorted(files.items())]


def export_and_index(tmp_path, files):
    """Write an archive; export and index it.

    Returns:
        Runs that the export made and that can be loaded through the index, with their weights; errors of both.
    """
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with open(path, "rb") as stream:
        errors = [result.error for result in export_archive(stream, path.name, tmp_path / "zoo") if result.error]
    exported = {key: weights(key, tmp_path / "zoo") for key in FolderZoo(tmp_path / "zoo").keys()}
    try:
        index = build_index(path)
    except HeldoutError as error:
        return exported, {}, errors, [str(error)]
    return exported, {key: weights(key, path) for key in index.keys}, errors, index.problems


def weights(key, zoo):
    run = load_run(key.experiment, key.subset_ratio, key.run, zoo)
    return [tensor.tolist() for tensor in run.model.state_dict().values()], run.metadata.source_sha256


@pytest.mark.parametrize("before", ["data", "./some/data", "a/b/0.5/3", ".", "x//y"])
def test_leading_folders_do_not_matter(runs, tmp_path, before):
    exported, indexed, errors, problems = export_and_index(tmp_path, members(f"{before}/{RUN}", runs[0]))
    assert [str(key) for key in exported] == [RUN]
    assert exported == indexed
    assert errors == problems == []


@pytest.mark.parametrize(
    "other", [f"{EXPERIMENT}/0.70/0", f"{EXPERIMENT}/7e-1/0", f"{EXPERIMENT}/0.7/00", f"copy/{RUN}"]
)
def test_two_spellings_of_one_run_are_never_mixed(runs, tmp_path, other):
    """Today a run is made of the aux arrays of one and the weights of the other."""
    mixed = [pair for pair in members(RUN, runs[0]) if AUX in pair[0]]
    mixed += [pair for pair in members(other, runs[1]) if AUX not in pair[0]]
    exported, indexed, errors, problems = export_and_index(tmp_path, mixed + members(f"{EXPERIMENT}/0.7/2", runs[2]))
    assert [key.run for key in exported] == [2]
    assert exported == indexed
    (error,), (problem,) = errors, problems
    assert f"the run lies under {other!r}, too; it is unclear which one counts" in error
    assert error in problem


def test_the_same_path_in_other_words_is_one_spelling(runs, tmp_path):
    files = members(RUN, runs[0])
    files = [(f"./{files[0][0]}", files[0][1]), *files[1:]]
    exported, indexed, errors, _ = export_and_index(tmp_path, files)
    assert len(exported) == 1
    assert exported == indexed
    assert errors == []


def test_a_run_that_comes_twice_is_the_first_in_export_and_index(runs, tmp_path):
    """Today the index takes the last."""
    exported, indexed, errors, problems = export_and_index(tmp_path, members(RUN, runs[0]) + members(RUN, runs[1]))
    assert exported == indexed
    assert len(exported) == 1
    assert "comes after the run was complete, or twice" in errors[0]
    assert [f"run {RUN}: {errors[0]}"] == problems


def test_a_file_that_comes_twice_before_the_run_is_whole_makes_it_no_run(runs, tmp_path):
    files = members(RUN, runs[0])
    exported, indexed, errors, problems = export_and_index(
        tmp_path, [files[0], *files, *members(f"{EXPERIMENT}/0.7/2", runs[2])]
    )
    assert [key.run for key in exported] == [2]
    assert exported == indexed
    assert len(errors) == len(problems) == 1


def test_a_folder_of_two_checkpoints_is_no_run(runs, tmp_path):
    more = {name.replace("30", "31"): data for name, data in runs[0].items() if "30" in name}
    exported, indexed, errors, problems = export_and_index(tmp_path, members(RUN, {**runs[0], **more})[::-1])
    assert exported == indexed == {}
    assert "incomplete" in errors[0]
    assert "no complete runs" in problems[0]


def test_any_order_of_two_runs_files_and_spellings_agrees(runs, tmp_path):
    """Two spellings with three files each, in every order in which they can be shuffled (of one each: 20)."""
    one, two = members(RUN, runs[0]), members(f"{EXPERIMENT}/0.70/0", runs[1])
    for number, places in enumerate(itertools.combinations(range(6), 3)):
        first, second = iter(one), iter(two)
        files = [next(first) if place in places else next(second) for place in range(6)]
        (tmp_path / str(number)).mkdir()
        exported, indexed, _, _ = export_and_index(tmp_path / str(number), files)
        assert exported == indexed


def test_what_macos_keeps_beside_files_is_ignored(runs, tmp_path):
    """Today: two checkpoints."""
    beside = [(f"{RUN}/checkpoints/._ckpt-30.index", b"Mac OS X"), (f"{RUN}/._{AUX}", b"Mac OS X")]
    beside += [(f"{RUN}/checkpoints/._ckpt-30.data-00000-of-00001", b"Mac OS X"), (f"{EXPERIMENT}/0.7/._0", b"Mac")]
    exported, indexed, errors, problems = export_and_index(tmp_path, beside + members(RUN, runs[0]))
    assert len(exported) == 1
    assert exported == indexed
    assert errors == problems == []


def test_names_from_an_archive_reach_the_terminal_without_escapes(runs, tmp_path):
    name = f"{RUN}/checkpoints/\x1b[31m.index"
    _, _, errors, problems = export_and_index(
        tmp_path, [(name, b"x"), (f"\x1b]0;title\x07/../{RUN}/{AUX}", b"x"), *members(RUN, runs[0])[:1]]
    )
    assert errors
    assert not any("\x1b" in line or "\x07" in line for line in errors + problems)


def test_a_damaged_archive_is_found_by_both(runs, tmp_path):
    path = tmp_path / "x.tar.gz"
    export_and_index(tmp_path, members(RUN, runs[0]))
    stream = bytearray(gzip.decompress(path.read_bytes()))
    stream[148] ^= 1  # a header's sum
    path.write_bytes(gzip.compress(stream))
    with pytest.raises(HeldoutError, match="bad header: bad checksum"):
        build_index(path)


def test_runs_without_end_are_refused_though_none_is_asked_for(runs, tmp_path, monkeypatch):
    """Only those asked for were counted, and all were remembered."""
    monkeypatch.setattr(arrivals, "RUNS", 3)
    path = tmp_path / "x.tar.gz"
    for experiment in (EXPERIMENT, "who"):
        with tarfile.open(path, "w:gz") as tar:
            for number in range(9):
                tar.addfile(tarfile.TarInfo(f"{experiment}/0.7/{number}/{AUX}"))
        for read in (export_none, lambda stream: inspect_archive(stream, path.name, 2**20).problems):
            with open(path, "rb") as stream:
                found = list(read(stream))
            assert f"{path.name}: names more than 3 runs, more than any archive has" in found, (experiment, read)


def export_none(stream):
    """Return what an export of a run that does not come says."""
    selection = Selection(EXPERIMENT, [0.7], [99])
    return [outcome.error for outcome in export_archive(stream, "x.tar.gz", "memory://none", selection)]
