"""What fails far away is tried again if it may pass, after the wait that was asked for, and else is told at once."""

from types import SimpleNamespace

import aiohttp
import botocore.exceptions
import pytest

from heldout_torch import ZooError
from heldout_torch.storage.retries import retried


def answered(status, message="as it is", **headers):
    """The error of a web server's answer, as aiohttp raises it."""
    asked = SimpleNamespace(real_url="http://zoo.example/file")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return aiohttp.ClientResponseError(asked, (), status=status, message=message, headers=named)


def of_bucket(status):
    """The error of a bucket's answer, as s3fs raises it: its own, from botocore's."""
    said = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": str(status), "Message": "as it is"}}
    error = OSError("it failed")
    error.__cause__ = botocore.exceptions.ClientError(said, "GetObject")
    return error


def failing_once(error):
    errors = [error]

    def act():
        if errors:
            raise errors.pop()
        return "done"

    return act


@pytest.mark.parametrize("error", [answered, of_bucket])
@pytest.mark.parametrize("status", [408, 409, 412, 425, 429, 500, 502, 503, 504])
def test_an_answer_that_may_pass_is_not_the_last(slept, status, error):
    assert retried(failing_once(error(status)), "s3://bucket/file") == "done"
    assert len(slept) == 1


@pytest.mark.parametrize(
    "error",
    [answered(404), of_bucket(403), answered(410), PermissionError("no"), NotADirectoryError("no"), ValueError("no"),
     botocore.exceptions.NoCredentialsError()],
)  # fmt: skip
def test_what_would_be_the_same_is_asked_for_once(slept, error):
    with pytest.raises(ZooError, match=r"s3://bucket/file: (access is refused|cannot be used)"):
        retried(failing_once(error), "s3://bucket/file")
    assert slept == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 1), ({"Retry_After": "0"}, 1), ({"Retry_After": "7.5"}, 7), ({"Retry_After": "300"}, 300),
     ({"RateLimit": '"api";r=0;t=12'}, 12), ({"RateLimit": '"api";r=3;t=12'}, 1)],
)  # fmt: skip
def test_a_busy_place_is_asked_again_when_it_says(slept, headers, seconds):
    assert retried(failing_once(answered(429, **headers)), "hf://datasets/me/zoo") == "done"
    assert slept == [seconds]


def test_a_data_set_of_the_hub_that_is_not_there_is_answered_by_how_to_have_one():
    with pytest.raises(
        ZooError, match=r"access is refused \(404 as it is\); the data set must exist \(hf repos create"
    ):
        retried(failing_once(answered(404)), "hf://datasets/me/zoo")


def test_a_page_for_a_reason_is_cut_to_one_line():
    with pytest.raises(ZooError) as error:
        retried(failing_once(answered(400, "<html>\n" * 9000)), "https://zoo.example/file")
    assert len(str(error.value)) < 600
