"""Two small graphs that an engine for a device needs beside its model, so that tensors can stay there.

`rows` picks rows out of two tensors where they lie; `kv_buffer` makes room for more rows of keys or values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from vicrop_engine.engine_dir.manifest import KV_BUFFER, ROWS
from vicrop_export.onnx_files.export import OPSET
from vicrop_export.ops.node_list import NodeList

IR_VERSION = 10
ROWS_OF = {"first": "m", "second": "n"}  # the axes of what rows are picked of


def write_device_graphs(directory: Path, *, half: bool, sliced: bool = False) -> None:
    """Write both into `directory`, for float16 or float32 tensors. Raises OSError.

    With `sliced` the first axis of embeddings is not of pictures but of what is added after layers.
    """
    kind = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
    ir.save(sliced_rows_graph(kind) if sliced else rows_graph(kind), directory / f"{ROWS}.onnx")
    ir.save(kv_buffer_graph(kind), directory / f"{KV_BUFFER}.onnx")


def rows_graph(kind: ir.DataType) -> ir.Model:
    """`first` and `second` [pictures, rows, hidden] and `index` [len] to `picked` [1, len, hidden].

    Rows are counted through all pictures of the first and on through those of the second.
    """
    first, second = (_input(name, kind, ("n", "m", "hidden")) for name in ("first", "second"))
    index = _input("index", ir.DataType.INT64, ("len",))
    made = NodeList()
    merged = made.constant([1, -1, 0], np.int64)  # 0 keeps the hidden size, which is the third
    flat = [made.add("Reshape", x, merged) for x in (first, second)]
    picked = made.add("Gather", made.add("Concat", *flat, axis=1), index, axis=1)
    return _model(ROWS, [first, second, index], picked, "picked", kind, (1, "len", "hidden"), made)


def sliced_rows_graph(kind: ir.DataType) -> ir.Model:
    """`first` and `second` [slices, rows, hidden] and `index` [len] to `picked` [slices, len, hidden].

    Rows are counted through those of the first and on through those of the second, alike in every slice.
    """
    first, second = (_input(name, kind, ("slices", rows, "hidden")) for name, rows in ROWS_OF.items())
    index = _input("index", ir.DataType.INT64, ("len",))
    made = NodeList()
    picked = made.add("Gather", made.add("Concat", first, second, axis=1), index, axis=1)
    return _model(ROWS, [first, second, index], picked, "picked", kind, ("slices", "len", "hidden"), made)


def kv_buffer_graph(kind: ir.DataType) -> ir.Model:
    """`past` [1, kv_heads, rows, dim] and `added` [1] to `buffer` with so many rows of zeros after it."""
    past = _input("past", kind, (1, "kv_heads", "rows", "dim"))
    added = _input("added", ir.DataType.INT64, (1,))
    made = NodeList()
    heads, dim = (made.add("Shape", past, start=axis, end=axis + 1) for axis in (1, 3))
    shape = made.add("Concat", made.constant([1], np.int64), heads, added, dim, axis=0)
    zeros = made.add("ConstantOfShape", shape, value=ir.tensor(np.zeros(1, kind.numpy())))
    grown = made.add("Concat", past, zeros, axis=2)
    return _model(KV_BUFFER, [past, added], grown, "buffer", kind, (1, "kv_heads", "capacity", "dim"), made)


def _input(name: str, kind: ir.DataType, shape: tuple[int | str, ...]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape))


def _model(
    name: str,
    inputs: list[ir.Value],
    output: ir.Value,
    output_name: str,
    kind: ir.DataType,
    shape: tuple[int | str, ...],
    made: NodeList,
) -> ir.Model:
    output.name, output.type, output.shape = output_name, ir.TensorType(kind), ir.Shape(shape)
    graph = ir.Graph(inputs, [output], nodes=made.nodes, opset_imports={"": OPSET}, name=name)
    model = ir.Model(graph, ir_version=IR_VERSION)
    infer: Any = common.ShapeInferencePass()
    infer(model)
    return model
