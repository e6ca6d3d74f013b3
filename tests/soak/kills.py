"""Commands that are killed at random moments: the same command again gives what an undisturbed one gives."""

import importlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heldout_torch import cli
from heldout_torch.storage.files import PARTIAL, REPLACED
from tests.helpers.archives import multiply, pack
from tests.soak import bucket

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 120.0  # seconds that a command may take to end
RUNS = 6
MINE = "--experiment digits-mlp-tf"
QUICK = "epochs = 2\nbatch_size = 256\nlearning_rate = 0.1\n"


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        words: After `heldout`; `{place}` is written, `{round}` is a folder of this round, and `{tree}`, `{archive}`,
            `{zoo}`, `{recipe}` and `{config}` are there.
        before: Commands that are not disturbed.
        places: Where `{place}` is, turn by turn.
    """

    words: str
    before: tuple[str, ...] = ()
    places: tuple[str, ...] = ("folder",)


BOTH = ("folder", "bucket")
EXPORT = "export {tree} --zoo {place}"
CASES = {
    "export": Case(EXPORT, places=BOTH),
    "export archive": Case("export {archive} --zoo {place}", places=BOTH),
    "export zoo": Case("export {zoo} --zoo {place}", places=BOTH),
    "export --overwrite": Case("export {tree} --zoo {place} --overwrite", (EXPORT,), places=BOTH),
    "zoo push": Case("zoo push {zoo} {place}", places=BOTH),
    "zoo index": Case("zoo index {place}", ("export {tree} --zoo {place} --runs 0-2",), places=BOTH),
    "zoo pull": Case("zoo pull {place}", ("zoo push {zoo} {place}",), places=("bucket",)),
    "train": Case(
        "train digits-mlp --subset-ratio 0.7 --runs 0-5 --batch-of-runs 1 --recipe {recipe} --zoo {place}", places=BOTH
    ),
    "train --save": Case(
        "train digits-mlp --subset-ratio 0.7 --runs 0-3 --batch-of-runs 1 --recipe {recipe} --zoo {place} "
        "--save outputs"
    ),
    "experiment": Case(
        "experiment digits-mlp --subset-ratio 0.7 --runs 0-3 --batch-of-runs 1 --recipe {recipe} --zoo {place} "
        "--out {round}/scores"
    ),
    "evaluate": Case("evaluate {tree} --out {place}", places=BOTH),
    "evaluate --save": Case("evaluate {tree} --out {place} --save outputs"),
    "evaluate, two processes": Case("evaluate {tree} --out {place} --device cpu cpu"),
    "verify": Case("verify {zoo} --results {round}/log.jsonl"),
    "archive index": Case("archive index {archive} --out {round}/index.seek"),
    "stats memorization": Case(
        f"stats memorization {{zoo}} {MINE} --subset-ratio 0.7 --table {{round}}/table --out {{round}}/scores.npz"
    ),
    "stats pairs": Case(f"stats pairs {{zoo}} {MINE} --subset-ratio 0.7 --out {{round}}/pairs.csv"),
    "stats influence": Case(f"stats influence {{zoo}} {MINE} --subset-ratio 0.7 --out {{round}}/classwise.npz"),
    "report": Case(f"report {{zoo}} {MINE} --out {{round}}/page"),
    "declare": Case("declare mine --dataset digits --architecture mlp --config {config} --out {round}/mine.toml"),
}


def soak(kills: int, seed: int, only: Sequence[str] | None = None) -> int:
    """Kill commands, print a line for each case, and return how many cases went wrong."""
    variants = [(name, case, where) for name, case in CASES.items() for where in case.places]
    variants = [variant for variant in variants if not only or variant[0] in only]
    for verb in cli.VERBS:
        importlib.import_module(f"heldout_torch.cli.{verb.replace('-', '_')}")  # once, and not in every child
    chance, bad, total = random.Random(seed), 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, bucket.served() as client:
        shared = _shared(Path(folder))
        for number, (name, case, where) in enumerate(variants):
            each = kills * (number + 1) // len(variants) - kills * number // len(variants)
            seen, wrong = _kill(case, client if where == "bucket" else None, each, chance, Path(folder), shared)
            total.update(seen)
            bad += bool(wrong)
            ends = ", ".join(f"{count} {end}" for end, count in sorted(seen.items()))
            print(f"{name:24} {where} {ends}{' WRONG' if wrong else ''}", flush=True)
            for line in wrong[:5]:
                print(f"    {line}", flush=True)
    done = sum(count for end, count in total.items() if end != "too late")
    print(f"{done} commands killed while they ran, {total['too late']} too late; {bad} cases went wrong")
    return bad


def _shared(folder: Path) -> dict[str, str]:
    """Make what the commands read."""
    tree = multiply(folder / "tree", RUNS)
    archive = pack(tree, folder / "archive.tar.gz")
    (folder / "quick.toml").write_text(QUICK)
    shared = {"tree": tree, "archive": archive, "zoo": folder / "zoo", "recipe": folder / "quick.toml"}
    names = {name: str(path) for name, path in shared.items()} | {"config": '{"widths":[8]}'}
    assert _run("export {tree} --zoo {zoo}", names, folder) == 0, (folder / "output").read_text()
    return names


def _kill(
    case: Case, client: Any, kills: int, chance: random.Random, folder: Path, shared: dict[str, str]
) -> tuple[Counter[str], list[str]]:
    """Kill one command so many times; return how it ended each time, and what was wrong."""
    expected: dict[str, Any] = {}
    seconds, seen, wrong, number = 0.0, Counter[str](), list[str](), -1
    while seen.total() - seen["too late"] < kills and number < 3 * kills + 3:
        place = folder / "round"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        names = {**shared, "round": str(place), "place": f"s3://{bucket.NAME}/zoo" if client else f"{place}/zoo"}
        for words in case.before:
            assert _run(words, names, place) == 0, (place / "output").read_text()
        began = time.monotonic()
        if number >= 0:
            end = chance.choice(SIGNALS)
            after = chance.uniform(0, seconds)
            status = _run(case.words, names, place, end, after)
            seen["too late" if status == 0 else end.name] += 1
            seconds = min(seconds, after) if status == 0 else seconds  # the first call took longer than the others do
            if status not in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143):
                wrong.append(f"kill {number}: {end.name} gave status {status}: {_last_line(place)}")
        if number < 0 or status != 0:  # what was done may refuse to be done again, as a report does
            status = _run(case.words, names, place)
        if number < 0:
            seconds = time.monotonic() - began
        if status != 0:
            wrong.append(f"kill {number}: called again, status {status}: {_last_line(place)}")
        result = read_result(place, bucket.take(client, "zoo") if client else {})
        if number < 0:
            expected = result
        elif result != expected:
            names_of = [name for name in result.keys() | expected.keys() if result.get(name) != expected.get(name)]
            wrong.append(f"kill {number}: {len(names_of)} files are others, such as {sorted(names_of)[0]}")
        number += 1
    return seen, wrong


def _run(words: str, names: dict[str, str], place: Path, end: int | None = None, after: float = 0.0) -> int:
    """Run a command in a child, kill it after some seconds if told to, and return its status as `Popen` does."""
    child = os.fork()
    if child == 0:
        os.environ["HELDOUT_TORCH_CACHE"] = str(place / "cache")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(place / "output", "wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        status = 70  # if anything is raised
        try:
            status = cli.main([word.format(**names) for word in words.split()])
        except SystemExit as stop:
            status = int(stop.code or 0)
        except KeyboardInterrupt:  # before `main` had begun, or after it ended: so does the interpreter end
            status = 130
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    if end is not None:
        time.sleep(after)
        os.kill(child, end)  # not waited for yet, so the number is still its
    deadline = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 71
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])


def read_result(place: Path, far: Mapping[str, bytes] = {}) -> dict[str, Any]:
    """Return what a command left in a folder, and in a bucket, as far as it must be equal each time, by name."""
    files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return {name: _comparable(name, data) for name, data in {**files, **far}.items() if not _is_left(name)}


def _is_left(name: str) -> bool:
    """Whether a file is not a result: the output, temporary files of the killed one, what the cache remembers."""
    of_cache = name.startswith("cache/") and (name.endswith("manifest.json") or "/.locks/" in name)
    return of_cache or PARTIAL in name or REPLACED in name or name == "output"


def _comparable(name: str, data: bytes) -> Any:
    """Return a file's contents without what may differ: inodes in a manifest, the order of a log's lines."""
    if name.endswith("manifest.json"):
        return json.loads(data, object_hook=lambda table: {k: v for k, v in table.items() if k != "seen"})
    if name.endswith(".jsonl"):
        lines = (json.loads(line) for line in data.splitlines() if line.endswith(b"}"))
        return {line["run"]: line for line in lines}
    return data


def _last_line(place: Path) -> str:
    return (place / "output").read_text(errors="replace").strip().rpartition("\n")[2][:200]
