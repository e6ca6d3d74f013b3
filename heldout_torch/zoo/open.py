"""Find out what kind of place a location is. Only this module of `zoo` imports from `archives`."""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, cast

from heldout_torch.errors import ZooError, os_errors
from heldout_torch.experiments import DEFINITION_FILE
from heldout_torch.storage import hub
from heldout_torch.storage.paths import ZOO_VARIABLE, Location, check_folder_name, environment
from heldout_torch.storage.paths import place as as_meant
from heldout_torch.storage.urls import is_archive
from heldout_torch.zoo.base import WritableZoo, Zoo
from heldout_torch.zoo.bucket import BucketZoo
from heldout_torch.zoo.folder import FolderZoo
from heldout_torch.zoo.hub import HubZoo
from heldout_torch.zoo.indexing import ARCHIVE_RECORD
from heldout_torch.zoo.keys import AUX_FILE, CHECKPOINTS, MODEL_FILE, make_key
from heldout_torch.zoo.manifest import MANIFEST_FILE
from heldout_torch.zoo.records import RECORD_FILE
from heldout_torch.zoo.run_folders import experiment_folders, run_folders
from heldout_torch.zoo.selection import Selection, is_pattern
from heldout_torch.zoo.web import WebZoo
from heldout_torch.zoo.writing import WritingZoo

_PLACES = "the folder or URL of a zoo, an unpacked TensorFlow archive, or a packed one (.tar.gz) with its seek index"
Place = str | os.PathLike[str] | Zoo  # where a place that holds runs is asked for


def sample_zoo() -> Path:
    """Return the folder of the bundled sample, a TensorFlow tree of a few `digits-mlp-tf` runs."""
    return Path(str(resources.files("heldout_torch"))) / "sample"


def open_zoo(place: Place | None = None, offline: bool = False, index: Location | None = None) -> Zoo:
    """Open a place that holds runs.

    Args:
        place: Folder of a zoo or of an unpacked TensorFlow archive; URL of a zoo (`https://…`, `s3://…`,
            `hf://datasets/USER/NAME`, …); path or URL of an archive (`….tar.gz`) with its seek index beside it; or a
            zoo, which is returned unchanged. By default the environment variable `HELDOUT_TORCH_ZOO`, else the bundled
            sample.
        offline: From a zoo at a URL, use only cached runs, as with `HELDOUT_TORCH_OFFLINE=1`.
        index: Path or URL of an archive's seek index, if it is not next to the archive, which then may have any name.
            With `#sha256=…` after it, its SHA-256 is checked.

    Raises:
        ZooError: If there is no such folder, it holds other things than runs, or a package that is needed is missing.
    """
    if place is not None and not isinstance(place, str | os.PathLike):
        if not hasattr(place, "keys") or not hasattr(place, "location"):
            raise ZooError(f"{place!r} is not a place of runs, expected a path, a URL or a zoo")
        return place
    location = as_meant(environment(ZOO_VARIABLE) or sample_zoo() if place is None else place)
    if index is not None and isinstance(location, Path) and location.is_dir():
        raise ZooError(f"{location}: is a folder, only an archive has a seek index")
    if is_archive(location) or index is not None:  # with its seek index named, an archive may have any name
        from heldout_torch.archives.indexed import IndexedArchive

        return IndexedArchive(str(location), index=index)
    if isinstance(location, str):
        if location.startswith(hub.HUB):
            return HubZoo(location, offline)
        if (named := hub.of_page(location)) is not None:
            raise ZooError(f"{location}: is a page for browsers; name the data set as {named}")
        web = location.startswith(("http://", "https://"))
        return WebZoo(location, offline) if web else BucketZoo(location, offline)
    if location.is_file():
        raise ZooError(f"{location}: is a file of another kind; runs are read from {_PLACES}")
    if not location.is_dir():
        raise ZooError(f"{location}: there is no such folder; runs are read from {_PLACES}")
    return _folder(location)


