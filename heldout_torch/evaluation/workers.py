"""Tasks spread over the devices of this machine, a process each; one that fails leaves its tasks to the others.

A GPU has two tasks at once, of which one computes (`devices.turn_on`) while the other reads or writes files.

Each process is told its tasks one by one over a pipe of its own, so that whatever ends it concerns no other. What all
tasks need goes there pickled by Python itself: PyTorch would put tensors into shared memory, of which a container may
have little.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from heldout_torch.errors import DeviceError, HeldoutError, warn
from heldout_torch.evaluation.devices import tasks_at_once
from heldout_torch.plugins import load_plugins, loaded_plugins
from heldout_torch.storage.threads import map_ahead

Task = TypeVar("Task")
Result = TypeVar("Result")
Tell = Callable[[Any], object]
# Given a device, gives what does a task there and whom to tell of progress, and returns the task's results.
Make = Callable[[str], Callable[[Task, Tell], Sequence[Result]]]


def spread(make: Make[Task, Result], tasks: Sequence[Task], devices: Sequence[str], tell: Tell) -> Iterator[Result]:
    """Do tasks on several devices, or on one in this process.

    Args:
        make: What does a task; a function of a module, or a partial of one, since other processes get it.
        tasks: The tasks.
        devices: Each has a process of its own; they share the threads of this one, unless `OMP_NUM_THREADS` says how
            many each has.
        tell: Called here with what tasks tell.

    Yields:
        The results of tasks, in the order in which tasks finish, or in a single process that of the tasks.

    Raises:
        HeldoutError: If a task raises it, but for DeviceError, or all devices failed.
    """
    if not tasks:
        return
    if len(devices) == 1 or len(tasks) == 1:
        yield from _spread_here(make(devices[0]), tasks, tasks_at_once(devices[0]), tell)
        return
    devices = devices[: len(tasks)]
    at_once = tasks_at_once(devices[0])
    context: Any = torch.multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, torch.get_num_threads() // len(devices))
    pickled = pickle.dumps(make)
    workers: dict[Any, tuple[str, Any]] = {}  # by this end of its pipe: the device and the process
    busy: dict[Any, dict[int, Task]] = {}  # by the same, the tasks that it has
    waiting = deque(enumerate(tasks))

    def begin() -> None:
        if os.name == "posix":  # Ctrl-C and a closed terminal are ours to hear: we end what we start
            resource_tracker.ensure_running()  # its start, else part of the first process's, would let them in again
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})  # of this thread, and inherited
        for device in devices:
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, loaded_plugins(), threads, device, at_once), daemon=True
            )
            process.start()
            there.close()  # the process has it, and its end is ours to see
            workers[here], busy[here] = (device, process), {}

    try:
        with ThreadPoolExecutor(1) as pool:  # for a signal interrupts the main thread, and would cut the start in two
            pool.submit(begin).result()
        for pipe in workers:  # not with the arguments: much is written only as fast as a process that begins reads it
            with suppress(OSError):  # it is dead, as reading from it will tell
                pipe.send_bytes(pickled)
        while waiting or any(busy.values()):
            while waiting and len(busy[pipe := min(busy, key=lambda pipe: len(busy[pipe]))]) < at_once:
                number, task = waiting.popleft()
                busy[pipe][number] = task
                with suppress(OSError):  # it is dead, as reading from it will tell
                    pipe.send((number, task))
            for pipe in wait(list(workers)):
                kind, value = _receive(pipe, workers[pipe][1])
                if kind == "told":
                    tell(value)
                elif kind == "done":
                    number, results = value
                    del busy[pipe][number]
                    yield from results
                elif kind == "error":
                    raise value
                else:
                    device, _ = workers.pop(pipe)
                    waiting.extendleft(reversed(busy.pop(pipe).items()))
                    if not workers:
                        raise DeviceError(f"{value}; no device is left; run it again to continue")
                    warn(f"{value}; the other devices go on without {device}", stacklevel=2)
    finally:
        for _, process in workers.values():
            process.terminate()
            process.join()


def _spread_here(
    do: Callable[[Task, Tell], Sequence[Result]], tasks: Sequence[Task], at_once: int, tell: Tell
) -> Iterator[Result]:
    if at_once == 1:
        for task in tasks:
            yield from do(task, tell)
        return
    lock = threading.Lock()

    def tell_alone(value: Any) -> None:
        with lock:
            tell(value)

    for results in map_ahead(lambda task: do(task, tell_alone), tasks, at_once, at_once):
        yield from results


def _receive(pipe: Any, process: Any) -> tuple[str, Any]:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        process.join()
        return "failed", f"a process died with exit code {process.exitcode}"


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, which a killed one cannot ask for."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # a pipe that the system closes
        os._exit(1)

    threading.Thread(target=watch, name="watch parent", daemon=True).start()


def _serve(pipe: Connection, plugins: Sequence[str], threads: int | None, device: str, at_once: int) -> None:
    _end_with_parent()
    receiving, sending = threading.Lock(), threading.Lock()
    failures: SimpleQueue[BaseException] = SimpleQueue()

    def send(kind: str, value: Any) -> None:
        with sending:
            pipe.send((kind, value))

    def work() -> None:
        try:
            if threads:
                torch.set_num_threads(threads)  # of this thread
            while True:
                with receiving:
                    number, task = pipe.recv()
                send("done", (number, do(task, lambda value: send("told", value))))
        except BaseException as error:  # told by the main thread, which ends the process
            failures.put(error)

    try:
        load_plugins(plugins)
        do = pickle.loads(pipe.recv_bytes())(device)  # from the process that started this one
        for _ in range(at_once):
            threading.Thread(target=work, daemon=True).start()
        raise failures.get()
    except DeviceError as error:
        send("failed", str(error))
    except HeldoutError as error:
        send("error", error)
