"""Holds every product of the graphs just written against the same rounding done plainly.

What an engine in low precision gives may be far from float32's where the checkpoint quantises badly, and from
itself when a token is rounded the other way; so the graphs are judged product by product, on the tokens that
really come to each. Graphs run in pieces. Knows layouts and products; nothing of what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vicrop_engine.engine_dir.manifest import EVERY_GRAPH, PREFILL, WIDE, Manifest
from vicrop_engine.errors import ParityError
from vicrop_engine.model.probe import ProbeInput
from vicrop_export.checks.parity import EngineGraphs, relative_l2
from vicrop_export.checks.probed import graph_outputs
from vicrop_export.onnx_files.exported import ExportedGraph, source_of
from vicrop_export.onnx_files.fused_nodes import PACKED
from vicrop_export.onnx_files.in_pieces import PiecewiseGraph, Port, open_in_pieces
from vicrop_export.onnx_files.writer import StoredTensors
from vicrop_export.precision.layouts import Layout
from vicrop_export.precision.prefill_products import Product, prefill_product

TOLERANCE = 1e-5  # relative L2; measured 3e-7 with VNNI and with AVX2 alone, for sums of float32


@dataclass(frozen=True)
class ProductPlace:
    """The values that a product goes from and to, by name, and its weight's name in the checkpoint.

    Its `width` numbers begin at number `first` of each token's in the result.
    """

    source: str
    tokens: str
    result: str
    width: int
    first: int = 0


@dataclass
class WatchedGraph:
    """A graph whose products are checked in the first run of so many tokens: of a prompt, and of a step."""

    inner: PiecewiseGraph
    places: Sequence[ProductPlace]
    check: Callable[[ProductPlace, NDArray[Any], NDArray[Any]], None]
    checked: set[tuple[int, ...]] = field(default_factory=set)

    def get_inputs(self) -> list[Port]:
        """The graph's inputs."""
        return self.inner.get_inputs()

    def get_outputs(self) -> list[Port]:
        """The graph's outputs."""
        return self.inner.get_outputs()

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs `names`, as a session gives them. Raises ParityError."""
        watched = [*dict.fromkeys((*names, *_names(self.places)))]
        values = dict(zip(watched, self.inner.run(watched, feeds), strict=True))
        shape = values[self.places[0].tokens].shape
        if shape not in self.checked:
            self.checked.add(shape)
            for place in self.places:
                columns = slice(place.first, place.first + place.width)
                self.check(place, values[place.tokens], values[place.result][..., columns])
        return [values[name] for name in names]


def check_products(
    directory: Path,
    manifest: Manifest,
    given: ProbeInput,
    exported: Iterable[ExportedGraph],
    stored: StoredTensors,
    layout_of: Callable[[str], Layout],
) -> float:
    """The largest relative L2 distance of any product, in the usual graphs and in their twins.

    Raises ParityError above TOLERANCE.
    """
    places = {graph.name: places_of(graph) for graph in exported if graph.name in EVERY_GRAPH}
    found = [_check(directory, manifest, given, places, stored, layout_of, {})]
    if manifest.twins:
        twins = {twin.removesuffix(WIDE).removesuffix(PREFILL): twin for twin in manifest.twins}
        found.append(_check(directory, manifest, given, places, stored, layout_of, twins))
    return max(found)


def places_of(graph: ExportedGraph) -> list[ProductPlace]:
    """Where the described weights of a graph are multiplied with; names stay when it is written."""
    described = {
        weight.name: weight for weight in graph.proto.graph.initializer if weight.name in graph.described
    }
    return [
        ProductPlace(source_of(weight), node.input[0], node.output[0], weight.dims[1])
        for node in graph.proto.graph.node
        if node.op_type == "MatMul" and (weight := described.get(node.input[1])) is not None
    ]


def found_in(file: Path, places: Sequence[ProductPlace]) -> list[ProductPlace]:
    """The same places in a written graph, where results of some lie side by side in one."""
    graph = onnx.load(file, load_external_data=False).graph
    widths, packed = {place.result: place.width for place in places}, {}
    for name in (name for node in graph.node for name in node.output if PACKED in name):
        first = 0
        for part in name.split(PACKED):
            packed[part], first = (name, first), first + widths[part]
    return [
        replace(place, result=packed[place.result][0], first=packed[place.result][1])
        if place.result in packed
        else place
        for place in places
    ]


def _check(
    directory: Path,
    manifest: Manifest,
    given: ProbeInput,
    places: Mapping[str, Sequence[ProductPlace]],
    stored: StoredTensors,
    layout_of: Callable[[str], Layout],
    twins: Mapping[str, str],
) -> float:
    """The worst product of the graphs, of those with a twin in that. Raises ParityError."""
    found: list[float] = []

    def open_graph(path: Path) -> WatchedGraph:
        name, file = path.stem, path.with_name(f"{twins.get(path.stem, path.stem)}.onnx")

        def check(place: ProductPlace, tokens: NDArray[Any], result: NDArray[Any]) -> None:
            layout = layout_of(place.source)
            product: Product = (prefill_product(layout) if name in twins else None) or layout
            arrays = {ending: part.numpy() for ending, part in stored.weights[place.source].items()}
            found.append(_distance(product, arrays, tokens, result))
            if not found[-1] <= TOLERANCE:
                raise ParityError(
                    f"the product with {place.source} in {file.name} is {found[-1]:.1e} (relative L2) from "
                    f"the same rounding done plainly, wanted at most {TOLERANCE:.0e}; no engine was made: "
                    "report this with the checkpoint's config.json and this processor's name"
                )

        there = found_in(file, places[name])
        return WatchedGraph(open_in_pieces(file, _names(there)), there, check)

    capacity = len(given.ids) + manifest.vision.image_tokens
    graph_outputs(EngineGraphs(directory, manifest.decoder, capacity, open_graph), manifest, given)
    return max(found)


def _distance(
    product: Product, arrays: dict[str, NDArray[Any]], x: NDArray[np.float32], got: NDArray[np.float32]
) -> float:
    tokens = x.reshape(-1, x.shape[-1])
    return relative_l2(got.reshape(len(tokens), -1), product.plain(tokens, arrays).astype(np.float32))


def _names(places: Iterable[ProductPlace]) -> list[str]:
    return list(dict.fromkeys(name for place in places for name in (place.tokens, place.result)))
