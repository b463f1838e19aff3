"""A low-precision build killed at ten random moments: nothing that loads is left.

One build is stopped at each of them, and its files are copied: a kill there leaves just these.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engines import STRETCH_168, built
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import ViCropError

# Stages of a build, in order; it is stopped a random while after one of them began.
STAGES = (
    *("reading the checkpoint", "running transformers on a probe", "exporting vision"),
    *("exporting decoder_upper", "comparing with transformers", "writing vision", "writing decoder_lower"),
    *("comparing what was written", "hashing", "comparing answers with float32"),
)
BUILD = """
import sys
from vicrop_export.build import build_engine
say = lambda stage, share: print(stage, flush=True)
build_engine(sys.argv[1], sys.argv[2], name="llava-signs", precision="int4", progress=say)
"""


def test_nothing_that_loads_is_left(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    output, kills = place / "engine", tmp_path / "kills"
    command = [sys.executable, "-c", BUILD, str(built(STRETCH_168).checkpoint), str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for number, stage in enumerate(STAGES):
            assert any(line.startswith(stage) for line in process.stdout), f"it ended before {stage!r}"
            time.sleep(random.uniform(0, 0.5))
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            shutil.copytree(place, kills / str(number))
            process.send_signal(signal.SIGCONT)
        process.kill()
    shutil.move(place, kills / "and really")
    left = [path for path in kills.rglob("*") if path.is_dir()]
    assert len(left) >= 2 * len(STAGES), "most of them left something"
    for directory in (*left, *(kill / "engine" for kill in kills.iterdir())):
        with pytest.raises(ViCropError):
            ViCropEngine.load(directory)
    assert not [kill for kill in kills.iterdir() if (kill / "engine").exists()]
