"""README.md and docs/: all that a reader types works, all that is named exists, and links lead somewhere."""

import contextlib
import io
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import heldout_torch
from heldout_torch.cli import VERBS, main
from heldout_torch.data import load_digits
from heldout_torch.experiments import Recipe, known_experiments
from heldout_torch.stats import list_published
from heldout_torch.training import RunBatch, train_runs
from tests.helpers.archives import multiply, pack
from tests.helpers.hub import Hub
from tests.helpers.pages import blocks, commands, run_page, stand_ins
from tests.helpers.published import served, write_look_alikes
from tests.helpers.server import Server

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "examples" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
TEXTS = sorted({*PAGES, *REPOSITORY.glob("*.md"), *REPOSITORY.glob("examples/*.md")})
NOT_RUN = {  # at most six, each with its reason
    "make ": "makes a virtual environment; .ci/run does it",
    "hf ": "makes a data set on the Hub; one on loopback takes what is pushed",
    "pip install": "changes the environment; test_package.py builds and installs the wheel",
}
LANGUAGES = {"python", "sh", "toml", "text", "json", "bibtex"}  # the first two are run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A packed archive of twelve runs, its tree, more runs in a zoo, and the digits as a data set of one's own."""
    folder = tmp_path_factory.mktemp("made")
    tree = multiply(folder / "tree", 12)
    pack(tree, folder / "digits-mlp-tf.tar.gz")
    digits = load_digits()
    # The archive's runs share six subsets; statistics want every example held out by some run.
    work = RunBatch(known_experiments()["digits-mlp-tf"], Recipe(5, 32, 0.1), 0.7, tuple(range(12, 42)))
    assert not [trained.error for trained in train_runs(work, digits, folder / "ZOO") if trained.error]
    arrays = {"__num_classes": np.array(10), "__data_scale": np.array(16.0)}
    for split, rows in (("train", digits.train), ("test", digits.test)):
        arrays |= {f"{split}__image": rows.images[:, 0].numpy(), f"{split}__label": rows.labels.numpy()}
    np.savez(folder / "digits.npz", **arrays)
    return folder


@pytest.fixture
def scratch(made, tmp_path, monkeypatch):
    """An empty working directory with what the pages take for granted, and its stand-ins."""
    stand_ins(tmp_path / "bin", made / "digits-mlp-tf.tar.gz")
    work = tmp_path / "work"
    work.mkdir()
    (work / "digits-mlp-tf").symlink_to(made / "tree" / "digits-mlp-tf")
    for name in ("digits-mlp-tf.tar.gz", "digits.npz"):
        (work / name).symlink_to(made / name)
    shutil.copytree(made / "ZOO", work / "ZOO")
    np.save(work / "theirs.npy", np.linspace(0, 1, 1437))
    for picture in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (work / "pictures" / picture).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(work / "pictures" / picture / "1.png")
    (work / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.setenv("PYTHONPATH", f"{work}:{REPOSITORY}")
    monkeypatch.setenv("HELDOUT_TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HELDOUT_TORCH_ZOO", raising=False)
    (tmp_path / "published").mkdir()
    write_look_alikes(tmp_path / "published")
    with served(tmp_path / "published", tmp_path, monkeypatch):
        yield tmp_path / "bin"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_what_a_page_says_can_be_typed(page, made, scratch, tmp_path, monkeypatch):
    with Server(made).running() as server, Hub().serving(tmp_path / "home", monkeypatch) as hub:
        address = f"{server.url}/digits-mlp-tf.tar.gz"
        replaced = {
            "path/of/a/checkout": str(REPOSITORY),
            "hf://datasets/USER/NAME": hub.location,
            "heldout export cifar10-inception --zoo": f"heldout export {address} --zoo",
            "https://storage.googleapis.com/gresearch/heldout-training-checkpoints": server.url,
            'tfds_order("train", 50000)': 'tfds_order("train", 1437)',  # as many as the digits are
            'load_dataset("cifar10", "data/")': 'load_dataset("digits")',
            "cifar10-inception": "digits-mlp-tf",
            "--data DIR": "--data digits.npz",
            "0-399": "0-39",
            "0-59": "0-29",
            "0-99": "0-11",
        }
        run_page(page, replaced, NOT_RUN, scratch)


def test_few_commands_are_not_run():
    assert len(NOT_RUN) <= 6
    typed = [command for page in PAGES for block in blocks(page) if block.language == "sh"
             for command in commands(block.text)]  # fmt: skip
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in typed), beginning


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_links_lead_somewhere_and_blocks_say_their_language(page):
    text = page.read_text()
    assert {block.language for block in blocks(page)} <= LANGUAGES
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, heading = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}, target


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_no_sentence_is_broken_where_the_next_line_looks_like_an_item_of_a_list(page):
    """A minus sign at the beginning of a line cut a formula in two."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for line, following in pairwise(text.splitlines()):
        if re.match(r" *[-+*] ", following) and line.strip():
            in_list = line.startswith("  ") and not following.startswith(" ")
            assert in_list or line.endswith((":", "**")) or re.match(r" *[-+*] ", line), following


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_verbs_and_options_in_sentences_exist(page):
    shown_only = [block.text for block in blocks(page) if block.language == "text"]
    typed = re.findall(r"^heldout (.+)$", "\n".join(shown_only), re.MULTILINE)
    for words in [*re.findall(r"`heldout ([^`]+)`", page.read_text()), *typed]:
        verb, *others = words.split()
        if verb.startswith("-") or verb.isupper():
            continue
        assert verb in VERBS, words
        action = (
            []
            if not others or not others[0].islower() or verb not in ("archive", "published", "stats", "zoo")
            else others[:1]
        )
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as ended:
            main([verb, *action, "--help"])
        assert ended.value.code == 0, words
        for option in re.findall(r"(?:^|\s)(--[a-z-]+)", words):
            assert option in shown.getvalue(), words


def test_the_reference_names_all_that_is_public():
    table = (REPOSITORY / "docs" / "reference" / "package.md").read_text()
    for name in heldout_torch.__all__:
        assert re.search(rf"\b{name}\b", table), name


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_files_and_tests_that_are_named_exist(page):
    for name, test in re.findall(
        r"`((?:tests|heldout_torch|docs|benchmarks)/[a-z0-9_/.]+)(?:::(\w+))?`", page.read_text()
    ):
        assert (REPOSITORY / name).exists(), name
        assert not test or f"def {test}(" in (REPOSITORY / name).read_text(), test


def test_the_architecture_names_all_rooms_and_files_that_exist():
    text, package = (REPOSITORY / "docs" / "architecture.md").read_text(), REPOSITORY / "heldout_torch"
    for room in package.iterdir():
        if room.is_dir() and (room / "__init__.py").exists():
            assert f"`{room.name}/`" in text
        elif room.suffix == ".py" and not room.name.startswith("__"):
            assert f"`{room.name}`" in text
    for name in re.findall(r"`(\w+/\w+\.py)`", text):
        assert (package / name).exists() or (REPOSITORY / name).exists(), name


def test_the_facts_are_those_that_the_package_uses():
    facts = (REPOSITORY / "docs" / "facts.md").read_text()
    for name, experiment in known_experiments().items():
        assert experiment.archive is None or f"| {name} | {name}.tar.gz |" in facts
        assert experiment.archive is None or experiment.archive.md5 in facts
    for published in list_published().values():
        for piece in (published.file, *published.file.parts):
            assert piece.check.partition(":")[2] in facts, piece.name
