"""pure-grad in compat mode against the published flow: heatmap and box on every shape of picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.engines import GROUPED_224, MULTI_HEAD_336, ONE_KV_HEAD_336, built
from tests.parity.published_flow import PublishedFlow
from tests.parity.published_pixel_gradient import pure_gradient
from tests.parity.test_published_flow import PICTURES, picture, relative_l2
from vicrop_engine import ViCropEngine
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.localizers import methods
from vicrop_engine.vicrop.localizers.pure_gradient import PureGradient

QUESTION = "What is written on the red sign?"
CHECKPOINTS = {
    "224 px, grouped-query": GROUPED_224,
    "336 px, one KV head": ONE_KV_HEAD_336,
    "336 px, multi-head, biases, two feature layers": MULTI_HEAD_336,
}
SMALLEST = "224 px, grouped-query"


@dataclass(frozen=True)
class Pair:
    """The published flow and the engine on one checkpoint."""

    published: PublishedFlow
    engine: ViCropEngine


@cache
def pair(name: str) -> Pair:
    """Both flows on one seeded random checkpoint."""
    made = built(CHECKPOINTS[name])
    return Pair(PublishedFlow(made.checkpoint), ViCropEngine.load(made.engine))


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "vicrop-home"))


def ask(engine: ViCropEngine, name: str, question: str = QUESTION) -> Answer:
    return engine.ask(picture(name), question, method="pure-grad", max_new_tokens=1, compat="mllms-know")


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_compat_equals_the_published_gradients(checkpoint: str, name: str) -> None:
    published = pure_gradient(pair(checkpoint).published, picture(name), QUESTION)
    answer = ask(pair(checkpoint).engine, name)
    assert answer.heatmap is not None
    assert relative_l2(answer.heatmap, published.heatmap) <= 1e-4
    assert answer.crop_box == published.crop_box
    assert (answer.method, answer.layers) == ("pure-grad", ())


def test_the_paper_filter_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper says 3×3 where the published code has 7×7."""
    published = pure_gradient(pair(SMALLEST).published, picture("wide"), QUESTION, median=3)
    wide = ask(pair(SMALLEST).engine, "wide").heatmap
    monkeypatch.setitem(methods.LOCALIZERS, "pure-grad", lambda _: PureGradient(compat=True, median=3))
    narrow = ask(pair(SMALLEST).engine, "wide").heatmap
    assert narrow is not None
    assert wide is not None
    assert relative_l2(narrow, published.heatmap) <= 1e-4
    assert relative_l2(wide, published.heatmap) > 0.1


def test_the_comparison_can_tell_things_apart() -> None:
    """Maps depend on question and picture: equality means something."""
    asked = ask(pair(SMALLEST).engine, "wide").heatmap
    others = (("wide", "How many people?"), ("tall", QUESTION))
    assert asked is not None
    for name, question in others:
        other = ask(pair(SMALLEST).engine, name, question).heatmap
        assert other is not None
        assert relative_l2(other, asked) > 0.1
