"""Every operator of every graph has a kernel in the CUDA provider for its types, but arithmetic on shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from tests.cuda.builds import embedded, seeded
from tests.cuda.cuda_kernels import ON_SHAPES, OWN, STANDARD
from tests.tensorrt_target.test_operators import listed, operators
from vicrop_engine.engine_dir.manifest import GRAPHS, KV_BUFFER, ROWS

NAMES = (*GRAPHS, ROWS, KV_BUFFER)
FLAVOURS = {"fp16": {"MatMul"}, "int8": {"MatMulNBits", "Split"}, "int4": {"MatMulNBits", "Split"}}
DECODER = {
    *("Add", "Cast", "Concat", "Cos", "FusedMatMul", "Gather", "GroupQueryAttention", "Mul", "Reshape"),
    *("RotaryEmbedding", "Shape", "Sigmoid", "SimplifiedLayerNormalization", "Sin", "Slice", "Softmax"),
    *("Squeeze", "Sub", "Transpose", "Unsqueeze"),
}
VISION = {
    *("Add", "Concat", "Expand", "LayerNormalization", "MatMul", "Mul", "MultiHeadAttention", "Reshape"),
    *("Shape", "Sigmoid", "Slice", "Squeeze", "Transpose"),
}


class Graph:
    """One graph of an engine with the types of its values."""

    def __init__(self, directory: Path, name: str) -> None:
        self.graph = onnx.load(directory / f"{name}.onnx", load_external_data=False).graph
        values = (*self.graph.input, *self.graph.output, *self.graph.value_info)
        kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        kinds |= {weight.name: weight.data_type for weight in self.graph.initializer}
        self.types = {name: onnx.TensorProto.DataType.Name(kind).lower() for name, kind in kinds.items()}
        for node in self.graph.node:  # a product of several weights and its parts were made when written
            for value in node.output if node.input else ():
                self.types.setdefault(value, self.types[node.input[0]])
        self.constants = {weight.name for weight in self.graph.initializer}

    def on_shapes(self) -> list[onnx.NodeProto]:
        """The nodes of whole numbers that depend on shapes and constants alone."""
        known, found = set(self.constants), []
        for node in self.graph.node:
            whole = all("int" in self.types[name] for name in node.output)
            if whole and (node.op_type == "Shape" or all(name in known for name in node.input if name)):
                known.update(node.output)
                found.append(node)
        return found

    def on_device(self) -> Iterator[tuple[onnx.NodeProto, set[str]]]:
        """The others, with the types of the floats they take and give."""
        aside = self.on_shapes()
        for node in self.graph.node:
            if node not in aside:
                types = {self.types[name] for name in (*node.input, *node.output) if name}
                yield node, types & {"float", "float16", "double", "bfloat16"}


@pytest.fixture(params=FLAVOURS)
def directory(request: pytest.FixtureRequest) -> Path:
    return seeded(request.param)


def test_the_operators_of_each_flavour_are_these(directory: Path) -> None:
    used = {name: {node.op_type for node in Graph(directory, name).graph.node} for name in NAMES}
    assert used["vision"] - {"Div", "Erf"} == VISION
    assert used["decoder_lower"] == used["decoder_upper"] == DECODER | FLAVOURS[directory.name]
    assert used["rows"] == {"Concat", "Constant", "Gather", "Reshape"}
    assert used["kv_buffer"] == {"Concat", "Constant", "ConstantOfShape", "Shape"}


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_has_a_kernel_for_its_types(directory: Path, name: str) -> None:
    graph = Graph(directory, name)
    nodes = list(graph.on_device())
    assert nodes
    for node, types in nodes:
        if node.op_type == "Constant":
            continue  # becomes a weight when the graph is opened
        kernels = OWN if node.domain == "com.microsoft" else STANDARD
        assert types <= kernels.get(node.op_type, set()), f"{node.op_type} of {types}"


def test_only_shapes_are_left_to_the_processor(directory: Path) -> None:
    expected = {
        "vision": Counter(Shape=1, Squeeze=1, Reshape=1, Concat=3),
        "decoder_lower": Counter(Shape=1, Sub=1, Cast=2),
        "decoder_upper": Counter(Shape=1, Sub=1, Cast=2),
        "rows": Counter(),
        "kv_buffer": Counter(Shape=2),  # the Concat takes `added` as well, fed from the host
    }
    for name in NAMES:
        nodes = [node for node in Graph(directory, name).on_shapes() if node.op_type != "Constant"]
        assert {node.op_type for node in nodes} <= ON_SHAPES
        found = Counter(node.op_type for node in nodes)
        assert found == expected[name], name


@pytest.mark.parametrize("precision", FLAVOURS)
def test_the_embedded_model_has_just_the_operators_listed(precision: str) -> None:
    """In docs/tensorrt.md, beside those of the other targets."""
    assert operators(embedded(precision)) == listed(f"cuda {precision}")


def test_the_head_alone_of_the_embedded_model_has_kernels_too() -> None:
    graph = Graph(embedded("int4"), "decoder_upper")
    assert {node.op_type for node, _ in graph.on_device()} <= {*STANDARD, *OWN}


def test_floats_are_half_but_for_rows_and_angles(directory: Path) -> None:
    for name in ("decoder_lower", "decoder_upper"):
        graph = Graph(directory, name)
        wide = {node.op_type for node, types in graph.on_device() if types == {"float"}}
        mixed = {node.op_type for node, types in graph.on_device() if len(types) == 2}
        assert {"Cos", "Sin", "Softmax"} <= wide
        assert mixed == {"Cast"}
        for value in (*graph.graph.input, *graph.graph.output):
            stays_wide = value.name in ("attention_bias", "attention")
            if "int" not in graph.types[value.name]:
                assert graph.types[value.name] == ("float" if stays_wide else "float16"), value.name
