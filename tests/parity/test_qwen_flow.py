"""Qwen through `ask` against plain passes of transformers: heatmap, box, both answers token by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.engines import QWENS, built_qwen
from tests.parity.qwen_flow import WINDOW, QwenFlow
from tests.parity.smolvlm_flow import FlowAnswer
from tests.parity.test_smolvlm_flow import PICTURES, QUESTION, picture, without_end
from vicrop_engine import Answer, ViCropEngine

PUBLISHED = [name for name, spec in QWENS.items() if spec.kind != "qwen3_vl"]


@dataclass(frozen=True)
class Pair:
    """Plain passes and the engine on one checkpoint."""

    flow: QwenFlow
    engine: ViCropEngine
    layer: int


def pair_of(name: str) -> Pair:
    """Of a checkpoint by its name."""
    made = built_qwen(QWENS[name])
    engine = ViCropEngine.load(made.engine, threads=1)
    return Pair(QwenFlow(made.checkpoint), engine, made.manifest.crop.layers[0])


@pytest.fixture(scope="module", params=QWENS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return pair_of(request.param)


def check(pair: Pair, name: str, wanted: FlowAnswer, got: Answer, *, always: bool = False) -> None:
    """A picture within one window is its own crop; of others the map and the window are compared too."""
    if always or max(PICTURES[name]) > WINDOW:
        assert got.heatmap is not None
        assert got.heatmap.shape == wanted.heatmap.shape
        distance = np.linalg.norm(got.heatmap.astype(np.float64) - wanted.heatmap)
        assert distance <= 1e-4 * np.linalg.norm(wanted.heatmap)
        assert got.crop_box == wanted.crop_box
        assert without_end(pair.engine, got.token_ids) == wanted.tokens
    assert without_end(pair.engine, got.first_token_ids) == wanted.first_tokens


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "rel-att") for name in PICTURES), ("wide", "grad-att"), ("4000 x 300", "grad-att")],
)
def test_ask_gives_what_plain_passes_give(pair: Pair, name: str, method: str) -> None:
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, method=method)
    got = pair.engine.ask(picture(name), QUESTION, method=method, max_new_tokens=8, high_res="off")
    check(pair, name, wanted, got)


@pytest.mark.parametrize("checkpoint", PUBLISHED)
@pytest.mark.parametrize("name", ["640 x 481", "wide", "tall"])
def test_compat_gives_what_the_published_code_gives(checkpoint: str, name: str) -> None:
    """Two resizes; one alone gives another map."""
    pair = pair_of(checkpoint)
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, published=True)
    got = pair.engine.ask(picture(name), QUESTION, max_new_tokens=8, compat="mllms-know")
    check(pair, name, wanted, got, always=True)
    once = pair.engine.ask(picture(name), QUESTION, max_new_tokens=8, high_res="off")
    assert once.heatmap is not None
    if once.heatmap.shape == wanted.heatmap.shape:
        distance = np.linalg.norm(once.heatmap - wanted.heatmap)
        assert distance > 1e-3 * np.linalg.norm(wanted.heatmap)
