"""What tests of several rooms need: limits, exact float32, S3 and a bucket of one test, the published look-alikes."""

import shutil
import signal
import uuid
from pathlib import Path

import pytest

from heldout_torch import plugins
from heldout_torch.float32 import float32_only
from heldout_torch.storage import retries
from heldout_torch.zoo import sample_zoo
from tests.helpers.devices import PRETENDED
from tests.pretend_cuda import pretended_cuda

SLOW_SECONDS = 1800  # what a slow test may take; the limit of the others is in setup.cfg


def pytest_collection_modifyitems(config, items):
    """Give slow tests a limit of their own, where pytest-timeout is installed."""
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def no_proxy_of_who_runs_them():
    """Servers of the tests are on this machine, to which a proxy of the environment does not know the way."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(autouse=True)
def plugins_of_one_test(monkeypatch):
    """What a test or a page loads is not a plugin of the next test, whose workers may not find its module."""
    monkeypatch.setattr(plugins, "LOADED", list(plugins.loaded_plugins()))


@pytest.fixture
def slept(monkeypatch):
    """The seconds that are waited between tries, which pass at once."""
    waits = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    return waits


@pytest.fixture
def hangups_arrive():
    """Hangups for the programs that a test starts: under `nohup` they would ignore them as the tests do."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def device(request):
    """A device's name as users give it, for tests marked with `on_devices`; see `tests.helpers.devices`."""
    if request.param != PRETENDED:
        yield request.param
        return
    with pretended_cuda() as journal:
        yield "cuda"
    assert journal.finish() == []


@pytest.fixture
def exact_float32():
    """Float32 that is float32, for tests that call networks themselves: a GPU's convolutions are in TF32 otherwise."""
    with float32_only():
        yield


@pytest.fixture(scope="session")
def s3_server():
    """URL of a server that speaks the protocol of S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, tmp_path, monkeypatch):
    """URL of an empty bucket; the cache is the test's own, and waiting before a further try is short."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "HELDOUT_TORCH_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HELDOUT_TORCH_OFFLINE", raising=False)
    monkeypatch.setattr(retries, "WAITS", (0.01, 0.02, 0.03))
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def turn_off_server(bucket, monkeypatch):
    """What makes the server of `bucket` unreachable."""
    import s3fs

    def turn_off():
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()

    return turn_off


@pytest.fixture
def tree(tmp_path) -> Path:
    """A TensorFlow tree of the sample's runs, the test's own."""
    return Path(shutil.copytree(sample_zoo(), tmp_path / "tree"))


@pytest.fixture
def cluster():
    """Address of a Ray cluster of two cores on this machine."""
    ray = pytest.importorskip("ray")
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def published_files(tmp_path_factory):
    """Folder of look-alikes of the published files, the arrays in them, ImageNet's scores by index."""
    from tests.helpers.published import write_look_alikes

    folder = tmp_path_factory.mktemp("published")
    return folder, *write_look_alikes(folder)


@pytest.fixture
def published_server(published_files, tmp_path, monkeypatch):
    """A server of them, which the list of published files names."""
    from tests.helpers.published import served

    with served(published_files[0], tmp_path, monkeypatch) as running:
        yield running
