"""Engines in low precision: they answer, say how far from float32 they are, and hold what their name says."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.checkpoints import write_checkpoint
from tests.engines import STRETCH_168, built
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.manifest import EMBEDDINGS, Manifest
from vicrop_engine.errors import ParityError
from vicrop_engine.examples import signs
from vicrop_export.build import build_engine
from vicrop_export.checks.against_transformers import FAR
from vicrop_export.checks.agreement import intersection_over_union
from vicrop_export.checks.parity import relative_l2
from vicrop_export.ops.node_list import NodeList
from vicrop_export.precision.byte_products import Values
from vicrop_export.precision.layouts import Bytes
from vicrop_export.precision.prefill_products import AsFloats

FACTS = {
    "fp16": ({"MatMul", "Cast"}, 0.99, 0.02),
    "int8": ({"MatMulIntegerToFloat", "MatMulNBits"}, 0.5, 0.5),
    "int4": ({"MatMulIntegerToFloat", "MatMulNBits"}, 0.0, 2.0),
}


@pytest.fixture(scope="module", params=FACTS)
def low(request: pytest.FixtureRequest) -> tuple[str, Path, Manifest]:
    made = built(STRETCH_168, request.param)
    return request.param, made.engine, made.manifest


def test_the_manifest_says_what_was_compared(low: tuple[str, Path, Manifest]) -> None:
    precision, directory, manifest = low
    agreement = manifest.agreement
    assert agreement is not None
    assert "201 questions about the built-in pictures" in agreement.compared
    assert agreement.answers >= FACTS[precision][1]
    assert agreement.heatmaps <= FACTS[precision][2]
    figures, wanted = (made.float32_parity for made in (manifest, built(STRETCH_168).manifest))
    assert figures is not None
    assert wanted is not None
    # Where memory lies decides in which order torch sums: errors of 1e-6 move by 2 %.
    assert asdict(figures) == pytest.approx(asdict(wanted), rel=0.1)
    assert not [
        path.name for path in directory.iterdir() if path.name not in {*manifest.files, "manifest.json"}
    ]


def test_weights_take_the_bits_they_should(low: tuple[str, Path, Manifest]) -> None:
    precision, directory, manifest = low
    full = built(STRETCH_168).manifest
    data = "decoder_lower.onnx.data"
    assert manifest.files[data].size < full.files[data].size
    assert np.load(directory / EMBEDDINGS).dtype == np.float16
    kinds = {
        node.op_type
        for node in onnx.load(directory / "decoder_upper.onnx", load_external_data=False).graph.node
    }
    assert kinds & FACTS[precision][0]


def test_it_answers_through_the_runtime(low: tuple[str, Path, Manifest]) -> None:
    _, directory, _ = low
    picture, example = signs()[0]
    answer = ViCropEngine.load(directory).ask(picture, example.question, max_new_tokens=2)
    assert answer.crop_box is not None
    assert answer.engine.precision == low[0]


def test_gradients_through_rounded_weights_are_close_to_float32s(low: tuple[str, Path, Manifest]) -> None:
    """Median over a picture's questions: rounding may change which token is the likeliest."""
    precision, directory, _ = low
    engines = [ViCropEngine.load(place) for place in (directory, built(STRETCH_168).engine)]
    distances = []
    for picture, example in signs()[:3]:
        got, wanted = (
            engine.ask(
                picture, example.question, method="grad-att", max_new_tokens=1, first_answer=False
            ).heatmap
            for engine in engines
        )
        assert got is not None
        assert wanted is not None
        assert got.max() > 0
        distances.append(relative_l2(got, wanted))
    assert np.median(distances) <= {"fp16": 0.01, "int8": 0.15, "int4": 0.8}[precision]


def box(*edges: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = edges
    return x0, y0, x1, y1


def test_intersection_over_union() -> None:
    assert intersection_over_union(box(0, 0, 2, 2), box(0, 0, 2, 2)) == 1
    assert intersection_over_union(box(0, 0, 2, 2), box(2, 0, 4, 2)) == 0
    assert intersection_over_union(box(0, 0, 2, 2), box(1, 0, 3, 2)) == pytest.approx(1 / 3)


def test_a_checkpoint_that_quantises_badly_is_built_and_said_to_be_far(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Attention so sharp that a token rounded otherwise looks elsewhere; the graphs are right anyway."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", replace(STRETCH_168, sharpness=12.0))
    manifest = build_engine(checkpoint, tmp_path / "engine", name="llava-signs", precision="int4")
    assert manifest.parity.attention > FAR
    (said,) = [record.getMessage() for record in caplog.records if record.name == "vicrop_engine.build"]
    assert "int4 moves this checkpoint's attention by" in said
    ViCropEngine.load(tmp_path / "engine")


@pytest.mark.parametrize("twin", [False, True], ids=["the usual graph", "its twin"])
def test_a_product_that_is_not_the_same_rounding_is_refused(
    twin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a thousandth, where float32's sums are within a millionth."""
    inner = (AsFloats if twin else Bytes).nodes

    def wrong(self: Any, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        made.nodes += inner(self, x, stored, size)
        made.add("Mul", made.nodes[-1].outputs[0], made.constant(1.001, np.float32))
        return made.nodes

    monkeypatch.setattr(AsFloats if twin else Bytes, "nodes", wrong)
    words = r"the product with vision_tower\S+ in vision(\.wide)?\.onnx is 1\.0e-03 .* rounding done plainly"
    with pytest.raises(ParityError, match=words):
        build_engine(built(STRETCH_168).checkpoint, tmp_path / "engine", name="llava-signs", precision="int8")
    assert not (tmp_path / "engine").exists()
