"""Sizes and build times of TensorRT plans, compiled ahead of time by TensorRT-RTX, as a table.

    python benchmarks/plans.py CHECKPOINT --precisions fp16 int8 int4 --arch sm_80,sm_86,sm_89,sm_120

CHECKPOINT is any that `vicrop-engine build` takes as a directory; `true_size.py --layers 2` writes one of the
7B shape. Times are of reading and compiling the three graphs, on one thread where the compiler has no more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from vicrop_engine.engine_dir.manifest import GRAPHS
from vicrop_export.build import write_graphs
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.locate import locate
from vicrop_export.modules.interfaces import graph_modules
from vicrop_export.onnx_files.exported import export_described
from vicrop_export.plan import Plan, make_plan
from vicrop_export.quiet import quiet
from vicrop_export.trt.compiler import ARCHITECTURES, Compiler, choose_compiler
from vicrop_export.trt.lengths import plan_lengths


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--layers", help="heatmap layers; else those of a model of this depth")
    parser.add_argument("--precisions", nargs="+", default=["fp16", "int8", "int4"])
    parser.add_argument("--arch", default=",".join(ARCHITECTURES))
    options = parser.parse_args()
    print("| precision | architecture | graphs, MB | plans, MB | processor, s | wall, s |")
    print("|---|---|---|---|---|---|")
    for precision in options.precisions:
        compiler = choose_compiler(options.arch.split(","), precision)
        plan = make_plan(
            locate(options.checkpoint),
            name="any",
            layers=options.layers,
            precision=precision,
            target="tensorrt",
        )
        with tempfile.TemporaryDirectory() as name:
            measure(plan, compiler, Path(name))


def measure(plan: Plan, compiler: Compiler, directory: Path) -> None:
    """Write an engine's graphs, compile them for each architecture, and print a line for each."""
    tensors, lower = (
        DescribedTensors(plan.checkpoint.directory, plan.family.canonical_name),
        plan.decoder.num_lower_layers,
    )
    with quiet():
        modules = graph_modules(tensors, plan.family, lower, in_place=False, half=plan.half)
        write_graphs(directory, plan, [export_described(*one) for one in modules], tensors, lambda *_: None)
    weights = sum((directory / f"{graph}.onnx.data").stat().st_size for graph in GRAPHS)
    lengths = plan_lengths(plan.vision, plan.decoder, plan.family.picture_axes)
    for architecture in compiler.architectures:
        wall, processor, size = time.monotonic(), time.process_time(), 0
        for graph in GRAPHS:
            path = directory / "plan"
            compiler.compile(directory / f"{graph}.onnx", path, architecture, lengths)
            size += path.stat().st_size
        wall, processor = time.monotonic() - wall, time.process_time() - processor
        print(
            f"| `{plan.precision}` | {architecture} | {weights / 1e6:.1f} | {size / 1e6:.1f} "
            f"| {processor:.1f} | {wall:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
