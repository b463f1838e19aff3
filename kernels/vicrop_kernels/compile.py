"""The Triton kernel compiled ahead of time, with no GPU and no driver, and what it takes of one.

    python -m vicrop_kernels.compile --arch sm_80,sm_89,sm_90 --out DIR

writes a cubin, its PTX and one `kernels.json` for the row types and modes of the engine. The patches of a row
lie side by side; anything else is left open, so that a kernel serves every picture and model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vicrop_kernels.arguments import Mode
from vicrop_kernels.launch import BLOCKS, OPTIONS, WARPS, constants

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
POINTERS = {
    **{"weights": "*fp32", "corners": "*fp64", "facts": "*i32"},
    **{"heatmap": "*fp32", "window": "*i32", "table": "*i64", "arrivals": "*i32"},
}
LONG = ("first_map", "second_map")
MODES: tuple[Mode, ...] = ("relative", "gradient")
ROW_TYPES = ("fp16", "fp32")
ALL_ROW_TYPES = ("fp16", "bf16", "fp32")


@dataclass(frozen=True)
class Compiled:
    """One kernel: its files, and what ptxas says it takes; memory in bytes."""

    name: str
    mode: str
    rows: str
    architecture: str
    cubin: str
    cubin_sha256: str
    ptx: str
    ptx_version: str
    registers: int
    shared: int
    spill_stores: int
    spill_loads: int
    stack: int
    threads: int
    programs: str
    constants: dict[str, int | bool]


def compile_kernel(mode: Mode, rows: str, architecture: str, out: Path) -> Compiled:
    """Compile one variant into `out`. Raises ValueError for what is not known."""
    _demand_known(architecture, ARCHITECTURES, "architecture")
    _demand_known(rows, ALL_ROW_TYPES, "row type")
    _demand_known(mode, MODES, "mode")
    built = _built(mode, rows, architecture)
    name = f"heatmap_{mode}_{rows}_{architecture}"
    ptx, cubin = out / f"{name}.ptx", out / f"{name}.cubin"
    ptx.write_text(built.asm["ptx"], encoding="utf-8")
    cubin.write_bytes(built.asm["cubin"])
    return Compiled(
        name=built.metadata.name,
        mode=mode,
        rows=rows,
        architecture=architecture,
        cubin=cubin.name,
        cubin_sha256=hashlib.sha256(built.asm["cubin"]).hexdigest(),
        ptx=ptx.name,
        ptx_version=_found(r"\.version (\S+)", built.asm["ptx"]),
        shared=int(built.metadata.shared),
        threads=32 * WARPS,
        programs=f"maps * ceil(patches / {BLOCKS['BLOCK_PATCHES']})",
        constants=constants(mode, 1),
        **_usage(ptx, architecture),
    )


def _built(mode: Mode, rows: str, architecture: str) -> Any:
    """Triton's compiled kernel, made anew in a cache that is thrown away."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vicrop_kernels.triton_kernel import locate

    fixed: dict[str, int | bool] = {"first_patch": 1, "second_patch": 1, **constants(mode, 1)}
    signature = {name: "constexpr" if name in fixed else _type(name, rows) for name in locate.arg_names}
    source = ASTSource(fn=locate, signature=signature, constexprs=fixed)
    target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    with tempfile.TemporaryDirectory() as cache, triton.knobs.cache.scope():
        triton.knobs.cache.dir = cache
        return triton.compile(source, target=target, options=OPTIONS)


def _type(name: str, rows: str) -> str:
    """The type of a kernel argument."""
    if name in ("first", "second"):
        return f"*{rows}"
    return POINTERS.get(name, "i64" if name in LONG else "i32")


def _usage(ptx: Path, architecture: str) -> dict[str, int]:
    """What ptxas, with the options that Triton gives it, says of the kernel."""
    from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

    capability = int(architecture.removeprefix("sm_"))
    command = [
        *(get_ptxas(capability).path, "-v", "-lineinfo", "--fmad=false", "--regAllocOptLevel=2"),
        *(f"--gpu-name={sm_arch_from_capability(capability)}", str(ptx), "-o", "/dev/null"),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return {
        "registers": int(_found(r"Used (\d+) registers", said)),
        "spill_stores": int(_found(r"(\d+) bytes spill stores", said)),
        "spill_loads": int(_found(r"(\d+) bytes spill loads", said)),
        "stack": int(_found(r"(\d+) bytes stack frame", said)),
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"got {text!r}, wanted {pattern!r} in it; this Triton is not known here")
    return match.group(1)


def _demand_known(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        raise ValueError(f"got {what} {name!r}, wanted one of {', '.join(known)}")


def main(words: Sequence[str] | None = None) -> int:
    """Compile what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        "python -m vicrop_kernels.compile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--arch", default="sm_80,sm_89,sm_90", help=f"of {', '.join(ARCHITECTURES)}")
    parser.add_argument("--rows", default=",".join(ROW_TYPES), help=f"of {', '.join(ALL_ROW_TYPES)}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(words)
    architectures, types = options.arch.split(","), options.rows.split(",")
    try:
        for architecture in architectures:
            _demand_known(architecture, ARCHITECTURES, "architecture")
        for rows in types:
            _demand_known(rows, ALL_ROW_TYPES, "row type")
        if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
            raise ValueError("got Triton's interpreter, wanted its compiler; unset TRITON_INTERPRET")
        options.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"vicrop_kernels.compile: {error}", file=sys.stderr)
        return 2
    done = []
    for architecture in architectures:
        for rows in types:
            for mode in MODES:
                one = compile_kernel(mode, rows, architecture, options.out)
                done.append(asdict(one))
                spills = one.spill_stores + one.spill_loads
                print(f"{one.cubin}: {one.registers} registers, {one.shared} bytes shared, {spills} spilled")
    (options.out / "kernels.json").write_text(json.dumps(done, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
