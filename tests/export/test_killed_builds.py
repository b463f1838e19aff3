"""A low-precision build killed at ten random moments: nothing that loads is left."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engines import STRETCH_168, built
from vicrop_engine import ViCropEngine
from vicrop_engine.errors import ViCropError

# Stages of a build, in order; it is killed a random while after one of them began.
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


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_that_loads_is_left(stage: str, tmp_path: Path) -> None:
    output = tmp_path / "place" / "engine"
    command = [sys.executable, "-c", BUILD, str(built(STRETCH_168).checkpoint), str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith(stage) for line in process.stdout), f"the build ended before {stage!r}"
        time.sleep(random.uniform(0, 0.5))
        process.kill()
    left = [path for path in tmp_path.rglob("*") if path.is_dir()]
    for directory in (output, *left):
        with pytest.raises(ViCropError):
            ViCropEngine.load(directory)
    assert not output.exists()
