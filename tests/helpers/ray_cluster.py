"""A Ray cluster for tests: what kills one of its workers, and one that is pretended."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace


@contextmanager
def one_worker_killed(when):
    """Kill one of this machine's Ray workers that do our work, as soon as `when()` holds; fail if none was."""
    killed, deadline = [], time.monotonic() + 120

    def kill_one():
        while not killed and time.monotonic() < deadline:
            if found := _workers() if when() else []:
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    yield
    deadline = 0
    killer.join()
    assert len(killed) == 1


def _workers():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::heldout"):
                found.append(int(path.parent.name))
        except OSError:  # the process has just ended
            pass
    return found


class PretendedRay:
    """Stands for the module `ray`: a cluster that has what is said, whose tasks are kept and give nothing.

    Attributes:
        options: Of the tasks, those about devices.
        called: What each task was given, after the work itself.
    """

    exceptions = SimpleNamespace(RayTaskError=(), RayError=())

    def __init__(self, resources):
        self._resources, self.options, self.called = resources, {}, []

    def init(self, **options):
        pass

    def cluster_resources(self):
        return self._resources

    def put(self, value):
        return value

    def remote(self, num_cpus, num_gpus, **others):
        self.options = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        task = SimpleNamespace(remote=self._call)
        task.options = lambda: task
        return lambda function: task

    def _call(self, plugins, folder, device, work, *arguments):
        self.called.append(arguments)
        return object()

    def wait(self, tasks):
        return tasks[:1], tasks[1:]

    def get(self, task):
        return []

    def cancel(self, task):
        pass
