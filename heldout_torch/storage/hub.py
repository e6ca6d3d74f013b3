"""Data sets on the Hugging Face Hub, `hf://datasets/USER/NAME[@REVISION]`: addresses of files, listing, commits.

Files are read from the Hub's web server as from any other. Listing and committing need the package `huggingface_hub`.
The Hub limits commits an hour and requests in five minutes; it answers 429 and says how long to wait.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from heldout_torch.errors import ZooError
from heldout_torch.optional import require
from heldout_torch.storage.offline import check_network
from heldout_torch.storage.paths import environment
from heldout_torch.storage.retries import retried

HUB = "hf://"
LONGEST_WAIT = 3700.0  # seconds; quotas are an hour's at most
_WAITS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 60.0, 60.0)  # seconds before each further try to send something
_REVISION = r"refs/(?:pr|convert)/[\w.-]+|(?:[\w.-]|%2[Ff])+"  # other slashes in it are written as %2F
_LOCATION = re.compile(rf"hf://datasets/([\w.-]+/[\w.-]+?)(?:@({_REVISION}))?(?:/(.*))?", re.ASCII)
_PAGE = re.compile(r"https?://(?:huggingface|hf)\.co/datasets/([\w.-]+/[\w.-]+)(?:/tree/([^/?#]+))?", re.ASCII)

T = TypeVar("T")


def split(location: str) -> tuple[str, str, str]:
    """Return the name of a data set, `USER/NAME`, its revision, and a path in it.

    Raises:
        ZooError: If the location is not a data set's.
    """
    found = _LOCATION.fullmatch(location)
    if found is None:
        raise ZooError(f"{location}: is not a data set of the Hub, expected hf://datasets/USER/NAME")
    return found[1], unquote(found[2] or "main"), found[3] or ""


def of_page(address: str) -> str | None:
    """Return the location of the data set whose page in a browser has an address; None if it is no such page.

    >>> of_page("https://huggingface.co/datasets/USER/NAME/tree/main")
    'hf://datasets/USER/NAME@main'
    """
    found = _PAGE.fullmatch(address)
    return found and f"{HUB}datasets/{found[1]}{'@' if found[2] else ''}{found[2] or ''}"


def address(location: str) -> str:
    """Return the `https://` address of a file on the Hub; `HF_ENDPOINT` may name another server."""
    name, revision, path = split(location)
    endpoint = (environment("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return f"{endpoint}/datasets/{name}/resolve/{quote(revision, safe='')}/{quote(path)}"


def token() -> str | None:
    """Return the user's token: what `hf auth login` kept, or the environment variable `HF_TOKEN`; None without one."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return environment("HF_TOKEN") or None
    return get_token()


def check_package(location: str) -> None:
    """Check that the package is there.

    Raises:
        HeldoutError: If it is not.
    """
    _library(location)


def check_access(location: str) -> None:
    """Check that a data set is there and may be written.

    Raises:
        ZooError: If it is not, or the Hub cannot be reached.
    """
    name, _, _ = split(location)
    api = _library(location).HfApi()
    check_network(location)
    retried(lambda: api.auth_check(name, repo_type="dataset", write=True), location)


def list_files(location: str) -> dict[str, tuple[int, str]]:
    """Return size and git's object id of each file below a folder of a data set, by path in the data set.

    Raises:
        ZooError: If it cannot be listed.
    """
    library = _library(location)
    name, revision, folder = split(location)

    def find() -> dict[str, tuple[int, str]]:
        api = library.HfApi()
        api.auth_check(name, repo_type="dataset")  # fails at once; a listing is tried for half a minute by the package
        try:
            tree = api.list_repo_tree(name, folder or None, repo_type="dataset", revision=revision, recursive=True)
            return {entry.path: (entry.size, entry.blob_id) for entry in tree if isinstance(entry, library.RepoFile)}
        except library.errors.EntryNotFoundError:
            return {}

    check_network(location)
    return retried(find, location, longest=LONGEST_WAIT)


def addition(location: str, name: str, data: bytes) -> Any:
    """Return what a commit takes to add a file, or to replace it."""
    return _library(location).CommitOperationAdd(name, data)


def upload(location: str, additions: Sequence[Any]) -> None:
    """Send the contents of large files ahead of the commit that adds them, and forget them.

    Raises:
        ZooError: If the Hub refuses them, or cannot be reached.
    """
    name, revision, _ = split(location)
    api = _library(location).HfApi()
    options = {"repo_type": "dataset", "revision": revision, "num_threads": 8}
    _patiently(lambda: api.preupload_lfs_files(name, additions, **options), location)


def commit(location: str, operations: Sequence[Any], summary: str) -> None:
    """Make one commit.

    Raises:
        ZooError: If the Hub refuses it, or cannot be reached.
    """
    name, revision, _ = split(location)
    api = _library(location).HfApi()
    options = {"repo_type": "dataset", "revision": revision, "commit_message": summary, "num_threads": 8}
    _patiently(lambda: api.create_commit(name, operations, **options), location)


def _library(location: str) -> Any:
    what = f"{location}: writing to the Hub"
    library, _, utils = (require(f"huggingface_hub{part}", what) for part in ("", ".errors", ".utils"))
    utils.disable_progress_bars()  # one for each batch of files, over our own
    return library


def _patiently(action: Callable[[], T], location: str) -> T:
    """Send something to the Hub, with many retries, since hours of work may have been sent there already.

    Raises:
        ZooError: As `retried`, or if the network may not be used.
    """
    check_network(location)
    return retried(action, location, _WAITS, LONGEST_WAIT)
