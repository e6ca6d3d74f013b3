"""Plugin of pytest (`-p tests.helpers.missing_packages`): a test whose package is not installed is skipped, by name.

For machines where nothing is to be installed. Without it such tests fail.
"""

from collections import Counter

import pytest

_OUR_OWN = ("heldout_torch", "tests")
_counts: Counter[str] = Counter()  # skipped tests, or files of tests, by package


def pytest_configure(config):
    config.addinivalue_line("markers", "timeout: of pytest-timeout, which need not be installed")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    skip(report, getattr(report, "call", None), collector.path)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    skip(report, call, item.path)
    return report


def skip(report, call, path):
    """Turn the report of a failure into that of a skip, if a package that is not installed is behind it."""
    package = missing(call.excinfo.value) if report.failed and call and call.excinfo else None
    if package is not None:
        _counts[package] += 1
        report.outcome = "skipped"
        report.longrepr = (str(path), 0, f"Skipped: needs {package}, which is not installed")


def missing(error):
    """Return the package whose absence led to an error, or None."""
    while error is not None:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if name and name.partition(".")[0] not in _OUR_OWN:
            return name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return None


def pytest_terminal_summary(terminalreporter):
    for package, count in sorted(_counts.items()):
        terminalreporter.write_line(f"skipped for want of {package}: {count} tests, or files of tests")
