"""Runs Python as on a processor with AVX2 and no more, whatever this machine has: Debian's qemu-user.

There ONNX Runtime adds pairs of u8·s8 products in 16 bits, as on most laptops.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("engine", "export", "kernels")  # which an environment that runs the checkout finds by a hook
EMULATOR = ("qemu-x86_64", "-cpu", "Haswell")


def run_on_haswell(script: str, *arguments: str | Path) -> str:
    """What the script prints; every environment's packages can be imported."""
    paths = [*(str(ROOT / folder) for folder in FOLDERS), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [*EMULATOR, os.path.realpath(sys.executable), "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
