"""What is tried again when something far away fails, how long is waited, and what is said in the end."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from heldout_torch.errors import ZooError

WAITS = (0.2, 1.0, 3.0)  # seconds before each further try
BUSY_WAITS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # where the place says that it is busy
_LONGEST_WAIT = 120.0  # whatever a server asks for
_SILENT_TRIES = 2  # each has cost half a minute or more
_BUSY = (429, 503)
_PASSING = (408, 425, 429)  # among the answers 400 to 499, which otherwise are the same next time
_HOPELESS = (ValueError, TypeError, NotImplementedError, PermissionError, IsADirectoryError, NotADirectoryError)
# Of packages that may not be installed: botocore's, aiohttp's.
_HOPELESS_NAMES = {
    "NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound", "NoRegionError",
    "InvalidRegionError", "ClientConnectorCertificateError", "InvalidURL",
}  # fmt: skip
_ANONYMOUS = {"s3": "FSSPEC_S3_ANON=true", "gs": "FSSPEC_GS_TOKEN=anon", "gcs": "FSSPEC_GCS_TOKEN=anon"}

T = TypeVar("T")


def retried(action: Callable[[], T], location: str) -> T:
    """Do something far away, again when it fails in a way that may pass.

    Raises:
        FileNotFoundError: At once, if that is why.
        ZooError: At once, if it is refused; or if every try fails.
    """
    waits, busy_waits, tries, silent = list(WAITS), list(BUSY_WAITS), 0, 0
    while True:
        tries += 1
        try:
            return action()
        except (FileNotFoundError, ZooError):
            raise
        except Exception as error:  # each protocol's package raises kinds of its own
            status = status_of(error)
            if _is_hopeless(error, status):
                raise ZooError(f"{location}: {_refusal(error, status, location)}") from None
            silent += isinstance(error, TimeoutError)
            busy = status in _BUSY
            left = busy_waits if busy else waits
            if not left or silent == _SILENT_TRIES:
                times = f", tried {tries} times" if tries > 1 else ""
                raise ZooError(f"{location}: cannot be reached{times} ({_reason(error, status)})") from None
            wait = left.pop(0)
            time.sleep(min(max(wait, _asked_wait(error)), _LONGEST_WAIT) if busy else wait)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that an error is about; None if it is about none."""
    for cause in (error, error.__cause__):  # s3fs translates botocore's errors
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
    for name in ("status", "code"):  # aiohttp's, gcsfs's
        number = getattr(error, name, None)
        if isinstance(number, int) and 100 <= number < 600:
            return number
    return None


def _is_hopeless(error: Exception, status: int | None) -> bool:
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING
    return isinstance(error, _HOPELESS) or type(error).__name__ in _HOPELESS_NAMES


def _refusal(error: Exception, status: int | None, location: str) -> str:
    kind = type(error).__name__
    forbidden = status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in kind
    reason = _reason(error, status)
    if not forbidden:
        return f"cannot be used ({reason})"
    protocol = location.partition("://")[0]
    if protocol == "hf":
        return f"access is refused ({reason}); a private data set needs a token (hf auth login, or HF_TOKEN)"
    hint = f"; for a public bucket, set {_ANONYMOUS[protocol]}" if protocol in _ANONYMOUS else ""
    return f"access is refused ({reason}){hint}"


def _reason(error: Exception, status: int | None) -> str:
    texts = (str(getattr(cause, "message", "") or cause or "") for cause in (error, error.__cause__))
    text = " ".join(next(filter(None, texts), type(error).__name__).split())
    return text if status is None or str(status) in text else f"{status} {text}"


def _asked_wait(error: Exception) -> float:
    """Return how many seconds a server asks to wait, 0 if it does not."""
    headers = getattr(error, "headers", None) or {}
    asked = re.fullmatch(r"\s*(\d{1,6})(\.\d*)?\s*", str(headers.get("Retry-After", "")))
    return float(asked[1]) if asked else 0.0
