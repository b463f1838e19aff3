"""One product in every layout and, for prompts, in their twins: processor time at M = 1, 25, 600; its error.

    python benchmarks/products.py                       # 4096 x 4096 and 4096 x 11008
    python benchmarks/products.py --sizes 1024x2816 --runs 9

Weights are Student-t noise with 5 degrees of freedom, inputs normal noise with one channel 30 times as large.
One thread, the least processor time of the runs; the error is the relative L2 distance from float64. Layouts
whose product is further from their own stored weight than rounding tokens explains are not reported.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from vicrop_engine.runtime.processor import instruction_sets, processor_name
from vicrop_engine.runtime.sessions import adds_in_16_bits, open_session, session_options
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.byte_products import CONTRIB, Arrays
from vicrop_export.precision.layouts import Bytes, Half, Layout, Whole
from vicrop_export.precision.prefill_products import AsBytes, AsFloats, Product

Floats = NDArray[np.float32]
LAYOUTS: dict[str, Layout] = {
    "float32": Whole(),
    "float16, widened when opened": Half(),
    "4 bits in blocks of 128": Blocks(4),
    "4 bits in blocks of 32": Blocks(4, 32),
    "8 bits in blocks of 128": Blocks(8),
    "int8, a scale per token": Bytes(),
    "int8, tokens of two bytes": Bytes(fine_tokens=True),
    "int8, tokens and weights of two bytes": Bytes(fine_tokens=True, fine_weights=True),
}
# Of whole prompts in a twin: by what is stored.
TWINS: dict[str, tuple[Layout, Product]] = {
    "4 bits in blocks of 128, as bytes": (Blocks(4), AsBytes(Blocks(4))),
    "int8, tokens of two bytes, as floats": (
        Bytes(fine_tokens=True),
        AsFloats(Bytes(fine_tokens=True)),
    ),
}
TOKENS = (1, 25, 600)
MOST_FROM_STORED = 0.2


def main() -> None:
    """Measure every layout at every size, in turn."""
    options = _options()
    console = Console()
    rows = {name: (layout, layout) for name, layout in LAYOUTS.items()} | TWINS
    products = "in 16 bits" if adds_in_16_bits() else "in 32 bits"
    console.print(
        f"{processor_name()}: {' '.join(instruction_sets())}; products of bytes are added {products}"
    )
    for size in options.sizes:
        num_in, num_out = map(int, size.split("x"))
        weight = torch.from_numpy(
            np.random.default_rng(0).standard_t(5, (num_out, num_in)).astype(np.float32)
        )
        table = Table("layout", *(f"M = {tokens}, ms" for tokens in TOKENS), "GFLOP/s", "error", title=size)
        for name, (layout, product) in rows.items():
            arrays = layout.encode(weight)
            held = product.encode(arrays, num_in) if isinstance(product, AsBytes) else arrays
            session = _session(product, held, num_in, num_out)
            seconds = [_least(session, inputs(tokens, num_in), options.runs) for tokens in TOKENS]
            x = inputs(TOKENS[-1], num_in)
            got = session.run(None, {"x": x})[0]
            if _distance(got, x @ layout.decode(arrays)[:num_in]) > MOST_FROM_STORED:
                raise SystemExit(f"{name}: the product is not that of the stored weight; run the tests")
            rate = 2 * TOKENS[-1] * num_in * num_out / seconds[-1] / 1e9
            error = _distance(got, x.astype(np.float64) @ weight.numpy().T.astype(np.float64))
            times = [f"{1000 * value:.3g}" for value in seconds]
            table.add_row(name, *times, f"{rate:.0f}", f"{error:.1e}")
        console.print(table)


def inputs(tokens: int, width: int) -> Floats:
    """[tokens, width] of noise with one loud channel."""
    x = np.random.default_rng(tokens).standard_normal((tokens, width), np.float32)
    x[:, width // 3] *= 30
    return x


def _session(product: Product, arrays: Arrays, num_in: int, num_out: int) -> Any:
    source = ir.Value(name="x", shape=ir.Shape(["tokens", num_in]), type=ir.TensorType(ir.DataType.FLOAT))
    stored = {
        ending: ir.Value(name=f"w{ending}", const_value=ir.tensor(array, name=f"w{ending}"))
        for ending, array in arrays.items()
    }
    nodes = product.nodes(source, stored, (num_in, num_out))
    result = nodes[-1].outputs[0]
    result.name, result.type = "y", ir.TensorType(ir.DataType.FLOAT)
    weights = list(stored.values())
    opsets = {"": 18, CONTRIB: 1}
    graph = ir.Graph([source], [result], nodes=nodes, initializers=weights, opset_imports=opsets, name="p")
    options = session_options(1)
    options.enable_cpu_mem_arena = False
    content = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return open_session(content, options, fits_16_bits=True)


def _least(session: Any, x: Floats, runs: int) -> float:
    repeats = max(1, 100 // len(x))
    best = float("inf")
    for _ in range(runs + 1):
        start = time.process_time()
        for _ in range(repeats):
            session.run(None, {"x": x})
        best = min(best, (time.process_time() - start) / repeats)
    return best


def _distance(got: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["4096x4096", "4096x11008"], metavar="INxOUT")
    parser.add_argument("--runs", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
