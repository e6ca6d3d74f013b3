"""Damaged inputs: bytes changed anywhere, arrays and JSON values changed with everything around them kept good."""

import io
import json
import random
import zipfile
from typing import Any

_VALUES = [
    None,
    True,
    -1,
    2**63,
    2**200,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "../x",
    "\x1b[2J\n",
    "9" * 5000,
    [],
    {},
]


def of_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip, replace, repeat, remove or cut bytes, in one to four places."""
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(data) + 1)
        end = min(len(data), position + chance.choice([1, 1, 2, 8, 64]))
        middle = chance.choice([
            chance.randbytes(end - position), data[position:end] * 2, b"", b"\xff" * (end - position),
            bytes(end - position),
        ])  # fmt: skip
        data = data[:position] + middle + data[end:]
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data


def of_npz(data: bytes, chance: random.Random) -> bytes:
    """Damage the zip file, or one array in it, of which the checksum is then a good one; or leave one out."""
    if chance.random() < 0.3:
        return of_bytes(data, chance)
    members = unzipped(data)
    name = chance.choice(list(members))
    kind = chance.randrange(4)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = members[chance.choice(list(members))]
    else:
        end = min(len(members[name]), 128) if kind == 2 else len(members[name])
        members[name] = of_bytes(members[name][:end], chance) + members[name][end:]
    return zipped(members)


def of_member(data: bytes, chance: random.Random) -> bytes:
    """Damage one file in a zip file, or leave it out."""
    members = unzipped(data)
    name = chance.choice(list(members))
    members[name] = (of_json if name.endswith(".json") else of_bytes)(members[name], chance)
    if chance.random() < 0.05:
        del members[name]
    return zipped(members)


def unzipped(data: bytes) -> dict[str, bytes]:
    """Return the files in a zip file, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a zip file of files, which are not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, contents in members.items():
            archive.writestr(zipfile.ZipInfo(name), contents)
    return buffer.getvalue()


def of_json(data: bytes, chance: random.Random) -> bytes:
    """Damage the text, nest it beyond measure, or put another value in some place."""
    kind = chance.random()
    if kind < 0.2:
        return of_bytes(data, chance)
    if kind < 0.22:
        depth = chance.choice([500, 100_000])
        return b'{"a":' * depth + b"1" + b"}" * depth
    table = json.loads(data)
    for _ in range(chance.randint(1, 3)):
        table = _changed(table, chance)
    return json.dumps(table).encode()


def _changed(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(_VALUES)
    place = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    if chance.random() < 0.1:
        del value[place]
    else:
        value[place] = _changed(value[place], chance)
    return value
