"""CUDA graphs of the pretended device: operations that are noted, and run later in the same memory."""

import threading
from contextlib import contextmanager

import torch
from torch.utils._pytree import tree_leaves

from tests.pretend_cuda.streams import current_stream

_of_thread = threading.local()


class Graph:
    """Stands in for `torch.cuda.CUDAGraph`."""

    def __init__(self, journal):
        self.journal, self.operations, self.kept, self.device = journal, [], {}, None

    def pool(self):
        return 0, 0

    def keep(self, written):
        """Keep what an operation is about to write: what is recorded changes nothing."""
        for tensor in written:
            memory = tensor.held.untyped_storage()
            self.kept.setdefault(memory.data_ptr(), (memory, memory.clone()))

    def add(self, compute, made, use):
        """Take an operation, the tensors that it made, and what memory it uses."""
        self.operations.append((compute, made, use))

    def replay(self):
        assert recording() is None
        self.journal.launches["replay"] += 1
        for compute, made, use in self.operations:
            self.journal.note_use(current_stream(self.device), *use)
            results = [leaf for leaf in tree_leaves(compute()) if isinstance(leaf, torch.Tensor)]
            for old, new in zip(made, results, strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def recording():
    """Return the graph that this thread records."""
    return getattr(_of_thread, "graph", None)


@contextmanager
def recorded(graph, pool=None, stream=None, capture_error_mode="global"):
    """Stand in for `torch.cuda.graph`."""
    graph.journal.note_sync("recording", stream.device)
    _of_thread.graph, graph.device = graph, stream.device
    try:
        yield
    finally:
        _of_thread.graph = None
        for memory, before in graph.kept.values():
            memory.copy_(before)
