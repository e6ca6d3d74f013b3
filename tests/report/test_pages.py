"""The written report: its values, its gaps, its errors, and what it escapes."""

import base64
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from heldout_torch.data import ArrayDataset, as_stored
from heldout_torch.errors import DataError, HeldoutError
from heldout_torch.report import gather_statistics, write_report
from heldout_torch.stats import (
    ExampleFacts,
    RunTable,
    consistency,
    consistency_interval,
    example_counts,
    facts_of,
    influence_pairs,
    memorization,
    memorization_interval,
    reliability,
)
from tests.report.conftest import HOSTILE
from tests.report.read_page import read_examples, read_script

N, BLOCK = 1437, 1000


def assert_same_floats(written, expected):
    values = np.array([np.nan if value is None else value for value in written], np.float32)
    np.testing.assert_array_equal(values, expected)


def test_every_example_has_the_values_of_the_statistics(folder, tables):
    columns = read_examples(folder, N, BLOCK)
    table, counts, scores = tables[0.7], example_counts(tables[0.7]), consistency(tables)
    assert_same_floats(columns["memorization"], memorization(table))
    assert_same_floats(columns["score"], scores.scores)
    for prefix, ends in (("", memorization_interval(table)), ("score_", consistency_interval(tables))):
        assert_same_floats(columns[f"{prefix}low"], ends[0])
        assert_same_floats(columns[f"{prefix}high"], ends[1])
    assert_same_floats(np.array(columns["by_ratio"]).T.ravel(), scores.per_ratio.ravel())
    for name, expected in (
        ("trained", counts.trained_on),
        ("trained_right", counts.correct_trained_on),
        ("held", counts.held_out),
        ("held_right", counts.correct_held_out),
    ):
        assert columns[name] == expected.tolist()


def test_the_runs_of_an_example_are_those_that_held_it_out(folder, tables):
    runs = read_script(folder, "setup")["runs"]
    packed = np.frombuffer(base64.b64decode(read_examples(folder, N, BLOCK)["runs"][1200]), np.uint8)
    trained, right = np.unpackbits(packed.reshape(2, -1), axis=1, count=len(runs), bitorder="little")
    assert np.flatnonzero(trained == 0).tolist() == np.flatnonzero(~tables[0.7].mask()[:, 1200]).tolist()
    assert [f"digits-mlp/0.7/{run}" for run in runs] == list(tables[0.7].keys)
    counts = example_counts(tables[0.7])
    assert (trained & right).sum() == counts.correct_trained_on[1200]
    assert right.sum() - (trained & right).sum() == counts.correct_held_out[1200]


def test_the_pairs_are_those_of_the_statistics(folder, tables, digits):
    labels = digits.labels("train").numpy(), digits.labels("test").numpy()
    pairs, written = influence_pairs(tables[0.7], *labels), read_script(folder, "pairs")
    assert len(pairs) > 20
    assert written["train"] == pairs.train_index.tolist()
    assert written["test"] == pairs.test_index.tolist()
    assert_same_floats(written["influence"], pairs.influence)
    for name in ("low", "high", "false_discovery_rate"):
        assert_same_floats(written[name], getattr(pairs, name).astype(np.float32))
    likely = (pairs.false_discovery_rate <= 0.05).sum()
    assert 0 < likely < len(pairs)
    assert (
        f"{likely} of the {len(pairs)} pairs were found at a false-discovery rate (FDR)"
        in (folder / "index.html").read_text()
    )
    memorized = dict(zip(written["examples"]["index"], written["examples"]["memorization"], strict=True))
    assert_same_floats([memorized[example] for example in written["train"]], pairs.memorization)


def test_galleries_hold_examples_of_their_class_and_level(folder, tables, digits):
    labels, values = digits.labels("train").numpy(), memorization(tables[0.7])
    group = read_script(folder, "group-3")
    for name, level in (("level-0", 0), ("level-1", 0.5), ("level-2", 1)):  # the titles on the page
        assert set(labels[group[name]]) == {3}
        assert (np.abs(values[group[name]] - level) <= 0.25).all()
        assert np.abs(values[group[name][0]] - level) == np.nanmin(np.abs(values[labels == 3] - level))
    scores = consistency(tables).scores
    least = np.sort(scores[labels == 3])[: len(group["irregular"])]
    np.testing.assert_array_equal(scores[group["irregular"]], least)
    shown = read_script(folder, "group-all")["examples"]
    assert_same_floats(shown["memorization"], values[shown["index"]])


def test_the_reliability_is_told_of_the_halves_and_of_all_runs(folder, tables):
    found = reliability(tables[0.7], memorization)
    whole = 2 * found.correlation / (1 + found.correlation)
    assert (
        f"with a correlation of {found.correlation:.2f}; two tables of as many runs as all of these would have one of "
        f"{whole:.2f} (Spearman and Brown)" in (folder / "index.html").read_text()
    )


