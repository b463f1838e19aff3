"""The published flow's turn in a profile, where torch and transformers are installed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

from vicrop_engine.builder import open_published
from vicrop_engine.engine import ViCropEngine
from vicrop_engine.engine_dir.layer_choice import parse_layers
from vicrop_engine.errors import SettingError
from vicrop_engine.images.picture import open_picture
from vicrop_engine.measure.profiling.flows import DECODE_IMAGE, Case, Clock, Sample
from vicrop_engine.timing import Span
from vicrop_engine.vicrop.answer import Answer, EngineInfo, TokenCounts

METHODS = ("rel-att", "grad-att", "pure-grad")


def published_turn(checkpoint: str, engine: ViCropEngine, case: Case, threads: int) -> Callable[[], Sample]:
    """Asks the published flow on `checkpoint` as the engine is asked, each time it is called.

    The engine's method and first heatmap layer are taken. Raises SettingError for a method that the published
    flow lacks, BuildError without torch, and CheckpointError.
    """
    method = case.params.method
    if not isinstance(method, str) or method not in METHODS:
        raise SettingError(f"--compare got method {method!r}, wanted one of {', '.join(METHODS)}")
    chosen = case.params.layers
    layers = engine.manifest.crop.layers
    if chosen is not None:
        layers = parse_layers(chosen, engine.manifest.decoder.num_layers)
    with contextlib.redirect_stdout(io.StringIO()):
        flow = open_published(checkpoint)
    flow.use(threads)
    return lambda: _sample(flow, case, method, layers[0], engine.tally.clock)


def _sample(flow: Any, case: Case, method: str, layer: int, clock: Clock) -> Sample:
    start = clock()
    picture = open_picture(case.image)
    opened = Span(DECODE_IMAGE, start, clock())
    made = flow.ask(
        picture.image,
        case.question,
        layer=layer,
        method=method,
        max_new_tokens=case.params.max_new_tokens,
        clock=clock,
    )
    answer = Answer(
        answer=made.answer,
        answer_without_crop=made.first_answer,
        method=method,
        high_res=False,
        crop_box=made.crop_box,
        image_size=picture.size,
        heatmap=made.heatmap,
        heatmap_box=None,
        layers=(layer,),
        confidence=float("nan"),
        timings={},
        tokens=TokenCounts(0, 0, len(made.first_ids) + len(made.ids)),
        engine=EngineInfo("published", "fp32", "transformers"),
        token_ids=made.ids,
        first_token_ids=made.first_ids,
    )
    return Sample(answer, (opened, *made.spans), ())
