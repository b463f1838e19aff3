"""Runs a graph larger than memory: in pieces, each with the weights of a few layers, one after the other.

Any place in the order of the nodes is good for a cut; what crosses it is handed on. Knows ONNX and ONNX
Runtime; nothing of decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from vicrop_engine.runtime.graphs import UNFUSED
from vicrop_engine.runtime.heap import give_back
from vicrop_engine.runtime.onnx_runtime import tensor_class
from vicrop_engine.runtime.sessions import open_session, session_options

Array = NDArray[Any]
Loader = Callable[[onnx.TensorProto], Array]
PIECE_BYTES = 1 << 28
UNPACKED = ("session.disable_prepacking", "1")
TYPES = {1: "tensor(float)", 7: "tensor(int64)", 10: "tensor(float16)"}  # ONNX Runtime's words
FEW_BITS = {onnx.TensorProto.INT4, onnx.TensorProto.FLOAT8E4M3FN}


@dataclass(frozen=True)
class Piece:
    """Some nodes in order, the weights they use, and the names of what goes in and comes out."""

    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; dynamic axes are names, types as a session's."""

    name: str
    shape: tuple[int | str, ...]
    type: str


class PiecewiseGraph:
    """A graph with a session's `get_inputs`, `get_outputs` and `run`.

    `load` gives the array of an external weight when its piece is about to run. Values named in `also` can be
    asked for like outputs. Memory is that of one piece, twice where it is read, and three times where the
    runtime packs weights: without `packs` it does not where one weight is larger than a piece is to be.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        load: Loader,
        piece_bytes: int = PIECE_BYTES,
        also: Collection[str] = (),
        *,
        packs: bool = True,
    ) -> None:
        self._model, self._load, self._packs, self._piece_bytes = model, load, packs, piece_bytes
        self.pieces = cut(model.graph, piece_bytes, also)

    def get_inputs(self) -> list[Port]:
        """The graph's inputs."""
        return [_port(value) for value in self._model.graph.input]

    def get_outputs(self) -> list[Port]:
        """The graph's outputs."""
        return [_port(value) for value in self._model.graph.output]

    def run(self, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs `names` for these inputs, as a session gives them."""
        values = dict(feeds)
        for index, piece in enumerate(self.pieces):
            values |= self._run_piece(piece, values)
            give_back()
            later = {name for other in self.pieces[index + 1 :] for name in other.inputs}
            values = {name: value for name, value in values.items() if name in later or name in names}
        return [values[name] for name in names]

    def _run_piece(self, piece: Piece, values: Mapping[str, Array]) -> dict[str, Array]:
        options = session_options()
        options.add_session_config_entry(*UNFUSED)
        external = {
            weight.name: self._load(weight)
            for weight in piece.weights
            if is_external(weight) and weight.data_type not in FEW_BITS
        }
        if not self._packs and sum(array.nbytes for array in external.values()) > self._piece_bytes:
            options.add_session_config_entry(*UNPACKED)
        held = [tensor_class().ortvalue_from_numpy(array) for array in external.values()]
        if external:
            options.add_external_initializers(list(external), held)
        model = self._piece_model(piece, values)
        session = open_session(model, options)
        feeds = {name: values[name] for name in piece.inputs}
        return dict(zip(piece.outputs, session.run(list(piece.outputs), feeds), strict=True))

    def _piece_model(self, piece: Piece, values: Mapping[str, Array]) -> bytes:
        types = {name: helper.np_dtype_to_tensor_dtype(values[name].dtype) for name in piece.inputs}
        graph = helper.make_graph(
            piece.nodes,
            "piece",
            [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()],
            [onnx.ValueInfoProto(name=name) for name in piece.outputs],
            [self._embedded(w) if w.data_type in FEW_BITS and is_external(w) else w for w in piece.weights],
        )
        model = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        serialised: bytes = model.SerializeToString()
        return serialised

    def _embedded(self, weight: onnx.TensorProto) -> onnx.TensorProto:
        """The weight with its bytes in itself, for kinds of numbers that NumPy has not."""
        kind, content = weight.data_type, self._load(weight).tobytes()
        return onnx.TensorProto(name=weight.name, dims=weight.dims, data_type=kind, raw_data=content)


def cut(graph: onnx.GraphProto, piece_bytes: int, also: Collection[str] = ()) -> list[Piece]:
    """The graph's nodes in pieces of at most `piece_bytes` of weights each, larger ones excepted.

    Pieces give the values that others want, the graph's outputs, and those named in `also`.
    """
    weights = {weight.name: weight for weight in graph.initializer}
    groups: list[list[onnx.NodeProto]] = [[]]
    size = 0
    for node in graph.node:
        own = sum(num_bytes(weights[name]) for name in _reads(node) if name in weights)
        if groups[-1] and size + own > piece_bytes:
            groups.append([])
            size = 0
        groups[-1].append(node)
        size += own
    results = {value.name for value in graph.output} | set(also)
    return [_piece(group, groups[index + 1 :], weights, results) for index, group in enumerate(groups)]


def _piece(
    nodes: Sequence[onnx.NodeProto],
    later: Sequence[Sequence[onnx.NodeProto]],
    weights: Mapping[str, onnx.TensorProto],
    results: set[str],
) -> Piece:
    made = {name for node in nodes for name in node.output if name}
    used = dict.fromkeys(name for node in nodes for name in _reads(node) if name)
    wanted = results | {name for group in later for node in group for name in _reads(node)}
    return Piece(
        nodes=tuple(nodes),
        weights=tuple(weights[name] for name in used if name in weights),
        inputs=tuple(name for name in used if name not in made and name not in weights),
        outputs=tuple(name for node in nodes for name in node.output if name in wanted and name),
    )


def _reads(node: onnx.NodeProto) -> list[str]:
    """What a node reads, the branches of a condition included."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            made = {name for inner in attribute.g.node for name in inner.output}
            names += [name for inner in attribute.g.node for name in _reads(inner) if name not in made]
    return names


def open_in_pieces(path: Path, also: Collection[str] = ()) -> PiecewiseGraph:
    """The graph of a file, its weights mapped from the file beside it."""

    def load(weight: onnx.TensorProto) -> Array:
        place = {entry.key: entry.value for entry in weight.external_data}
        file, offset = path.parent / place["location"], int(place["offset"])
        if weight.data_type in FEW_BITS:
            return np.memmap(file, np.uint8, "r", offset, (int(place["length"]),))
        dtype = helper.tensor_dtype_to_np_dtype(weight.data_type)
        return np.memmap(file, dtype, "r", offset, tuple(weight.dims))

    return PiecewiseGraph(onnx.load(path, load_external_data=False), load, also=also)


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    axes = tuple(axis.dim_param or int(axis.dim_value) for axis in kind.shape.dim)
    return Port(value.name, axes, TYPES[kind.elem_type])


def is_external(weight: onnx.TensorProto) -> bool:
    """Whether the weight's numbers are not in the graph itself."""
    return bool(weight.data_location == onnx.TensorProto.EXTERNAL)


def num_bytes(weight: onnx.TensorProto) -> int:
    """What the weight's array takes."""
    return int(np.prod(weight.dims)) * int(helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize)
