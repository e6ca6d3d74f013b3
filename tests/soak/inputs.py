"""Damaged inputs of every format, and what reads them: only our errors, in little time and memory."""

import gc
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from heldout_torch.errors import HeldoutError
from tests.soak.formats import Format, all_formats

SECONDS, MEGABYTES = 2.0, 300.0


def try_mutants(form: Format, count: int, seed: int) -> tuple[int, float, float, list[str]]:
    """Return how many mutants were refused, the slowest's seconds, megabytes grown, and what was raised else."""
    refused, slowest, raised = 0, 0.0, {}
    form.read(form.good)
    gc.collect()
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _kilobytes("VmRSS")
    for number in range(count):
        mutant = form.damage(form.good, random.Random(seed * 10**6 + number))
        began = time.process_time()
        try:
            form.read(mutant)
        except HeldoutError as error:
            refused += 1
            if "\n" in str(error):
                raised.setdefault("a message of several lines", number)
        except Exception as error:
            trace = error.__traceback__
            while trace.tb_next is not None:
                trace = trace.tb_next
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            raised.setdefault(f"{type(error).__name__} at {place}: {str(error)[:120]!r}", number)
        slowest = max(slowest, time.process_time() - began)
    grown = (_kilobytes("VmHWM") - before) / 1024
    return refused, slowest, grown, [f"mutant {number}: {what}" for what, number in raised.items()]


def _kilobytes(field: str) -> int:
    if sys.platform != "linux":
        return 0  # not measured
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1])


def soak(mutants: int, seed: int, formats: Sequence[str] | None = None) -> int:
    """Try formats, and print a line for each; return with how many something is wrong."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, form in all_formats(Path(folder)).items():
            if formats and name not in formats:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                refused, slowest, grown, raised = try_mutants(form, mutants, seed)
            wrong = bool(raised) or slowest > SECONDS or grown > MEGABYTES
            bad += wrong
            print(
                f"{name:22} {mutants} mutants, {refused} refused, slowest {slowest:.2f} s, "
                f"grown {grown:.0f} MB{' WRONG' if wrong else ''}", flush=True,
            )  # fmt: skip
            for line in raised[:10]:
                print(f"    {line}")
    return bad
