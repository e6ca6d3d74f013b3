"""Data sets on the Hugging Face Hub, `hf://datasets/USER/NAME[@REVISION]`: addresses of files, listing, commits.

Files are read from the Hub's web server as from any other. Listing and committing need the package `huggingface_hub`.
The Hub limits commits an hour and requests in five minutes; it answers 429 and says how long to wait.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from heldout_torch.errors import ZooError, printable
from heldout_torch.storage.offline import check_network

HUB = "hf://"
LONGEST_WAIT = 3700.0  # seconds; quotas are an hour's at most
_WAITS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 60.0, 60.0)  # seconds before each further try, where the Hub asks for none
_TOLD = 5.0  # seconds; a longer wait is told
_PASSING = (408, 409, 412, 425, 429)  # among the answers 400 to 499; 409 and 412: somebody else commits
_LOCATION = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?(?:/(.*))?", re.ASCII)
_log = logging.getLogger(__name__)

T = TypeVar("T")


def split(location: str) -> tuple[str, str, str]:
    """Return the name of a data set, `USER/NAME`, its revision, and a path in it.

    Raises:
        ZooError: If the location is none of a data set.
    """
    found = _LOCATION.fullmatch(location)
    if found is None:
        raise ZooError(f"{location}: is no data set of the Hub, expected hf://datasets/USER/NAME")
    return found[1], found[2] or "main", found[3] or ""


def address(location: str) -> str:
    """Return the `https://` address of a file on the Hub; `HF_ENDPOINT` may name another server."""
    name, revision, path = split(location)
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return f"{endpoint}/datasets/{name}/resolve/{revision}/{quote(path)}"


def token() -> str | None:
    """Return the user's token: what `hf auth login` kept, or the environment variable `HF_TOKEN`; None without one."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return os.environ.get("HF_TOKEN", "").strip() or None
    return get_token()


def check_package(location: str) -> None:
    """Check that the package is there.

    Raises:
        ZooError: If it is not.
    """
    _library(location)


def check_access(location: str) -> None:
    """Check that a data set is there and may be written.

    Raises:
        ZooError: If it is not, or the Hub cannot be reached.
    """
    name, _, _ = split(location)
    api = _library(location).HfApi()
    _patiently(lambda: api.auth_check(name, repo_type="dataset", write=True), location)


def list_files(location: str) -> dict[str, tuple[int, str]]:
    """Return size and git's object id of each file below a folder of a data set, by path in the data set.

    Raises:
        ZooError: If it cannot be listed.
    """
    library = _library(location)
    name, revision, folder = split(location)

    def find() -> dict[str, tuple[int, str]]:
        try:
            tree = library.HfApi().list_repo_tree(
                name, folder or None, repo_type="dataset", revision=revision, recursive=True
            )
            return {entry.path: (entry.size, entry.blob_id) for entry in tree if isinstance(entry, library.RepoFile)}
        except library.errors.EntryNotFoundError:
            return {}

    return _patiently(find, location)


def addition(location: str, name: str, data: bytes) -> Any:
    """Return what a commit takes to add a file, or to replace it."""
    return _library(location).CommitOperationAdd(name, data)


def deletion(location: str, name: str) -> Any:
    """Return what a commit takes to remove a file."""
    return _library(location).CommitOperationDelete(name)


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
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise ZooError(f"{location}: writing to the Hub needs a package, pip install 'heldout-torch[hub]'") from None
    library: Any = huggingface_hub
    library.utils.disable_progress_bars()  # one for each batch of files, over our own
    return library


def _patiently(action: Callable[[], T], location: str) -> T:
    """Do something on the Hub, again when it fails in a way that may pass, after the wait that the Hub asks for.

    Raises:
        ZooError: At once, if it is refused, or the network may not be used; or if every try fails, or the Hub asks for
            a longer wait than an hour.
    """
    check_network(location)
    waits = list(_WAITS)
    while True:
        try:
            return action()
        except ZooError:
            raise
        except Exception as error:  # of huggingface_hub and of the package for HTTP that it uses
            response, reason = _answer(error), _reason(error)
            status = getattr(response, "status_code", None)
            if status in (401, 403, 404):
                raise ZooError(
                    f"{location}: access is refused ({reason}); there must be such a data set (hf repos create), and a "
                    "token that may write into it (hf auth login, or HF_TOKEN)"
                ) from None
            if status is not None and status < 500 and status not in _PASSING:
                raise ZooError(f"{location}: cannot be used ({reason})") from None
            if status is None and isinstance(error, ValueError | TypeError):
                raise ZooError(f"{location}: cannot be used ({reason})") from None
            asked = _asked_wait(response)
            if asked > LONGEST_WAIT or not waits:
                more = f", and asks to wait {asked:.0f} seconds" if asked else ""
                raise ZooError(
                    f"{location}: cannot be reached ({reason}){more}; call again later, what is committed stays"
                ) from None
            wait = max(waits.pop(0), asked)
            if wait >= _TOLD or status == 429:
                _log.warning("%s", printable(f"{location}: the Hub is busy ({reason}), waiting {wait:.0f} seconds"))
            time.sleep(wait)


def _answer(error: BaseException) -> Any:
    """Return the answer of the Hub that an error is about; None if it is about none."""
    for cause in (error, error.__cause__):
        if (response := getattr(cause, "response", None)) is not None:
            return response
    return None


def _reason(error: BaseException) -> str:
    """Return what is wrong in a few words, without the token."""
    response = _answer(error)
    cause = error if response is None or getattr(error, "response", None) is response else error.__cause__
    said = getattr(cause, "server_message", None) or getattr(response, "reason_phrase", None)
    text = " ".join(str(said or cause or type(cause).__name__).split())[:200]
    secret = token()
    text = text.replace(secret, "...") if secret else text
    return text if response is None else f"{response.status_code} {text}"


def _asked_wait(response: Any) -> float:
    """Return how many seconds the Hub asks to wait, 0 if it does not."""
    headers = getattr(response, "headers", None) or {}
    asked = re.fullmatch(r"\s*(\d{1,9})(\.\d*)?\s*", headers.get("Retry-After", ""))
    if asked is None:
        limits = headers.get("RateLimit", "")
        asked = re.search(r"\bt=(\d{1,9})", limits) if re.search(r"\br=0\b", limits) else None
    return float(asked[1]) if asked else 0.0
