"""One product with a stored weight as a graph of its own, and worst cases for kernels that add in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from vicrop_engine.runtime.sessions import open_session, session_options
from vicrop_export.precision.byte_products import CONTRIB, Arrays

Nodes = Callable[[ir.Value, dict[str, ir.Value], tuple[int, int]], list[ir.Node]]


def product_model(
    nodes_of: Nodes, arrays: Arrays, size: tuple[int, int], *, width: int | None = None
) -> bytes:
    """The graph from x [rows, width] to y for a weight of `size` (in, out); `width` is `in` when None."""
    shape = ir.Shape(["rows", width or size[0]])
    source = ir.Value(name="x", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    stored = {
        ending: ir.Value(name=f"w{ending}", const_value=ir.tensor(array, name=f"w{ending}"))
        for ending, array in arrays.items()
    }
    nodes = nodes_of(source, stored, size)
    result = nodes[-1].outputs[0]
    result.name, result.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [source],
        [result],
        nodes=nodes,
        initializers=list(stored.values()),
        opset_imports={"": 18, CONTRIB: 1},
        name="product",
    )
    return ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()


def run_product(
    nodes_of: Nodes, arrays: Arrays, x: np.ndarray, size: tuple[int, int], *, packs: bool = False
) -> np.ndarray:
    """What ONNX Runtime computes with the nodes, packing the weight or not."""
    options: Any = session_options()
    options.add_session_config_entry("session.disable_prepacking", str(int(not packs)))
    model = product_model(nodes_of, arrays, size, width=x.shape[1])
    return np.asarray(open_session(model, options, fits_16_bits=True).run(["y"], {"x": x})[0])
