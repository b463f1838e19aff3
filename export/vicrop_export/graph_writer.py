"""Writes an exported graph whose weights are described: each is read, stored and let go.

Memory is that of one weight. Knows graphs and layouts; nothing of LLaVA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from vicrop_engine.errors import BuildError
from vicrop_export.external_data import ExternalData
from vicrop_export.layouts import CONTRIB, Layout
from vicrop_export.onnx_export import share
from vicrop_export.tensors import CheckpointTensors

Described = Mapping[str, str]


def write_graph(
    model: ir.Model,
    described: Described,
    tensors: CheckpointTensors,
    layout_of: Callable[[str], Layout],
    path: Path,
    written: Callable[[str, int], None],
) -> None:
    """Write `path` and `path`.data; the weights in `described` come from the checkpoint under these names.

    `layout_of` gives a checkpoint name's layout. `written` hears each such name and its bytes in the file.
    Raises CheckpointError and OSError.
    """
    graph = model.graph
    graph.opset_imports[CONTRIB] = 1
    with ExternalData(path) as data:
        for name, value in list(graph.initializers.items()):
            if name in described:
                written(described[name], _store(graph, value, tensors, described[name], layout_of, data))
            elif value.const_value is not None:
                value.const_value = data.add(name, value.const_value.numpy())
    share(model)
    RemoveUnusedOpsetsPass()(model)
    ir.save(model, path)


def _store(
    graph: ir.Graph,
    value: ir.Value,
    tensors: CheckpointTensors,
    source: str,
    layout_of: Callable[[str], Layout],
    data: ExternalData,
) -> int:
    layout = layout_of(source)
    name = graph.initializers.pop(str(value.name)).name
    stored = {}
    num_bytes = 0
    with tensors.naming(source, "build with fp32 or int8"):
        arrays = layout.encode(tensors.stored(source))
    for ending, array in arrays.items():
        tensor = data.add(f"{name}{ending}", array)
        stored[ending] = ir.Value(
            name=tensor.name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        graph.register_initializer(stored[ending])
        num_bytes += array.nbytes
    num_out, num_in = tensors.shape(source)
    for node, index in tuple(value.uses()):
        if node.op_type != "MatMul" or index != 1 or node.inputs[0] is None:
            raise BuildError(f"{source} is used by {node.op_type}, wanted only products; report this")
        made = layout.nodes(node.inputs[0], stored, (num_in, num_out))
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], made, list(node.outputs), [made[-1].outputs[0]]
        )
    return num_bytes
