"""A server that speaks the protocol of S3 in a process of its own, and what is put into it and taken out."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.process import wait_for

NAME = "soak"


@contextmanager
def served() -> Iterator[Any]:
    """Serve an empty bucket, which the environment then leads to; yields a client of it that starts no threads."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: _listens(port))
            client = boto3.client("s3")
            client.create_bucket(Bucket=NAME)
            yield client
        finally:
            server.terminate()


def upload(client: Any, prefix: str, folder: Path) -> None:
    """Put the files of a folder under a prefix."""
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(Bucket=NAME, Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())


def take(client: Any, prefix: str) -> dict[str, bytes]:
    """Return what lies under a prefix, by name, and remove it."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=NAME, Prefix=f"{prefix}/"):
        for entry in page.get("Contents", ()):
            body = client.get_object(Bucket=NAME, Key=entry["Key"])["Body"].read()
            found[entry["Key"].removeprefix(f"{prefix}/")] = body
            client.delete_object(Bucket=NAME, Key=entry["Key"])
    return found


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
