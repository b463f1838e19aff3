"""This machine's processor as the system describes it: its name, and what it can do. Runs nothing."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# What ONNX Runtime's kernels differ by: x86 from AVX2 up, then ARM.
INSTRUCTION_SETS = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


@cache
def processor_name(cpu_info: Path = CPU_INFO) -> str:
    """The processor's name as the system gives it; its architecture where it gives none."""
    names = [line.partition(":")[2].strip() for line in _lines(cpu_info) if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


@cache
def instruction_sets(cpu_info: Path = CPU_INFO) -> tuple[str, ...]:
    """Those of INSTRUCTION_SETS that the processor has; empty where the system does not say."""
    for line in _lines(cpu_info):
        if line.startswith(("flags", "Features")):
            found = set(line.partition(":")[2].split())
            return tuple(name for name in INSTRUCTION_SETS if name in found)
    return ()


def processor_kind(cpu_info: Path = CPU_INFO) -> str:
    """What decides which kernels run: architecture and instruction sets, or else the processor's own name."""
    return " ".join((platform.machine(), *(instruction_sets(cpu_info) or (processor_name(cpu_info),))))


def _lines(cpu_info: Path) -> list[str]:
    try:
        return cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
