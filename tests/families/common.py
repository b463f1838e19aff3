"""What an engine of every family is held to, whatever it makes of a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from tests.engines import Built
from vicrop_engine import ViCropEngine
from vicrop_engine.counters import Counters
from vicrop_engine.images.seen import Way
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.params import AskParams

QUESTION, OTHER = "What is written on the red sign?", "How many people are there in the picture?"
FEW: dict[str, Any] = {"max_new_tokens": 4}


def spent(engine: ViCropEngine, ask: Callable[[], Answer]) -> tuple[Answer, Counters]:
    """The answer, and what it added to the counters."""
    before = dataclasses.asdict(engine.counters)
    answer = ask()
    after = dataclasses.asdict(engine.counters)
    engine.check_integrity()
    return answer, Counters(**{name: after[name] - before[name] for name in after})


def check_nothing_is_computed_twice(engine: ViCropEngine, image: Image.Image) -> None:
    """Vision, prefix and general prompt once; a second question runs none of them again."""
    answer, cost = spent(engine, lambda: engine.ask(image, QUESTION, **FEW))
    assert (cost.vision_images, cost.vision_hits) == (2, 0), "the picture and the crop"
    assert (cost.prefix_prefills, cost.general_prefills) == (1, 1)
    layout, builder = engine.model.family.see(image, Way()).layout, engine.model.prompts
    prompts = len(builder.one_image(QUESTION, layout)) + answer.tokens.crop
    assert cost.upper_tokens - cost.decode_steps == prompts
    general = len(builder.general(layout).suffix)
    assert cost.lower_tokens - cost.decode_steps == prompts + general, "its row is read in the lower layers"
    again, cost = spent(engine, lambda: engine.ask(image, OTHER, **FEW))
    new_crop = int(again.crop_box != answer.crop_box)
    assert (cost.vision_images, cost.vision_hits) == (new_crop, 1 - new_crop), "the new crop alone"
    assert (cost.prefix_prefills, cost.prefix_hits) == (0, 1)
    assert (cost.general_prefills, cost.general_hits) == (0, 1)
    other = builder.one_image(OTHER, layout)
    assert cost.lower_tokens - cost.decode_steps == len(other.suffix) + again.tokens.crop


def check_a_batch_and_the_scheduler(made: Built, items: Sequence[tuple[Image.Image, str]]) -> list[Answer]:
    """They give what `ask` gives one by one, notices too; what that is."""
    one_by_one = ViCropEngine.load(made.engine, threads=1)
    wanted = [one_by_one.ask(*item, **FEW) for item in items]
    got = ViCropEngine.load(made.engine, threads=1).ask_batch(items, **FEW)
    served = Scheduler(ViCropEngine.load(made.engine, threads=1))
    try:
        handles = [served.submit(*item, AskParams(**FEW)) for item in items]
        answers = [handle.future.result(60) for handle in handles]
    finally:
        served.close()
    for right, batched, answer in zip(wanted, got, answers, strict=True):
        for each in (batched, answer):
            assert isinstance(each, Answer)
            assert (each.token_ids, each.first_token_ids) == (right.token_ids, right.first_token_ids)
            assert (each.crop_box, each.notices) == (right.crop_box, right.notices)
    return wanted
