"""A Ray cluster for tests: what kills one of its workers, and one that is pretended."""

import os
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace


@contextmanager
def one_worker_killed(when):
    """Kill one of the Ray workers that do the work of this process, as soon as `when()` holds; fail if none was."""
    killed, ended = [], threading.Event()

    def kill_one():
        while not killed and not ended.wait(0.01):
            if found := _workers() if when() else []:
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        yield
    finally:  # or it would kill a worker of the next test
        ended.set()
        killer.join()
    assert len(killed) == 1


def _workers():
    """Return those of the cluster that this process started: another session of the tests may have one, too."""
    parents, found = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has just ended
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_bytes().startswith(b"ray::heldout"):
                found.append(int(path.name))
    return [worker for worker in found if os.getpid() in _above(worker, parents)]


def _above(process, parents):
    while (process := parents.get(process)) is not None:
        yield process


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
