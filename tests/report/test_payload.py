"""The data of a report: which images it has, which lie where, and what is said of the test examples of pairs."""

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from heldout_torch.report.payload import picture_order, with_run_lists
from heldout_torch.stats import RunTable
from tests.report.read_page import read_examples, read_script

N, BLOCK = 1437, 1000


def tile(folder, place, side=8):
    """The pixels of an image in the sprites, gray, (side, side)."""
    block, cell = divmod(place, 256)
    row, column = divmod(cell, 16)
    sprite = Image.open(io.BytesIO((folder / "images" / f"{block}.png").read_bytes())).convert("L")
    return np.asarray(sprite)[row * side : (row + 1) * side, column * side : (column + 1) * side]


def test_the_image_of_every_example_is_its_own(folder, digits):
    pictures = read_examples(folder, N, BLOCK)["picture"]
    for example in (*range(0, N, 37), N - 1):
        np.testing.assert_array_equal(tile(folder, pictures[example]), digits.picture("train", example)[0])
    pairs = read_script(folder, "pairs")
    for example, picture in zip(pairs["tests"]["index"], pairs["tests"]["picture"], strict=True):
        np.testing.assert_array_equal(tile(folder, picture), digits.picture("test", example)[0])
    for shown in (pairs["examples"], read_script(folder, "group-all")["examples"]):
        assert shown["picture"] == [pictures[example] for example in shown["index"]]


def test_test_examples_of_pairs_have_their_label_and_the_share_of_runs_that_are_right(folder, tables, digits):
    tests = read_script(folder, "pairs")["tests"]
    assert tests["label"] == digits.labels("test")[tests["index"]].tolist()
    shares = tables[0.7].correct("test").mean(0)[tests["index"]]
    np.testing.assert_allclose(tests["accuracy"], shares, rtol=1e-6)
    assert len(set(tests["accuracy"])) > 5


def test_only_what_is_shown_has_an_image_where_there_are_too_many(statistics):
    groups = [{"level-0": [7, 3], "regular": [9]}, {"level-0": [3, 1]}]
    pairs = statistics.pairs[:2]
    train, test = picture_order(groups, pairs, N, 360, most=N + 359)
    assert train.tolist() == list(dict.fromkeys([7, 3, 9, 1, *pairs.train_index.tolist()]))
    assert test.tolist() == list(dict.fromkeys(pairs.test_index.tolist()))
    train, test = picture_order(groups, pairs, N, 360, most=N + 360)
    assert train[:4].tolist() == [7, 3, 9, 1]
    assert sorted(train) == list(range(N))
    assert sorted(test) == list(range(360))


def test_runs_are_listed_of_the_most_memorized_examples_where_there_are_too_many(statistics):
    runs = 20_000
    words = np.zeros((N, -(-runs // 64)), np.uint64)
    table = RunTable(tuple(map(str, range(runs))), words, words, words[:1])
    memorized = np.random.default_rng(0).permutation(N).astype(np.float32) / N
    memorized[:50] = np.nan
    listed = with_run_lists(replace(statistics, table=table, memorization=memorized))
    characters = len(base64.b64encode(bytes(2 * runs // 8)))
    assert 5_900_000 < listed.sum() * (characters + len('"",')) <= 6_000_000
    assert memorized[listed].min() > np.nanmax(memorized[~listed])
    assert with_run_lists(statistics).all()
