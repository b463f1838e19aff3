"""Twins of graphs: taken where the processor gains by them, for whole prompts alone, with like heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.engines import STRETCH_168, built
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.manifest import PREFILL, WIDE
from vicrop_engine.examples import signs
from vicrop_engine.runtime import graphs as backend
from vicrop_engine.runtime.host_graph import BoundGraph, BoundStep, Graph
from vicrop_engine.runtime.twin_graph import TwinGraph
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Layout
from vicrop_export.precision.prefill_products import TWIN_SPARE, plan_twins

FINE, FINEST = Bytes(fine_tokens=True), Bytes(fine_tokens=True, fine_weights=True)
Open = Callable[[Path], ViCropEngine]


@pytest.fixture(params=[True, False], ids=["products in 16 bits", "products in 32 bits"])
def in_16_bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on a processor without VNNI, and with it; products are exact either way."""
    monkeypatch.setattr(backend, "adds_in_16_bits", lambda: request.param)
    return bool(request.param)


def opened(engine: ViCropEngine) -> dict[str, str]:
    """The graph's name of each part: of prompts, and of decode steps."""
    graphs = engine.model.decoder._graphs
    names = {"vision": graphs.vision.name}
    for part, graph in (("lower", graphs.lower), ("upper", graphs.upper)):
        names[part] = graph.prefill.name if isinstance(graph, TwinGraph) else graph.name
        names[f"{part} steps"] = graph.name
    return names


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_those_that_suit_the_processor_are_opened(precision: str, in_16_bits: bool) -> None:
    made = built(STRETCH_168, precision)
    names = opened(ViCropEngine.load(made.engine))
    wide = WIDE if in_16_bits and precision != "fp32" else ""
    assert names["vision"] == f"vision{wide}"
    assert names["lower"] == f"decoder_lower{wide}"
    assert names["upper"] == f"decoder_upper{PREFILL if precision == 'int4' else ''}"
    assert (names["lower steps"], names["upper steps"]) == ("decoder_lower", "decoder_upper")
    assert set(made.manifest.twins or ()) <= {path.stem for path in made.engine.glob("*.onnx")}


def test_prompts_run_the_twin_and_steps_the_usual_graph(
    in_16_bits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    steps: list[str] = []

    def spied(kind: type, name: str, heard: list[str], graph_of: Callable[[Any], Graph]) -> None:
        inner = getattr(kind, name)

        def run(self: Any, feeds: Any) -> Any:
            heard.append(graph_of(self).name)
            return inner(self, feeds)

        monkeypatch.setattr(kind, name, run)

    spied(BoundGraph, "run", prompts, lambda bound: bound.graph)
    spied(BoundStep, "run", steps, lambda step: step._graph)
    picture, example = signs()[0]
    engine = ViCropEngine.load(built(STRETCH_168, "int4").engine)
    prompts.clear()
    answer = engine.ask(picture, example.question, max_new_tokens=4)
    assert answer.tokens.decoded > 1
    wide = WIDE if in_16_bits else ""
    assert set(prompts) == {f"decoder_lower{wide}", f"decoder_upper{PREFILL}"}
    assert set(steps) == {"decoder_lower", "decoder_upper"}


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_both_kinds_of_processor_look_at_the_same_places(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model's likeliest token is a matter of luck; its heatmap is not."""
    heatmaps: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for narrow, found in heatmaps.items():
        monkeypatch.setattr(backend, "adds_in_16_bits", lambda narrow=narrow: narrow)
        engine = ViCropEngine.load(built(STRETCH_168, precision).engine)
        for picture, example in signs()[:12]:
            heatmap = engine.ask(picture, example.question, max_new_tokens=1).heatmap
            assert heatmap is not None
            found.append(heatmap)
    distances = [
        np.linalg.norm(one - other) / np.linalg.norm(other)
        for one, other in zip(heatmaps[True], heatmaps[False], strict=True)
    ]
    assert 0 < np.median(distances) < {"int8": 0.01, "int4": 0.05}[precision]


def test_twins_have_no_weights_of_their_own_but_bytes_for_those_of_four_bits() -> None:
    """Floats are made of the usual graph's bytes when the engine is opened."""
    engine = built(STRETCH_168, "int4").engine
    paths = [*engine.glob(f"*{WIDE}.onnx"), *engine.glob(f"*{PREFILL}.onnx")]
    assert len(paths) == 3
    for path in paths:
        model = onnx.load(path, load_external_data=False)
        usual = f"{path.name.split('.')[0]}.onnx.data"
        places = {
            entry.value
            for weight in model.graph.initializer
            for entry in weight.external_data
            if entry.key == "location"
        }
        assert usual in places
        own = {f"{path.name}.data"} if path.name.startswith("decoder") else set()  # with weights of four bits
        assert places - {usual} == own
        assert path.stat().st_size < 300_000


def twins(num_weights: int, layouts: dict[str, Layout]) -> dict[str, int]:
    """The twins of an engine whose graphs have one weight each, of these layouts."""
    return plan_twins(
        {name: [name] for name in layouts}, dict.fromkeys(layouts, (num_weights,)), layouts.__getitem__
    )


def test_twins_are_made_while_they_fit() -> None:
    layouts = {"vision": FINEST, "decoder_lower": FINE, "decoder_upper": Blocks(4)}
    few = 1 << 20
    assert twins(few, layouts) == {
        "vision.wide": 2 * few,  # instead of two bytes a weight
        "decoder_lower.wide": 4 * few,
        "decoder_upper.prefill": few,
    }
    most = TWIN_SPARE // 2
    assert twins(most, layouts) == {"decoder_upper.prefill": most}, "what gains most comes first"
    many = TWIN_SPARE // 4
    assert twins(many, layouts) == {"vision.wide": 2 * many, "decoder_upper.prefill": many}
    assert twins(few, {"vision": Bytes(), "decoder_lower": Blocks(8), "decoder_upper": Bytes()}) == {}
