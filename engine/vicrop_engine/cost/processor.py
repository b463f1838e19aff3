"""What this machine's processor is called."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def processor_name(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the system gives it; its architecture where it gives none."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())
