"""What an archive costs: exported against `gzip -dc | md5sum`, by URL against `curl |`, and one run against `tar xzf`.

Usage: python benchmarks/archive.py [--runs 24] [--gigabytes 5] [--workers 2] [--inflaters]
Needs the test dependencies (TensorFlow and Sonnet make the runs, in a process of their own).
"""

import argparse
import hashlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import isal.igzip
import torch

from benchmarks.archive_server import asked, serving
from heldout_torch import load_run
from heldout_torch.archives.build_index import build_index
from heldout_torch.archives.hashed_stream import HashedStream
from heldout_torch.archives.inflate import inflate
from heldout_torch.archives.stream import export_archive
from heldout_torch.zoo import open_zoo
from tests.reference import run_reference

EXPERIMENT, RATIO = "cifar10-inception", "0.5"
MADE = 4
SPACINGS = (2**21, 2**23, 2**25, 2**27)  # unpacked bytes between points


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def shell(command: str) -> Callable[[], object]:
    """Give a call of a shell command."""
    return lambda: subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def pack_small(made: Path, runs: int, archive: Path) -> None:
    """Pack runs as the published archives are, by tar and gzip."""
    tree = archive.parent / "tree"
    for run in range(runs):
        shutil.copytree(made / str(run % MADE), tree / EXPERIMENT / RATIO / str(run))
    subprocess.run(["tar", "czf", archive, "-C", tree, EXPERIMENT], check=True)
    shutil.rmtree(tree)


