"""Qwen through `ask` against plain passes of transformers: heatmap, box, both answers token by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.engines import QWENS, built_qwen
from tests.parity.family_checks import PICTURES, QUESTION, check_answer, picture
from tests.parity.qwen_flow import WINDOW, QwenFlow
from vicrop_engine import ViCropEngine

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


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "rel-att") for name in PICTURES), ("wide", "grad-att"), ("4000 x 300", "grad-att")],
)
def test_ask_gives_what_plain_passes_give(pair: Pair, name: str, method: str) -> None:
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, method=method)
    got = pair.engine.ask(picture(name), QUESTION, method=method, max_new_tokens=8, high_res="off")
    check_answer(pair.engine, name, wanted, got, WINDOW)


@pytest.mark.parametrize("checkpoint", PUBLISHED)
@pytest.mark.parametrize("name", ["640 x 481", "wide", "tall"])
def test_compat_gives_what_the_published_code_gives(checkpoint: str, name: str) -> None:
    """Two resizes; one alone gives another map."""
    pair = pair_of(checkpoint)
    wanted = pair.flow.ask(picture(name), QUESTION, layer=pair.layer, published=True)
    got = pair.engine.ask(picture(name), QUESTION, max_new_tokens=8, compat="mllms-know")
    check_answer(pair.engine, name, wanted, got, WINDOW, always=True)
    once = pair.engine.ask(picture(name), QUESTION, max_new_tokens=8, high_res="off")
    assert once.heatmap is not None
    if once.heatmap.shape == wanted.heatmap.shape:
        distance = np.linalg.norm(once.heatmap - wanted.heatmap)
        assert distance > 1e-3 * np.linalg.norm(wanted.heatmap)
