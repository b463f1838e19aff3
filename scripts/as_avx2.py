"""Runs a command as on a processor with AVX2 and no AVX-512 or VNNI, at this processor's own speed.

    python scripts/as_avx2.py python benchmarks/products.py
    python scripts/as_avx2.py python -m pytest -q -p no:faulthandler --ignore tests/ray

ONNX Runtime asks the processor what it can do (CPUID) when it is loaded. A copy of the package is made in
which every such instruction is a breakpoint, and a small library, loaded first, answers it with what is left
of the truth. Its kernels are then those of most laptops; an emulator shows the same sums, slowly. The timings
are this processor's: ratios between kernels are near those of a real AVX2 machine, not equal to them. PyTorch
is told to keep to AVX2 as well. Linux on x86-64 with a C compiler and objdump; processes that drop their
environment, as Ray's workers do, are ended by the first breakpoint.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

CPUID, BREAKPOINT = b"\x0f\xa2", b"\xcc\x90"  # the latter is one byte, and one that does nothing
LARGE = 1 << 20  # bytes; smaller libraries of the package hold no kernels
# Leaf 7 of CPUID: AVX-512 and AMX, and in its further leaves AVX-VNNI.
ANSWERS = r"""
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

static void answer(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = registers[REG_RAX], further = registers[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, further, a, b, c, d);
    if (leaf == 7 && further == 0) {
        b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31);
        c &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
        d &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);
    } else if (leaf == 7) {
        a = b = c = d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 1;
}

__attribute__((constructor)) static void listen(void) {
    struct sigaction action = {0};
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGTRAP, &action, 0);
}
"""


def main() -> None:
    """Prepare the copy once, then become the command."""
    command = sys.argv[1:]
    if not command or command[0].startswith("-"):
        raise SystemExit("usage: python scripts/as_avx2.py COMMAND ...")
    folder = prepared()
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        "LD_PRELOAD": str(folder / "answers.so"),
        "PYTHONPATH": os.pathsep.join(paths),
        "ATEN_CPU_CAPABILITY": "avx2",
    }
    os.execvpe(command[0], command, {**os.environ, **settings})


def prepared() -> Path:
    """A folder with the copy of the package and the library, made unless it is there."""
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        raise SystemExit("ONNX Runtime is not installed here; run pip install 'vicrop-engine[cpu]'")
    package = Path(found.origin).parent
    libraries = [path for path in (package / "capi").glob("*.so*") if path.stat().st_size > LARGE]
    facts = [ANSWERS, *(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in libraries)]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"onnxruntime-as-avx2-{digest}"
    if folder.is_dir():
        return folder
    partial = Path(tempfile.mkdtemp(prefix="onnxruntime-as-avx2-"))
    shutil.copytree(package, partial / "onnxruntime")
    for library in libraries:
        patch(partial / "onnxruntime" / "capi" / library.name)
    (partial / "answers.c").write_text(ANSWERS)
    build = ["cc", "-O1", "-shared", "-fPIC", str(partial / "answers.c"), "-o", str(partial / "answers.so")]
    subprocess.run(build, check=True)
    partial.rename(folder)
    return folder


def patch(library: Path) -> None:
    """Put a breakpoint in place of every CPUID instruction of the library."""
    content = bytearray(library.read_bytes())
    segments = [
        (int(words[2], 16), int(words[1], 16), int(words[4], 16))
        for line in _printed("readelf", "-lW", str(library)).splitlines()
        if (words := line.split()) and words[0] == "LOAD"
    ]
    for line in _printed("objdump", "-d", "--no-show-raw-insn", str(library)).splitlines():
        if re.search(r"\tcpuid\s*$", line):
            address = int(line.split(":")[0], 16)
            place = next(
                address - start + offset
                for start, offset, size in segments
                if start <= address < start + size
            )
            assert content[place : place + 2] == CPUID, f"{library.name} has no CPUID at {address:#x}"
            content[place : place + 2] = BREAKPOINT
    library.write_bytes(content)


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