def pack_large(made: Path, gigabytes: float, archive: Path) -> int:
    """Pack so many compressed bytes; isal packs in seconds what gzip packs in minutes, and also in one gzip member."""
    files = [
        [(p.relative_to(made / str(i)), p.read_bytes()) for p in sorted((made / str(i)).rglob("*.*"))]
        for i in range(MADE)
    ]
    run = 0
    with (
        open(archive, "wb") as raw,
        isal.igzip.open(raw, "wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        while raw.tell() < gigabytes * 1e9:
            for name, data in files[run % MADE]:
                member = tarfile.TarInfo(f"{EXPERIMENT}/{RATIO}/{run}/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            run += 1
    return run


def drain(stream: io.BufferedIOBase) -> None:
    """Read a stream to its end."""
    while stream.read(2**20):
        pass


def compare_export(archive: Path, workers: int) -> None:
    """Print how export compares with inflating and hashing, and how inflaters compare."""
    zoo = archive.parent / "zoo"

    def export() -> None:
        shutil.rmtree(zoo, ignore_errors=True)
        with open(archive, "rb") as stream:
            done = [result for result in export_archive(stream, archive.name, zoo, workers=workers) if result.key]
        assert done
        assert all(result.error is None for result in done)

    def hashed() -> None:
        with open(archive, "rb") as stream:
            drain(inflate(HashedStream(stream, lambda count: None)))

    peer = shell(f"gzip -dc {archive} | md5sum")
    rows = [(seconds(peer), seconds(export), seconds(hashed)) for _ in range(5)]
    gzip_time, export_time, hashed_time = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"export of {archive.stat().st_size / 1e6:.0f} MB: {export_time:.2f} s, gzip -dc | md5sum: {gzip_time:.2f} s")
    print(f"  export / peer: {statistics.median(row[1] / row[0] for row in rows):.2f}")
    print(f"  inflate and MD5 alone / peer: {hashed_time / gzip_time:.2f}")


def compare_inflaters(archive: Path) -> None:
    """Print how fast the inflaters considered are, against zlib."""
    import gzip

    import rapidgzip
    import zlib_ng.gzip_ng

    def opened(library: Any, *arguments: Any) -> Callable[[], object]:
        def work() -> None:
            with library.open(*arguments) as stream:
                drain(stream)

        return work

    works = {
        "zlib": opened(gzip, archive),
        "isal": opened(isal.igzip, archive),
        "zlib-ng": opened(zlib_ng.gzip_ng, archive),
        "rapidgzip, 2 threads": opened(rapidgzip, str(archive), 2),
    }
    times = {name: statistics.median(seconds(work) for _ in range(3)) for name, work in works.items()}
    for name, taken in times.items():
        print(f"  inflating by {name}: {taken:.2f} s, {times['zlib'] / taken:.2f} times as fast as zlib")


def compare_by_url(archive: Path, workers: int, rounds: int) -> None:
    """Print how exporting from a web server compares with piping what `curl` fetches, both as commands."""
    heldout = f"{sys.executable} -m heldout_torch export --quiet --workers {workers}"
    os.environ["HELDOUT_TORCH_CACHE"] = str(archive.parent / "cache")
    checked, rows = f"--md5 {md5(archive)}", []
    with serving(archive.parent) as url:
        address = f"{url}/{archive.name}"
        for number in range(rounds):
            zoos = [archive.parent / f"{kind}-{number}" for kind in ("url", "pipe")]
            ways = [
                shell(f"{heldout} {address} {checked} --zoo {zoos[0]}"),
                shell(f"curl -sSf {address} | {heldout} - {checked} --zoo {zoos[1]}"),
            ]
            order = (0, 1) if number % 2 else (1, 0)
            taken = {way: seconds(ways[way]) for way in order}
            rows.append((taken[0], taken[1]))
            for zoo in zoos:
                shutil.rmtree(zoo)
    by_url, piped = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = sorted(row[0] / row[1] for row in rows)
    print(f"export of {archive.stat().st_size / 1e6:.0f} MB by URL: {by_url:.2f} s, curl | export -: {piped:.2f} s")
    print(f"  by URL / piped: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")


def md5(path: Path) -> str:
    """Compute a file's MD5."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def compare_one_run(archive: Path, runs: int) -> None:
    """Print how reading the last run but one through indices of several spacings compares with tar."""
    name = f"{EXPERIMENT}/{RATIO}/{runs - 2}"
    tar_time = seconds(shell(f"cd {archive.parent} && tar xzf {archive} {name}"))
    extracted = load_run(EXPERIMENT, float(RATIO), runs - 2, archive.parent).model.state_dict()
    size = archive.stat().st_size
    print(f"run {runs - 2} of {runs} in {size / 1e9:.2f} GB by tar xzf: {tar_time:.1f} s")
    for spacing in SPACINGS:
        index = archive.with_name(f"{spacing}.seek")
        index_time = seconds(lambda index=index, spacing=spacing: build_index(archive, spacing=spacing, out=index))
        print(
            f"index with a point every {spacing / 2**20:g} MiB: {index.stat().st_size / 1e6:.2f} MB, "
            f"{100 * index.stat().st_size / size:.3f} % of the archive, made in {index_time:.1f} s"
        )
        with serving(archive.parent) as url:
            for place in (str(archive.parent), url):
                asked(url)
                zoo = open_zoo(f"{place}/{archive.name}", index=f"{place}/{index.name}")
                zoo.keys()
                opened, times = asked(url), []
                for run in range(runs - 2, 0, -(runs // 12) - 1):  # some lie nearer to a point than others
                    start = time.perf_counter()
                    read = load_run(EXPERIMENT, float(RATIO), run, zoo).model.state_dict()
                    times.append(time.perf_counter() - start)
                    if run == runs - 2:
                        assert all(torch.equal(extracted[key], read[key]) for key in extracted)
                taken = statistics.mean(times)
                print(
                    f"  {'on disk' if place != url else 'by HTTP'}: {taken:.3f} s, tar / that: {tar_time / taken:.0f}"
                )
            requests, asked_for = (total / len(times) for total in asked(url))
            print(
                f"  by HTTP: {opened[1] / 1e6:.2f} MB in {opened[0]} requests to open it, "
                f"then {asked_for / 1e6:.2f} MB in {requests:.1f} requests a run, means of {len(times)} runs"
            )


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24, help="runs in the archive that is exported")
    parser.add_argument("--gigabytes", type=float, default=5, help="size of the archive of which one run is read")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--inflaters", action="store_true", help="compare inflaters, too; needs rapidgzip and zlib-ng")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_reference("published_runs", folder / "made", EXPERIMENT, RATIO, *range(MADE))
        made = folder / "made" / EXPERIMENT / RATIO
        (folder / "small").mkdir()
        small = folder / "small" / f"{EXPERIMENT}.tar.gz"
        pack_small(made, options.runs, small)
        compare_export(small, options.workers)
        compare_by_url(small, options.workers, 7)
        if options.inflaters:
            compare_inflaters(small)
        (folder / "large").mkdir()
        large = folder / "large" / f"{EXPERIMENT}.tar.gz"
        runs = pack_large(made, options.gigabytes, large)
        compare_by_url(large, options.workers, 3)
        compare_one_run(large, runs)


if __name__ == "__main__":
    main()
