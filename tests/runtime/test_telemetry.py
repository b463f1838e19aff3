"""ONNX Runtime reports its use to its maker on Linux unless told not to; an engine tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.engines import STRETCH_168, built

LOAD = "import sys; from vicrop_engine import ViCropEngine; ViCropEngine.load(sys.argv[1])"


def left_at_home(home: Path) -> set[str]:
    """What loading an engine in a process of its own leaves in an empty home directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "ORT_", "XDG_"))}
    environment = {**kept, "HOME": str(home), "VICROP_HOME": str(home / "vicrop")}
    command = [sys.executable, "-c", LOAD, str(built(STRETCH_168).engine)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_loading_an_engine_leaves_nothing_of_onnx_runtime(tmp_path: Path) -> None:
    left = left_at_home(tmp_path)
    assert left
    assert all(name.startswith("vicrop/verified/") for name in left), left


def test_a_choice_already_made_is_kept() -> None:
    code = "import os, vicrop_engine; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "mine"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "mine"
