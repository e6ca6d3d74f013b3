"""Run work as tasks on a Ray cluster, with one core or GPU for each task.

Tasks of a dead worker are repeated, and those that a device failed, on other machines.
"""

import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO, TypeVar, cast

from heldout_torch.errors import DeviceError, HeldoutError, one_line, warn
from heldout_torch.optional import require
from heldout_torch.plugins import load_plugins, loaded_plugins

T = TypeVar("T")

_RETRIES = 20


class Cluster:
    """A Ray cluster, and the kind of device that tasks on it use; the machine of this process need not have one.

    Args:
        address: Of the cluster, as `ray.init` takes it; `auto` finds the one that this machine belongs to.
        device: `cpu` or `cuda`; None for `cuda` if the cluster has GPUs, else `cpu`.

    Attributes:
        device: `cpu` or `cuda`: a task sees only the GPU that it asked for.
        slots: How many tasks run at once, at least 1.

    Raises:
        HeldoutError: If Ray is not installed, the cluster cannot be reached, or the device is another one or is not
            there.
    """

    def __init__(self, address: str, device: str | None) -> None:
        if device not in (None, "cpu", "cuda"):
            raise HeldoutError(
                f"device {device!r} cannot be chosen on a cluster, expected cpu or cuda; a task uses one GPU"
            )
        ray = require("ray", "work on a cluster")
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
            there = ray.cluster_resources()
        except (ConnectionError, RuntimeError, ValueError) as error:
            # The first line of what Ray says is often a heading only.
            raise HeldoutError(f"Ray cluster {address!r} cannot be reached: {one_line(error)}") from None
        self._ray = ray
        self.device = device or ("cuda" if there.get("GPU", 0) >= 1 else "cpu")
        slots = int(there.get("GPU" if self.device == "cuda" else "CPU", 0))
        if not slots and self.device == "cuda":
            raise HeldoutError(f"Ray cluster {address!r} has no GPU, expected one for --device cuda")
        self.slots = max(1, slots)

    def map(self, work: Callable[..., T], items: Sequence[Any], *shared: Any) -> Iterator[T]:
        """Call `work(item, *shared)` for each item, each in a task.

        A task whose worker dies is started again on any machine, and one whose device fails on a machine where none
        has, so its work must be repeatable. Workers import the plugins of this process.

        Args:
            work: A function of a module.
            items: What the calls differ in.
            shared: What they have in common; it travels to each machine once.

        Yields:
            What the calls return, in the order in which they finish.

        Raises:
            HeldoutError: If a call raises, devices of all machines failed, or the cluster fails.
        """
        ray, gpus = self._ray, int(self.device == "cuda")
        task = ray.remote(num_cpus=1 - gpus, num_gpus=gpus, max_retries=_RETRIES, name="heldout")(_task)
        how = loaded_plugins(), os.getcwd(), self.device
        common = [ray.put(one) for one in shared]
        failed: set[str] = set()  # machines

        def begin(item: Any) -> Any:
            here = {"label_selector": {"ray.io/node-id": f"!in({','.join(failed)})"}} if failed else {}
            return task.options(**here).remote(*how, work, item, *common)

        pending = {begin(item): item for item in items}
        try:
            with _messages_to_stderr():
                while pending:
                    (done, *_), _ = ray.wait(list(pending))
                    item, result = pending.pop(done), ray.get(done)
                    if isinstance(result, _DeviceFailure):
                        self._leave(result, failed)
                        pending[begin(item)] = item
                    else:
                        yield result
        except ray.exceptions.RayTaskError as error:
            raise HeldoutError(f"a task failed on the cluster: {one_line(error.cause)}") from None
        except ray.exceptions.RayError as error:
            raise HeldoutError(f"the cluster failed: {one_line(error)}") from None
        finally:
            for task_left in pending:
                ray.cancel(task_left)

    def _leave(self, failure: "_DeviceFailure", failed: set[str]) -> None:
        """Add a machine to those whose devices failed; that is the end if there is no other."""
        known, kind = failure.node in failed, "GPU" if self.device == "cuda" else "CPU"
        failed.add(failure.node)
        able = {node["NodeID"] for node in self._ray.nodes() if node["Alive"] and node["Resources"].get(kind, 0) >= 1}
        line = f"a task failed on {failure.machine} of the cluster: {failure.error}"
        if not able - failed:
            raise HeldoutError(f"{line}; no other machine is left; run it again to continue")
        if not known:
            warn(f"{line}; what fails there is done on other machines", stacklevel=2)


class _DeviceFailure(NamedTuple):
    """What a device did wrong, and on which of Ray's nodes and which machine."""

    node: str
    machine: str
    error: str


def _task(
    plugins: Sequence[str], folder: str, device: str, work: Callable[..., T], item: Any, *shared: Any
) -> T | _DeviceFailure:
    import torch

    ray = require("ray", "work on a cluster")
    if os.path.isdir(folder):  # paths may be relative to it
        os.chdir(folder)
    load_plugins(plugins)
    if device == "cpu":
        torch.set_num_threads(1)  # the core that the task asked for
    try:
        return work(item, *shared)
    except DeviceError as error:
        return _DeviceFailure(ray.get_runtime_context().get_node_id(), platform.node(), str(error))


@contextmanager
def _messages_to_stderr() -> Iterator[None]:
    """Keep what Ray tells of dead workers out of the standard output, which is the command's own."""
    # Ray prints it in a thread, without a setting that stops it; what the program prints comes from other threads.
    before = sys.stdout
    sys.stdout = cast(TextIO, _ByThread(before))
    try:
        yield
    finally:
        sys.stdout = before


class _ByThread:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if threading.current_thread().name.startswith("ray_") else self._stream, name)
