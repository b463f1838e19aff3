"""A Ray of this machine for all tests here: loopback, no dashboard, nothing reported, nothing left behind."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator

import pytest

from vicrop_engine import ViCropEngine
from vicrop_engine.examples import Example, signs
from vicrop_engine.serving.scheduler import Scheduler

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so that it listens on loopback alone
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)  # which else is left in the home directory

with warnings.catch_warnings():  # Ray's own, when it is imported first
    warnings.filterwarnings("ignore", "Using extra keyword arguments on `Field`", DeprecationWarning)
    import ray
    import ray.data
    import ray.serve

    from tests.ray.cluster import PLAN, Ask
    from tests.ray.processes import descendants, still_there
    from vicrop_engine.ray_serve.application import build_app
    from vicrop_engine.ray_serve.remote_scheduler import RemoteScheduler


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """Ray with room for two replicas and two engines of a job, gone with all its processes at the end."""
    before = descendants(os.getpid())
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: Ray's sockets are in it
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )
    yield
    now = descendants(os.getpid())
    started = {process: start for process, start in now.items() if process not in before}
    ray.shutdown()
    left = still_there(started)
    shutil.rmtree(folder)
    assert started
    assert not left


@pytest.fixture(scope="package")
def address(cluster: None) -> Iterator[str]:
    """The application behind HTTP, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.serve.start(http_options={"host": "127.0.0.1", "port": port})
    ray.serve.run(build_app(PLAN))
    yield f"http://127.0.0.1:{port}"
    ray.serve.shutdown()


@pytest.fixture(scope="package")
def scheduler(address: str) -> Iterator[RemoteScheduler]:
    """A scheduler in this process, in front of the same replicas."""
    handle = ray.serve.get_deployment_handle("replicas", "default")
    with RemoteScheduler(handle, PLAN) as scheduler:
        yield scheduler


@pytest.fixture(scope="package")
def engine() -> ViCropEngine:
    """The embedded engine in this process, with as many threads as a replica's."""
    return ViCropEngine.load("llava-signs", threads=PLAN.threads)


@pytest.fixture(scope="package")
def alone(engine: ViCropEngine) -> Iterator[Ask]:
    """One question after the other to a scheduler in this process: the answers there should be."""
    with Scheduler(engine, PLAN.bounds) as scheduler:
        yield lambda *asked, **keywords: scheduler.submit(*asked, **keywords).future.result()


@pytest.fixture(scope="package")
def questions() -> list[tuple[bytes, Example]]:
    """Pictures as encoded bytes, with the embedded questions about them; several about each picture."""
    return [(path.read_bytes(), example) for path, example in signs()[:40]]
