"""A build that is killed: nothing that loads is left, and the next build finds its place clean."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engines import STRETCH_168, Built, built
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import EngineDirectoryError
from vicrop_engine.manifest import read_manifest
from vicrop_export.build import build_engine

# A build that says where it is and, at the last stage, waits to be killed.
BUILD = """
import sys, time
from vicrop_export.build import build_engine

def progress(stage, share):
    print(stage, flush=True)
    if stage == "hashing":
        time.sleep(600)

build_engine(sys.argv[1], sys.argv[2], name="llava-signs", progress=progress)
"""


@contextmanager
def building(checkpoint: Path, output: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BUILD, str(checkpoint), str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], stage: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == stage:
            return
    pytest.fail(f"the build ended with {process.wait()} before {stage!r}")


def test_killed_builds_leave_nothing_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "home"))
    made: Built = built(STRETCH_168)
    output = tmp_path / "place" / "engine"
    left = set()
    for stage, wait in (("exporting vision", random.uniform(0, 3)), ("hashing", 0)):
        with building(made.checkpoint, output) as process:
            wait_for(process, stage)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert not output.exists()
        (partial,) = output.parent.iterdir()  # and the one before was cleared
        left.add(partial)
        for directory in (partial, output):
            with pytest.raises(EngineDirectoryError):
                read_manifest(directory)
            with pytest.raises(EngineDirectoryError):
                ViCropEngine.load(directory)
    assert len(left) == 2
    assert (partial / "decoder_upper.onnx").exists()

    manifest = build_engine(made.checkpoint, output, name="llava-signs")
    assert ViCropEngine.load(output).manifest == manifest
    assert manifest.files == made.manifest.files  # to the byte what was built elsewhere
    assert list(output.parent.iterdir()) == [output]
