"""docs/reliability.md: each promise names a test, and that is there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
WITHOUT = ("Bounds", "Not promised")  # tests/field/test_bounds.py compares the first with the constants


def promises():
    text = (REPOSITORY / "docs/reliability.md").read_text()
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        if title not in WITHOUT:
            yield from (f"{title}: {' '.join(item.split())}" for item in re.split(r"^- ", body, flags=re.MULTILINE)[1:])


def test_each_promise_names_a_test_that_is_there():
    found = list(promises())
    assert len(found) > 25
    for promise in found:
        names = re.findall(r"`(tests/[\w/]+\.py)`", promise)
        assert names, promise
        for name in names:
            text = (REPOSITORY / name).read_text()
            assert re.search(r"^def test_\w+\(", text, re.MULTILINE) or "/soak/" in name, promise
