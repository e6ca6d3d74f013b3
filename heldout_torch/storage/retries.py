"""Repeat requests that fail: which failures are temporary, how long to wait, and what to report."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from heldout_torch.errors import RefusedError, ZooError, counted, printable

WAITS = (0.2, 1.0, 3.0)  # seconds before each further try
BUSY_WAITS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # where the place says that it is busy
LONGEST_WAIT = 300.0  # seconds that a place may ask for
TOLD = 5.0  # seconds without success, the next wait included, after which a warning is logged
_SILENT_TRIES = 2  # each has cost half a minute or more
_BUSY = (429, 503)
# Among the answers 400 to 499, which otherwise are the same next time; 409 and 412: somebody else writes, too.
_PASSING = (408, 409, 412, 425, 429)
_HOPELESS = (ValueError, TypeError, NotImplementedError, PermissionError, IsADirectoryError, NotADirectoryError)
# Of packages that may not be installed: botocore's, aiohttp's.
_HOPELESS_NAMES = {
    "NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound", "NoRegionError",
    "InvalidRegionError", "ClientConnectorCertificateError", "InvalidURL", "NonHttpUrlRedirectClientError",
    "TooManyRedirects",
}  # fmt: skip
_HINTS = {
    "s3": "for a public bucket, set FSSPEC_S3_ANON=true",
    "gs": "for a public bucket, set FSSPEC_GS_TOKEN=anon",
    "gcs": "for a public bucket, set FSSPEC_GCS_TOKEN=anon",
    "hf": "the data set must exist (hf repos create); to read a private one, or to write, log in (hf auth login) or "
    "set HF_TOKEN",
}
_log = logging.getLogger(__name__)

T = TypeVar("T")


def retried(
    action: Callable[[], T], location: str, waits: Sequence[float] | None = None, longest: float = LONGEST_WAIT
) -> T:
    """Make a request, again if it fails in a way that may pass. A wait of many seconds is logged.

    Args:
        action: What to do.
        location: Where, for messages.
        waits: Seconds before each further try; by default a few, and more where the place says that it is busy.
        longest: Seconds that the place may ask to wait; if it asks for more, the request fails.

    Raises:
        FileNotFoundError: At once, if that is why.
        RefusedError: At once, if access is.
        ZooError: At once, if it cannot be done otherwise; or if every try fails.
    """
    usual, busy, tries, silent = list(waits or WAITS), list(waits or BUSY_WAITS), 0, 0
    begin = time.monotonic()
    while True:
        tries += 1
        try:
            return action()
        except (FileNotFoundError, ZooError):
            raise
        except Exception as error:  # each protocol's package raises kinds of its own
            status = status_of(error)
            reason = _reason(error, status)
            if _is_hopeless(error, status):
                raise _refusal(error, status, reason, location) from None
            silent += isinstance(error, TimeoutError)
            left, asked = busy if status in _BUSY else usual, _asked(error) if status in _BUSY else 0.0
            if not left or silent == _SILENT_TRIES or asked > longest:
                times = f", tried {tries} times" if tries > 1 else ""
                asks = counted(f"{asked:.0f}", "second")
                more = f", and asks to wait {asks}; call again later" if asked > longest else ""
                raise ZooError(f"{location}: cannot be reached{times} ({reason}){more}") from None
            wait = max(left.pop(0), asked)
            if time.monotonic() - begin + wait >= TOLD:
                waiting = f"waiting {counted(f'{wait:.0f}', 'second')}, then again"
                _log.warning("%s", printable(f"{location}: {reason}; {waiting}"))
            time.sleep(wait)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that an error is about; None if it is about none."""
    response = _response(error)
    if isinstance(response, dict):  # botocore's
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
    for owner, name in ((response, "status_code"), (error, "status"), (error, "code")):  # httpx's, aiohttp's, gcsfs's
        number = getattr(owner, name, None)
        if isinstance(number, int):  # aiohttp's `code` is deprecated
            return number if 100 <= number < 600 else None
    return None


def _response(error: BaseException) -> Any:
    """Return the answer that an error is about, or the one that it was raised from, as s3fs does; or None."""
    answers = (getattr(cause, "response", None) for cause in (error, error.__cause__))
    return next((answer for answer in answers if answer is not None), None)


def _is_hopeless(error: Exception, status: int | None) -> bool:
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING
    return isinstance(error, _HOPELESS) or type(error).__name__ in _HOPELESS_NAMES


def _refusal(error: Exception, status: int | None, reason: str, location: str) -> ZooError:
    protocol = location.partition("://")[0]
    forbidden = status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    if not forbidden and (protocol, status) != ("hf", 404):
        return ZooError(f"{location}: cannot be used ({reason})")
    hint = f"; {_HINTS[protocol]}" if protocol in _HINTS else ""
    return RefusedError(f"{location}: access is refused ({reason}){hint}")


def _reason(error: Exception, status: int | None) -> str:
    """Return what is wrong in a few words: what the server said, or the error says."""
    said = [getattr(cause, "server_message", None) for cause in (error, error.__cause__)]  # huggingface_hub's
    said += [getattr(_response(error), "reason_phrase", None)]
    for cause in (error, error.__cause__):  # aiohttp's text is its parts, also where its message is empty
        message = getattr(cause, "message", None)
        said += [message if isinstance(message, str) else cause]
    text = " ".join(str(next((one for one in said if one and str(one)), type(error).__name__)).split())[:500]
    if type(error).__name__ == "NonHttpUrlRedirectClientError":  # aiohttp's text is the address alone
        text = f"redirects to {text}"
    return text if status is None or str(status) in text else f"{status} {text}"


def asked_wait(headers: Any) -> float:
    """Return how many seconds the headers of an answer ask to wait, 0 if they do not.

    `Retry-After` has a number of seconds, or a date of the server's clock (RFC 9110, 10.2.3), as `Date` is.
    """
    after = str(headers.get("Retry-After", "")).strip()
    if seconds := re.fullmatch(r"(\d{1,18})(\.\d*)?", after):
        return float(seconds[1])
    with suppress(TypeError, ValueError, OverflowError):
        now = headers.get("Date")
        began = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max((parsedate_to_datetime(after) - began).total_seconds(), 0.0)
    limits = str(headers.get("RateLimit", ""))  # the Hub's; r: requests that are left, t: seconds until there are more
    asked = re.search(r"\bt=(\d{1,9})", limits) if re.search(r"\br=0\b", limits) else None
    return float(asked[1]) if asked else 0.0


def _asked(error: Exception) -> float:
    return asked_wait(getattr(error, "headers", None) or getattr(_response(error), "headers", None) or {})