def test_what_users_name_is_never_markup(folder):
    page = (folder / "index.html").read_text()
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;window.hacked=1&lt;/script&gt;") == 3 + 1  # three filters, and the command
    assert read_script(folder, "setup")["classes"][0] == HOSTILE
    assert page.count("<script") == 3


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.ids, self.labels, self.headings = [], set(), [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("src", "href") if name in given]
        self.ids.add(given.get("id"))
        self.labels += [given[name] for name in ("for", "aria-labelledby") if name in given]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def test_the_page_refers_to_nothing_outside_its_folder(folder):
    page = Links()
    page.feed((folder / "index.html").read_text())
    files = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert set(files) == {"report.css", "report.js", "data/setup.js", "data/group-all.js"}
    assert all((folder / link).is_file() for link in files)
    assert {link[1:] for link in page.links if link.startswith("#") and link != "#"} <= page.ids
    assert set(page.labels) <= page.ids
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(", (folder / "report.js").read_text())
    assert not re.search(r"https?:|url\(", (folder / "report.css").read_text())


def test_headings_descend_one_level_at_a_time(folder):
    page = Links()
    page.feed((folder / "index.html").read_text())
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


class Incomplete(ArrayDataset):
    def picture(self, split, index):
        if split == "train" and index >= 1000:
            raise DataError("the image is missing")
        return super().picture(split, index)


def test_missing_images_and_empty_classes_are_marked_gaps(tables, digits, experiment, tmp_path):
    wide = Incomplete("digits", digits.train, digits.test, 12, 16.0)  # two classes without examples
    page = write_report(gather_statistics(tables, wide), experiment, wide, tmp_path / "out")
    pictures = read_examples(page.parent, N, BLOCK)["picture"]
    assert min(pictures[:1000]) >= 0
    assert set(pictures[1000:]) == {-1}
    setup = read_script(page.parent, "setup")
    assert setup["pictures"] == 1000 + 360
    assert sorted(picture for picture in pictures if picture >= 0) == sorted(set(pictures[:1000]))
    empty = read_script(page.parent, "group-11")
    assert empty["level-0"] == empty["regular"] == empty["examples"]["index"] == []


def test_examples_without_an_estimate_are_said_to_have_none(digits, experiment, tmp_path):
    rng = np.random.RandomState(0)
    trained = rng.rand(8, N) < 0.5
    trained[:, :3] = True
    table = RunTable.from_arrays(trained, rng.rand(8, N) < 0.9, rng.rand(8, 360) < 0.9, mix_ratios=True)
    page = write_report(gather_statistics({0.5: table}, digits), experiment, digits, tmp_path / "out")
    assert re.search(r"[1-9]\d* examples have no estimate", page.read_text())
    assert "needs runs at several ratios" in page.read_text()
    columns = read_examples(tmp_path / "out", N, BLOCK)
    assert columns["memorization"][:3] == [None] * 3


def test_a_folder_that_is_not_empty_is_left_alone(statistics, experiment, digits, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(HeldoutError, match="exists and is not an empty folder"):
            write_report(statistics, experiment, digits, out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(DataError, match=r"report\.html: is the name of a file, but a folder is written"):
        write_report(statistics, experiment, digits, tmp_path / "report.html")
    (tmp_path / "empty").mkdir()
    assert write_report(statistics, experiment, digits, tmp_path / "empty").is_file()


def test_a_failure_leaves_nothing_behind(statistics, experiment, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("heldout_torch.report.payload.block_script", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(statistics, experiment, digits, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_together_is_refused(statistics, experiment, digits, tmp_path):
    with pytest.raises(HeldoutError, match="3 class names given, digits has 10 classes"):
        write_report(statistics, experiment, digits, tmp_path / "out", class_names=["a", "b", "c"])
    with pytest.raises(DataError, match="another experiment"):
        write_report(statistics, replace(experiment, train_examples=50000), digits, tmp_path / "out")
    fewer = replace(digits, test=as_stored(digits.test.images[:5], digits.test.labels[:5]))
    with pytest.raises(DataError, match="digits has 1437 training and 5 test examples"):
        write_report(statistics, experiment, fewer, tmp_path / "out")


@pytest.mark.parametrize("labels", [True, False])
def test_without_images_figures_and_numbers_are_shown(tables, statistics, experiment, digits, tmp_path, labels):
    train, test = (facts_of(digits, split) for split in ("train", "test"))
    if not labels:
        train, test = ExampleFacts(train.size), ExampleFacts(test.size)
    gathered = gather_statistics(tables, examples=(train, test))
    page = write_report(gathered, experiment, None, tmp_path / "out").read_text()
    assert "The images were not given" in page
    assert page.count("<svg") == (3 if labels else 2)
    assert ("the labels were not given" in page) != labels
    written = read_examples(tmp_path / "out", N, BLOCK)
    assert_same_floats(written["memorization"], statistics.memorization)
    assert set(written["picture"]) == {-1}
    assert written["label"] == (digits.train.labels.tolist() if labels else [-1] * N)
    assert not (tmp_path / "out" / "images").exists()
    assert len(read_script(tmp_path / "out", "setup")["classes"]) == (10 if labels else 0)


def test_a_missing_jinja2_is_asked_for_by_name(statistics, experiment, digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(HeldoutError, match="a report needs jinja2, which is not installed: pip install jinja2"):
        write_report(statistics, experiment, digits, tmp_path / "out")


def test_the_same_statistics_give_the_same_bytes(folder, statistics, experiment, digits, tmp_path):
    names = [HOSTILE, *(f"digit {label}" for label in range(1, 10))]
    write_report(statistics, experiment, digits, tmp_path / "out", names, [f"heldout report {HOSTILE}"])
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert [name for name in files if (folder / name).read_bytes() != (tmp_path / "out" / name).read_bytes()] == []


def test_runs_that_did_not_fit_are_warned_of_on_the_page(experiment, digits, tmp_path):
    trained, right = (np.broadcast_to(np.arange(N) < share * N, (4, N)) for share in (0.7, 0.35))
    for name, correct in (("unfit", right), ("fit", trained)):
        table = RunTable.from_arrays(trained, correct, np.ones((4, 360), bool))
        page = write_report(gather_statistics({0.7: table}), experiment, None, tmp_path / name).read_text()
        assert ("Mind: runs at subset ratio 0.7 classify only 50.0% of the examples" in page) == (name == "unfit")
        shown = repr(gather_statistics({0.7: table}))
        assert shown.startswith("ReportStatistics(of subset ratio 0.7, one of 0.7; RunTable(4 runs: 0 ... 3;")
        assert len(shown) < 200
