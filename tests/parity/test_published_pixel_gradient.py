"""pure-grad in compat mode against the published flow: heatmap and box on every shape of picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.engines import GROUPED_224, MULTI_HEAD_336, ONE_KV_HEAD_336, built
from tests.parity.published_flow import PublishedFlow
from tests.parity.published_pixel_gradient import pure_gradient
from tests.parity.test_published_flow import PICTURES, picture, relative_l2
from vicrop_engine import ViCropEngine
from vicrop_engine.localizers import methods
from vicrop_engine.localizers.pure_gradient import PureGradient

QUESTION = "What is written on the red sign?"
CHECKPOINTS = {
    "224 px, grouped-query": GROUPED_224,
    "336 px, one KV head": ONE_KV_HEAD_336,
    "336 px, multi-head, biases, two feature layers": MULTI_HEAD_336,
}


@dataclass(frozen=True)
class Pair:
    """The published flow and the engine on one checkpoint."""

    published: PublishedFlow
    engine: ViCropEngine


@pytest.fixture(scope="module", params=CHECKPOINTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both flows on one seeded random checkpoint, with an empty cache directory."""
    made = built(CHECKPOINTS[request.param])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICROP_HOME", str(tmp_path_factory.mktemp("home")))
        yield Pair(PublishedFlow(made.checkpoint), ViCropEngine.load(made.engine))


@pytest.mark.parametrize("name", PICTURES)
def test_compat_equals_the_published_gradients(pair: Pair, name: str) -> None:
    published = pure_gradient(pair.published, picture(name), QUESTION)
    answer = pair.engine.ask(
        picture(name), QUESTION, method="pure-grad", max_new_tokens=1, compat="mllms-know"
    )
    assert answer.heatmap is not None
    assert relative_l2(answer.heatmap, published.heatmap) <= 1e-4
    assert answer.crop_box == published.crop_box
    assert (answer.method, answer.layers) == ("pure-grad", ())


def test_the_paper_filter_is_another(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper says 3×3 where the published code has 7×7."""
    monkeypatch.setitem(methods.LOCALIZERS, "pure-grad", lambda _: PureGradient(compat=True, median=3))
    published = pure_gradient(pair.published, picture("wide"), QUESTION, median=3)
    keywords = {"method": "pure-grad", "max_new_tokens": 1, "compat": "mllms-know"}
    narrow = pair.engine.ask(picture("wide"), QUESTION, **keywords)
    monkeypatch.undo()
    wide = pair.engine.ask(picture("wide"), QUESTION, **keywords)
    assert narrow.heatmap is not None
    assert wide.heatmap is not None
    assert relative_l2(narrow.heatmap, published.heatmap) <= 1e-4
    assert relative_l2(wide.heatmap, published.heatmap) > 0.1


def test_another_question_looks_elsewhere(pair: Pair) -> None:
    """What is compared depends on question and picture: equality means something."""
    maps = [
        pair.engine.ask(picture(name), question, method="pure-grad", max_new_tokens=1).heatmap
        for name, question in (("wide", QUESTION), ("wide", "How many people?"), ("tall", QUESTION))
    ]
    for one, other in ((0, 1), (0, 2)):
        assert maps[one] is not None
        assert not np.allclose(maps[one], maps[other], rtol=0.01)
