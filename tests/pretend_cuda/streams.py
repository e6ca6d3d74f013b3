"""Streams and events with vector clocks: what each stream knows to be done by the others, and by the host.

A clock maps a stream's number to how many of its operations are known to be done. Waiting for an event merges the
event's clock into the stream's; a host sync merges the stream's clock into the host's, which every later operation
knows.
"""

import threading
from collections import Counter
from contextlib import contextmanager

import torch

kind = "cuda"  # what is pretended
host = Counter()  # what the host knows to be done; one for all threads, so a race that needs several is not seen
_chosen = threading.local()
_default: dict[torch.device, "Stream"] = {}


class Stream:
    """Stands in for `torch.cuda.Stream`."""

    count = 0

    def __init__(self, device=None, **options):
        Stream.count += 1
        self.number, self.device, self.clock, self.operations = Stream.count, full(device), Counter(), 0

    def launch(self):
        """Count an operation, which begins after all that the host knew to be done."""
        self.operations += 1
        merge(self.clock, host)
        self.clock[self.number] = self.operations

    def record_event(self, event=None):
        event = event or Event()
        event.clock = Counter(self.clock)
        return event

    def wait_event(self, event):
        merge(self.clock, event.clock)

    def wait_stream(self, other):
        merge(self.clock, other.clock)

    def synchronize(self):
        merge(host, self.clock)


class Event:
    """Stands in for `torch.cuda.Event`."""

    def __init__(self, *arguments, **options):
        self.clock = Counter()

    def record(self, stream=None):
        (stream or current_stream()).record_event(self)

    def wait(self, stream=None):
        (stream or current_stream()).wait_event(self)

    def synchronize(self):
        merge(host, self.clock)


def merge(clock, other):
    """Bring a clock up to another."""
    for number, done in other.items():
        clock[number] = max(clock[number], done)


def full(device):
    """Return a device with its number: `cuda` is `cuda:0`."""
    device = torch.device(kind, device or 0) if isinstance(device, int | None) else torch.device(device)
    return torch.device(kind, device.index or 0) if device.type == kind else device


def is_pretended(device):
    """Return whether a device, its name or None is of the pretended kind."""
    return device is not None and torch.device(device).type == kind


def default_stream(device=None):
    """Stand in for `torch.cuda.default_stream`."""
    device = full(device)
    if device not in _default:
        _default[device] = Stream(device)
    return _default[device]


def current_stream(device=None):
    """Stand in for `torch.cuda.current_stream`."""
    return getattr(_chosen, "streams", {}).get(full(device)) or default_stream(device)


@contextmanager
def stream(chosen):
    """Stand in for `torch.cuda.stream`."""
    streams = _chosen.__dict__.setdefault("streams", {})
    before = streams.get(chosen.device)
    streams[chosen.device] = chosen
    try:
        yield
    finally:
        streams[chosen.device] = before


def forget():
    """Forget all streams and what they did."""
    host.clear()
    _default.clear()
