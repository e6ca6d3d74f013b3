"""Archives for tests: the sample's runs under many numbers, packed by tar."""

import json
import random
import shutil
import subprocess
from pathlib import Path

from heldout_torch.zoo import sample_zoo

EXPERIMENT = "digits-mlp-tf"


def multiply(tree: Path, count: int) -> Path:
    """Make a TensorFlow tree of `count` runs out of the sample's."""
    sources = sorted((sample_zoo() / EXPERIMENT / "0.7").iterdir())
    for run in range(count):
        shutil.copytree(sources[run % len(sources)], tree / EXPERIMENT / "0.7" / str(run))
    return tree


def pack(tree: Path, archive: Path, seed: int | None = 0) -> Path:
    """Pack a tree as `tar czf` does; its files in shuffled order unless the seed is None."""
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    if seed is not None:
        random.Random(seed).shuffle(names)
    listing = archive.with_suffix(".names")
    listing.write_text("\n".join(names))
    subprocess.run(["tar", "czf", archive, "-C", tree, "--no-recursion", "-T", listing], check=True)
    return archive


def contents(zoo: Path) -> dict[str, bytes]:
    """Give the files of a zoo's runs; records beside them and leftovers of killed writers are not runs."""
    files = {str(path.relative_to(zoo)): path for path in sorted(zoo.glob("*/*/*/*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if "/." not in name}


def archive_record(zoo: Path) -> dict:
    """Return what a zoo says of the archive that its runs came from."""
    return json.loads((zoo / EXPERIMENT / "archive.json").read_bytes())