def open_source(place: Place, selection: Selection, ignore: Sequence[str] = ()) -> Zoo:
    """Open a place to export from: as `open_zoo`, or one run directory, or an experiment's folder with another name.

    Args:
        place: As in `open_zoo`; also a run directory, which the selection must name by experiment, ratio and run.
        selection: What is exported.
        ignore: Patterns of variables that are left out of TensorFlow runs, though they lie under `model/`.

    Raises:
        ZooError: As `open_zoo`, or if a run directory is not named.
    """
    from heldout_torch.archives.indexed import IndexedArchive
    from heldout_torch.archives.tree import TensorFlowTree

    root = as_meant(place) if isinstance(place, str | os.PathLike) else None
    if ignore and is_archive(root):
        return IndexedArchive(str(root), ignore)
    if not isinstance(root, Path) or not root.is_dir():
        return open_zoo(place)
    if (root / CHECKPOINTS).is_dir():
        if selection.experiment is None or len(selection.subset_ratios) != 1 or len(selection.runs) != 1:
            raise ZooError(f"{root}: is one run directory; name the run with --experiment, --subset-ratio and --runs")
        (ratio,), (run,) = selection.subset_ratios, selection.runs
        return TensorFlowTree.of_run(root, make_key(selection.experiment, ratio, run), ignore)
    opened, name = open_zoo(root), selection.experiment
    if not isinstance(opened, TensorFlowTree):
        return opened
    return TensorFlowTree(root, None if name is None or is_pattern(name) else name, ignore)


def open_writable(place: Place) -> WritableZoo:
    """Open a place to write runs into: a folder, which need not exist, or a URL that can be written.

    Whether the place can be written is checked when its `with` block begins.

    Args:
        place: Folder, URL or zoo.

    Raises:
        ZooError: If the place can only be read, or is the folder of an experiment in a zoo.
        DataError: If a folder would be made with a name that looks like a file's.
    """
    if place is not None and not isinstance(place, str | os.PathLike):
        zoo = open_zoo(place)
    else:
        location = as_meant(place)
        if is_archive(location) or isinstance(location, str):
            zoo = open_zoo(location)
        elif location.exists() and not location.is_dir():
            raise ZooError(f"{location}: is a file, expected the folder of a zoo")
        elif location.is_dir() and _what_lies_in(location) == "checkpoints":
            raise ZooError(f"{location}: is a TensorFlow archive, which cannot be written; name the folder of a zoo")
        elif location.is_dir() and location in experiment_folders(location).values():
            # Its runs would be filed a second time below it, and its manifest would name none.
            raise ZooError(
                f"{location}: is the folder of one experiment; runs are written into the zoo that holds it, "
                f"{location.absolute().parent}"
            )
        else:
            zoo = FolderZoo(location)
        check_folder_name(location)
    if not isinstance(zoo, WritingZoo):
        only = (
            "is on a web server, which cannot be written; name a folder, a bucket (s3://, gs://), or hf://"
            if isinstance(zoo, WebZoo)
            else "is a TensorFlow archive, which cannot be written; name the folder of a zoo"
        )
        raise ZooError(f"{zoo.location}: {only}")
    if isinstance(zoo, BucketZoo | HubZoo):
        zoo.check_online()
    return cast(WritableZoo, zoo)


def _folder(root: Path) -> Zoo:
    from heldout_torch.archives.tree import TensorFlowTree

    what = _what_lies_in(root)
    if what == "other":
        raise ZooError(
            f"{root}: holds no runs, expected a zoo or an unpacked TensorFlow archive, "
            "<experiment>/<subset_ratio>/<run>/..."
        )
    return FolderZoo(root) if what == "zoo" else TensorFlowTree(root)


def _what_lies_in(root: Path) -> Literal["zoo", "checkpoints", "aux arrays", "other"]:
    """Return what a folder holds; the first run that is found says it. An empty folder is an empty zoo."""
    # Looked at before the experiments: others may be making the folders of the first one meanwhile.
    with os_errors(ZooError, f"{root}: is not a readable folder"):
        names = [path.name for path in root.iterdir() if not path.name.startswith(".") and not _is_begun(path)]
    for name, folder in experiment_folders(root).items():
        for _, path in run_folders(name, folder):
            if (path / RECORD_FILE).is_file() or (path / MODEL_FILE).is_file():
                return "zoo"
            if (path / CHECKPOINTS).is_dir():
                return "checkpoints"
            if (path / AUX_FILE).is_file():
                return "aux arrays"  # all that somebody unpacked
        return "zoo"  # the folders of an experiment whose runs are still to come
    if not names or any((root / name / DEFINITION_FILE).is_file() for name in names) or MANIFEST_FILE in names:
        return "zoo"
    return "other"


def _is_begun(path: Path) -> bool:
    """Return whether a folder can be an experiment's whose runs are still to come: nothing else lies in it."""
    try:
        names = {name for name in os.listdir(path) if not name.startswith(".")} if path.is_dir() else {path.name}
    except OSError:  # gone, or not readable
        return False
    return names <= {DEFINITION_FILE, ARCHIVE_RECORD}
