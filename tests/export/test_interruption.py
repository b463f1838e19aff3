"""A build that is killed: nothing that loads is left, and the next build finds its place clean."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.engines import STRETCH_168, Built, built
from tests.export.conftest import exported
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.manifest import read_manifest, write_manifest
from vicrop_engine.errors import EngineDirectoryError
from vicrop_export.build import build_engine
from vicrop_export.staging import LAST

# A build that says where it is and, at one place, waits to be killed. Places are the stages it reports, and
# where a manifest comes near a name that loads. A build that waits is given its graphs, exported before.
BUILD = """
import sys, time
import onnx
from vicrop_export import build, staging
from vicrop_export.checks import agreement
from vicrop_export.onnx_files.exported import ExportedGraph

checkpoint, output, graphs, precision, end = sys.argv[1:]

def exported(name, *_):
    return ExportedGraph(name, onnx.load(f"{graphs}/{name}", load_external_data=False))

def reach(place, _share=None):
    print(place, flush=True)
    if place and place == end:
        time.sleep(600)

def before(module, name, place):
    function = getattr(module, name)

    def call(*arguments, **keywords):
        reach(place(*arguments))
        return function(*arguments, **keywords)

    setattr(module, name, call)

before(agreement, "open_model", lambda path, *_: "asking float32" if path.name == "scratch" else "")
before(staging, "sync_files", lambda _: "flushing")
before(staging, "_complete", lambda path: "completing" if (path / staging.LAST).exists() else "")
if end:
    build.export_described = exported
build.build_engine(checkpoint, output, name="llava-signs", precision=precision, force=True, progress=reach)
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "home"))
    return built(STRETCH_168)


@contextmanager
def building(checkpoint: Path, output: Path, precision: str, end: str) -> Iterator[subprocess.Popen[str]]:
    graphs = output.parents[1] / "graphs"
    graphs.mkdir(exist_ok=True)
    for name, graph in exported().items():
        onnx.save(graph.proto, graphs / name, format="protobuf")
    command = [sys.executable, "-c", BUILD, str(checkpoint), str(output), str(graphs), precision, end]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], place: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == place:
            return
    pytest.fail(f"the build ended with {process.wait()} before {place!r}")


def kill(checkpoint: Path, output: Path, end: str, *, precision: str = "fp32", wait: float = 0) -> None:
    """Build until `end`, and kill the build there or, if it does not stop there, `wait` seconds later."""
    with building(checkpoint, output, precision, "" if wait else end) as process:
        wait_for(process, end)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def assert_nothing_loads(place: Path) -> None:
    for directory in (place, *(path for path in place.rglob("*") if path.is_dir())):
        with pytest.raises(EngineDirectoryError):
            read_manifest(directory)
        with pytest.raises(EngineDirectoryError):
            ViCropEngine.load(directory)


def test_killed_builds_leave_nothing_that_loads(made: Built, tmp_path: Path) -> None:
    output = tmp_path / "place" / "engine"
    kill(made.checkpoint, output, "exporting vision", wait=random.uniform(0.01, 3))
    left = list(output.parent.iterdir())
    for place, precision in (("asking float32", "int8"), ("flushing", "fp32")):
        kill(made.checkpoint, output, place, precision=precision)
        assert not output.exists()
        (partial,) = output.parent.iterdir()  # and the one before was cleared
        left.append(partial)
        assert (partial / "decoder_upper.onnx").exists()
        assert not (partial / "manifest.json").exists()
        assert_nothing_loads(output.parent)
    assert len(set(left)) == 3
    assert (partial / LAST).exists()

    manifest = build_engine(made.checkpoint, output, name="llava-signs")
    assert ViCropEngine.load(output).manifest == manifest
    assert manifest.files == made.manifest.files  # to the byte what was built elsewhere
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("replaces", [False, True])
def test_a_build_killed_before_its_manifest_has_its_name_is_completed_by_the_next(
    replaces: bool, made: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "place" / "engine"
    if replaces:
        shutil.copytree(made.engine, output)
        write_manifest(output, replace(made.manifest, precision="int8"))
    kill(made.checkpoint, output, "completing")
    assert_nothing_loads(output)
    assert (output / LAST).exists()
    aside = [path for path in output.parent.iterdir() if path != output]
    assert [read_manifest(path).precision for path in aside] == ["int8"] * replaces  # the engine before it

    stages: list[str] = []
    monkeypatch.setattr("vicrop_export.build.export_described", lambda *_: pytest.fail("it was whole"))
    manifest = build_engine(
        made.checkpoint, output, name="llava-signs", progress=lambda stage, _: stages.append(stage)
    )
    assert stages == ["reading the checkpoint", "already built"]
    assert manifest == made.manifest
    assert ViCropEngine.load(output).manifest == manifest
    assert list(output.parent.iterdir()) == [output]
