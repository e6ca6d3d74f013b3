"""Reads a report's scripts as a browser would."""

import json


def read_script(folder, name):
    """Give the value that `data/<name>.js` adds."""
    text = (folder / "data" / f"{name}.js").read_text()
    added = json.loads(f"[{text.removeprefix('heldout.add(').removesuffix(f');{chr(10)}')}]")
    assert added[0] == name
    return added[1]


def read_examples(folder, examples, block):
    """Give the columns of all examples, block by block."""
    columns = {}
    for number in range(-(-examples // block)):
        for name, values in read_script(folder, f"examples-{number}").items():
            columns.setdefault(name, []).extend(values)
    return columns
