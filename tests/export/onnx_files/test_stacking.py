"""Weights of the same tokens as one product: which go together, and who else reads them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.engines import STRETCH_168, built
from vicrop_engine.engine_dir.manifest import GRADIENT, GRAPHS
from vicrop_export.build import build_engine
from vicrop_export.onnx_files.external_data import ALIGNMENT, SMALLEST, ExternalData
from vicrop_export.onnx_files.stacking import stacked_weights
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Layout, Whole

SOURCES = {"q": "q", "k": "k", "other": "other"}


def three_products(*, shared: bool) -> ir.Graph:
    """x·q, x·k and y·other; with `shared` y is x."""
    x, y = (ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT)) for name in "xy")
    weights = {
        name: ir.Value(name=name, shape=ir.Shape((4, size)), const_value=ir.tensor(np.zeros((4, size), "f4")))
        for name, size in (("q", 6), ("k", 2), ("other", 3))
    }
    nodes = [
        ir.node("MatMul", [x, weights["q"]]),
        ir.node("MatMul", [x, weights["k"]]),
        ir.node("MatMul", [x if shared else y, weights["other"]]),
    ]
    outputs = [node.outputs[0] for node in nodes]
    return ir.Graph([x, y], outputs, nodes=nodes, initializers=list(weights.values()), name="g")


def names(graph: ir.Graph, layout: dict[str, Layout]) -> dict[str, list[str]]:
    stacks = stacked_weights(graph, SOURCES, layout.__getitem__)
    return {first: [str(weight.name) for weight in stack] for first, stack in stacks.items()}


def test_weights_of_one_input_and_one_layout_go_together() -> None:
    layout: dict[str, Layout] = dict.fromkeys(SOURCES, Blocks(4))
    assert names(three_products(shared=True), layout) == {"q": ["q", "k", "other"]}
    assert names(three_products(shared=False), layout) == {"q": ["q", "k"], "other": ["other"]}


@pytest.mark.parametrize("layout", [Whole(), Bytes()])
def test_layouts_with_the_inputs_first_stay_apart(layout: Layout) -> None:
    alone = {name: [name] for name in SOURCES}
    assert names(three_products(shared=True), dict.fromkeys(SOURCES, layout)) == alone


def test_other_bits_stay_apart() -> None:
    layout: dict[str, Layout] = {"q": Blocks(4), "k": Blocks(8), "other": Blocks(4)}
    assert names(three_products(shared=True), layout) == {"q": ["q", "other"], "k": ["k"]}


@pytest.mark.parametrize("rows", [1, 2000])
def test_stacked_arrays_are_the_parts_of_one(rows: int, tmp_path: Path) -> None:
    parts = [np.arange(rows * 3, dtype=np.float32).reshape(rows, 3), np.ones((2, 3), np.float32)]
    with ExternalData(tmp_path / "g.onnx") as data:
        data.add("before", np.zeros(SMALLEST, np.uint8))
        whole, each = data.add_stacked(["a", "b"], parts)
    np.testing.assert_array_equal(whole.numpy(), np.concatenate(parts))
    for tensor, part in zip(each, parts, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), part)
    if isinstance(whole, ir.ExternalTensor):
        assert whole.offset == ALIGNMENT
        assert whole.name == "a"
    assert isinstance(whole, ir.ExternalTensor) == (rows > 1)


def test_an_engine_in_four_bits_has_merged_products_that_the_gradient_graph_reads_apart(
    tmp_path: Path,
) -> None:
    """Above the heatmap layer: queries, keys and values at once, gate and up at once."""
    build_engine(built(STRETCH_168).checkpoint, tmp_path, name="llava-signs", layers=0, precision="int4")
    upper, gradient = (
        onnx.load(tmp_path / f"{name}.onnx", load_external_data=False).graph for name in (GRAPHS[2], GRADIENT)
    )
    counts = Counter(node.op_type for node in upper.node)
    layers = counts["GroupQueryAttention"]
    assert layers > 0
    assert counts["Split"] == layers  # of gate and up; attention takes the other product whole
    assert counts["MatMulNBits"] == 4 * layers + 1  # with output, down and the language head
    inside = Counter(
        whole for whole in places(upper) for part in places(gradient) if part != whole and holds(whole, part)
    )
    assert sorted(inside.values()) == layers * [2] + layers * [3]


Place = tuple[str, int, int]


def places(graph: onnx.GraphProto) -> set[Place]:
    """File, start and end of every array of packed weights."""
    external = (weight for weight in graph.initializer if weight.name.endswith("_packed"))
    entries = [{entry.key: entry.value for entry in weight.external_data} for weight in external]
    return {
        (place["location"], int(place["offset"]), int(place["offset"]) + int(place["length"]))
        for place in entries
        if place
    }


def holds(whole: Place, part: Place) -> bool:
    return whole[0] == part[0] and whole[1] <= part[1] and part[2] <= whole[2]
