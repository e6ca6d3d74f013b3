"""Tasks on a cluster of several machines, of which the device of one fails."""

import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest

from heldout_torch.cluster import Cluster
from heldout_torch.errors import DeviceError, HeldoutError


def work(item, broken, node=None):
    """Return the item, but fail on some nodes."""
    if node is None:
        import ray

        time.sleep(0.05)
        node = ray.get_runtime_context().get_node_id()
    if node in broken:
        raise DeviceError("cuda failed (CUDA error: unspecified launch failure)")
    return item


class Machines:
    """Stands for the module `ray`: machines of one GPU each, of which the first that may take a task takes it."""

    exceptions = SimpleNamespace(RayTaskError=(), RayError=())

    def __init__(self, names):
        self.names, self.ran, self.node = names, [], None

    def init(self, **options):
        pass

    def cluster_resources(self):
        return {"GPU": float(len(self.names)), "CPU": 9.0}

    def nodes(self):
        machines = [{"NodeID": name, "Alive": True, "Resources": {"GPU": 1.0, "CPU": 1.0}} for name in self.names]
        dead = {"NodeID": "dead", "Alive": False, "Resources": {"GPU": 1.0}}
        return [*machines, dead, {"NodeID": "head", "Alive": True, "Resources": {"CPU": 8.0}}]

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: self.node)

    def put(self, value):
        return value

    def remote(self, **options):
        return lambda function: SimpleNamespace(options=lambda **chosen: self._task(function, **chosen))

    def _task(self, function, label_selector=None):
        banned = (label_selector or {"ray.io/node-id": "!in()"})["ray.io/node-id"].removeprefix("!in(")[:-1].split(",")
        node = next(name for name in self.names if name not in banned)
        return SimpleNamespace(remote=lambda *arguments: partial(self._run, node, function, arguments))

    def wait(self, tasks):
        return tasks[:1], tasks[1:]

    def _run(self, node, function, arguments):
        self.node = node
        self.ran.append(node)
        return function(*arguments, node)

    def get(self, task):
        return task()

    def cancel(self, task):
        pass


def test_what_a_device_fails_is_done_on_other_machines(monkeypatch):
    """It was the end of the sweep."""
    ray = Machines(["a", "b", "c"])
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.warns(UserWarning, match="of the cluster: cuda failed") as told:
        assert list(Cluster("auto", "cuda").map(work, [3, 1, 2], {"a", "b"})) == [3, 1, 2]
    assert [str(one.message).rpartition("; ")[2] for one in told] == ["what fails there is done on other machines"] * 2
    assert "".join(ray.ran) == "aaabbbccc"


def test_where_all_devices_fail_is_the_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", Machines(["a", "b"]))
    line = r"CUDA error: unspecified launch failure\); no other machine is left; run it again to continue"
    with pytest.warns(UserWarning, match="cuda failed"), pytest.raises(HeldoutError, match=line):
        list(Cluster("auto", "cuda").map(work, [3], {"a", "b"}))


@pytest.mark.slow
def test_ray_takes_it_to_other_machines():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        cluster = Cluster(nodes.address, "cpu")
        one, other = (node["NodeID"] for node in ray.nodes())
        with pytest.warns(UserWarning, match="cuda failed") as told:
            assert sorted(cluster.map(work, range(8), {one})) == list(range(8))
        assert len(told) == 1
        with pytest.warns(UserWarning, match="cuda failed"), pytest.raises(HeldoutError, match="no other machine"):
            list(cluster.map(work, range(2), {one, other}))
    finally:
        ray.shutdown()
        nodes.shutdown()
