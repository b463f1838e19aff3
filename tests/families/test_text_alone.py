"""Text alone and forms of answers of families whose tokens have positions or tiles of their own."""

from __future__ import annotations

import json

import numpy as np

from tests.engines import QWENS, built_qwen
from vicrop_engine import AnswerForm, AskParams, ViCropEngine
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.text_alone import TEXT_ALONE

FORM = AnswerForm(json_schema='{"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"]}')


def test_a_qwen_answers_text_and_in_json() -> None:
    engine = ViCropEngine.load(built_qwen(QWENS["qwen2.5, grouped heads"]).engine, threads=1)
    picture = np.random.default_rng(1).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    prompt = engine.model.prompts.text_alone("Hi?")
    assert engine.manifest.tokens.image not in (*prompt.prefix, *prompt.suffix)
    with Scheduler(engine) as scheduler:
        handles = [
            scheduler.submit(None, "Hi?", max_new_tokens=6),
            scheduler.submit(picture, "What?", form=FORM, max_new_tokens=40, history=("User: Hi",)),
            scheduler.submit(None, "What?", form=FORM, max_new_tokens=40),
        ]
        alone, seen, told = (handle.future.result(60) for handle in handles)
    assert alone.token_ids == engine.answer(TEXT_ALONE, "Hi?", AskParams(max_new_tokens=6)).token_ids
    for text in (seen.answer, str(seen.answer_without_crop), told.answer):
        assert json.loads(text)["n"] in (1, 22)
