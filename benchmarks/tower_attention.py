"""Attention of all patches of a picture with each other, fused and written out: its memory and time.

    python benchmarks/tower_attention.py                       # 1024, 4096 and 5120 patches, 16 heads of 80

A picture of n patches has n² scores in each head: written out they are held twice, the fused operator of ONNX
Runtime holds none. Each runs in a process of its own, on one core; peak memory beyond the operands is told
(Linux). Nothing is printed unless both give the same numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parent.parent
HEADS, DIM, RUNS, TOLERANCE = 16, 80, 3, 1e-5
KINDS = ("fused", "written out")


def main() -> None:
    """Run both kinds at every number of patches and print a line for each."""
    options = _options()
    if options.kind:
        print(json.dumps(run(options.kind, options.patches[0])))
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks.setting import setting, setting_line

    print(setting_line(setting(1)))
    for patches in options.patches:
        fused, plain = (_process(kind, patches) for kind in KINDS)
        distance = np.linalg.norm(np.subtract(fused["some"], plain["some"])) / np.linalg.norm(plain["some"])
        if not distance <= TOLERANCE:
            raise SystemExit(f"{patches} patches: the two are {distance:.1e} apart, wanted {TOLERANCE:.0e}")
        for kind, found in zip(KINDS, (fused, plain), strict=True):
            print(f"{patches} patches, {kind}: {found['peak'] / 1e6:.0f} MB, {found['seconds']:.2f} s")


def run(kind: str, patches: int) -> dict[str, Any]:
    """Peak bytes beyond the operands, the least processor seconds of some runs, and some of the numbers."""
    from vicrop_engine.runtime.sessions import open_session, session_options

    options = session_options(1)
    session = open_session(_model(kind).SerializeToString(), options)
    random = np.random.default_rng(0)
    shape = (1, patches, HEADS * DIM)
    feeds = {name: random.standard_normal(shape, np.float32) for name in ("query", "key", "value")}
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, seconds = _bytes("VmRSS"), []
    for _ in range(RUNS):
        start = time.process_time()
        [mixed] = session.run(["mixed"], feeds)
        seconds.append(time.process_time() - start)
    return {
        "peak": _bytes("VmHWM") - before,
        "seconds": min(seconds),
        "some": mixed[0, :: patches // 8, :32].ravel().tolist(),
    }


def _bytes(name: str) -> int:
    """What Linux says of this process's memory under that name."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _model(kind: str) -> Any:
    """One layer's attention [1, n, heads · dim] without its projections."""
    names, scale = ["query", "key", "value"], DIM**-0.5
    if kind == "fused":
        nodes = [
            helper.make_node(
                "MultiHeadAttention", names, ["mixed"], domain="com.microsoft", num_heads=HEADS, scale=scale
            )
        ]
    else:
        nodes = _written_out(names, scale)
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", HEADS * DIM]) for name in names]
    mixed = helper.make_tensor_value_info("mixed", TensorProto.FLOAT, [1, "n", HEADS * DIM])
    graph = helper.make_graph(nodes, "attention", kinds, [mixed])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _written_out(names: list[str], scale: float) -> list[Any]:
    """Heads apart, scores, softmax, values mixed, heads together again."""

    def constant(name: str, value: Any, kind: int, shape: list[int]) -> Any:
        tensor = helper.make_tensor(name, kind, shape, value)
        return helper.make_node("Constant", [], [name], value=tensor)

    nodes = [
        constant("apart", [0, 0, HEADS, DIM], TensorProto.INT64, [4]),
        constant("together", [0, 0, HEADS * DIM], TensorProto.INT64, [3]),
        constant("scale", [scale], TensorProto.FLOAT, [1]),
    ]
    orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    for name in names:
        nodes.append(helper.make_node("Reshape", [name, "apart"], [f"{name}_apart"]))
        nodes.append(helper.make_node("Transpose", [f"{name}_apart"], [f"{name}_heads"], perm=orders[name]))
    return [
        *nodes,
        helper.make_node("MatMul", ["query_heads", "key_heads"], ["scores"]),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "value_heads"], ["mixed_heads"]),
        helper.make_node("Transpose", ["mixed_heads"], ["mixed_apart"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["mixed_apart", "together"], ["mixed"]),
    ]


def _process(kind: str, patches: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--kind", kind, "--patches", str(patches)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patches", type=int, nargs="+", default=[1024, 4096, 5120])
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
