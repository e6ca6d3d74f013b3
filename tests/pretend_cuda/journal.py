"""What happened on the pretended device: launches, host syncs, and races between streams."""

import sys
from collections import Counter
from dataclasses import dataclass, field

from tests.pretend_cuda import graphs
from tests.pretend_cuda.streams import Stream, current_stream


@dataclass
class Memory:
    """The history of a piece of device memory.

    Attributes:
        home: Number of the stream that allocated it.
        written: The stream that wrote it last, and which of its operations that was.
        read: For each stream the last operation that read it since.
        guests: Streams other than its home that used it, and the line of the first use.
        recorded: Streams of which the allocator was told by `record_stream`.
    """

    home: int
    written: tuple[int, int]
    read: dict[int, int] = field(default_factory=dict)
    guests: dict[int, str] = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)


class Journal:
    """What the operations of one test did.

    Attributes:
        launches: Kernels, by the operation's name.
        syncs: Where the host waited for the device, by (why, the line of the package that did it).
        problems: What a GPU might get wrong, in words.
    """

    def __init__(self):
        self.launches, self.syncs, self.problems = Counter(), Counter(), []
        self.memory: dict[int, Memory] = {}  # by the address of the storage

    def note_sync(self, why, device=None):
        """The host waits for all that the current stream was given, which it may not while a graph is recorded."""
        if graphs.recording() is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({why} at {line()})")
        self.syncs[why, line()] += 1
        current_stream(device).synchronize()

    def note_use(self, stream: Stream, name, used, written, made):
        """An operation runs on a stream.

        Args:
            stream: The stream.
            name: The operation.
            used: Addresses of the memory that it takes.
            written: Those of them that it writes.
            made: Addresses of its outputs.
        """
        stream.launch()
        now = stream.number, stream.operations
        for address in used:
            if (memory := self.memory.get(address)) is None:
                continue
            if _unknown(stream, *memory.written):
                self.problems.append(f"{name} at {line()} uses what another stream may not have written yet")
            if address in written:
                if any(_unknown(stream, *read) for read in memory.read.items()):
                    self.problems.append(f"{name} at {line()} writes what another stream may not have read yet")
                memory.written, memory.read = now, {}
            else:
                memory.read[stream.number] = stream.operations
            if stream.number != memory.home:
                memory.guests.setdefault(stream.number, line())
        for address in made - used:
            if address in self.memory:  # its memory was freed, and given out again
                self._freed(self.memory[address])
            self.memory[address] = Memory(stream.number, now)

    def finish(self):
        """Free all memory, and return the problems."""
        for memory in self.memory.values():
            self._freed(memory)
        self.memory = {}
        return self.problems

    def _freed(self, memory):
        for number, place in memory.guests.items():
            if number not in memory.recorded:
                self.problems.append(f"used at {place} on another stream than its own without record_stream")


def _unknown(stream, number, operation):
    return number != stream.number and stream.clock[number] < operation


def line():
    """Return the line of the package that is running, or of the test."""
    frame, outside = sys._getframe(1), "?"
    while frame is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/heldout_torch/" in file:
            return f"{file.rpartition('/heldout_torch/')[2]}:{frame.f_lineno}"
        if outside == "?" and "/tests/" in file and "/pretend_cuda/" not in file:
            outside = f"{file.rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return outside
