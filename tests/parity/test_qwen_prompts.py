"""Prompts of Qwen's engines: the ids that transformers' own processors make, of one picture and of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import transformers
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.engines import QWENS, Built, built_qwen
from tests.parity.family_checks import PICTURES, QUESTION, picture
from tests.parity.qwen_flow import SYSTEM
from vicrop_engine import ViCropEngine
from vicrop_engine.images.seen import Way
from vicrop_engine.model.model import Model

NAMES = ["qwen2.5, grouped heads", "qwen3, sharded"]
PROCESSORS = {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}


@pytest.fixture(scope="module", params=NAMES)
def made(request: pytest.FixtureRequest) -> Built:
    return built_qwen(QWENS[request.param])


@pytest.fixture(scope="module")
def model(made: Built) -> Model:
    return ViCropEngine.load(made.engine, threads=1).model


@pytest.fixture(scope="module")
def processor(made: Built) -> Any:
    """Transformers' own, without its reader of videos."""
    tokenizer: Any = AutoTokenizer.from_pretrained(made.checkpoint)
    images = Qwen2VLImageProcessorPil.from_pretrained(made.checkpoint)
    kind = transformers.AutoConfig.from_pretrained(made.checkpoint).model_type
    cls: Any = getattr(transformers, PROCESSORS[kind])
    whole = cls.__new__(cls)
    whole.image_processor, whole.tokenizer = images, tokenizer
    whole.image_token = "<|image_pad|>"
    return whole


def wanted(processor: Any, pictures: Sequence[Image.Image]) -> list[int]:
    """The chat template of one turn, each picture's token as often as the processor says."""
    seen = processor.image_processor(images=list(pictures), return_tensors="pt")
    images = "".join(
        f"<|vision_start|>{processor.replace_image_token(seen, index)}<|vision_end|>"
        for index in range(len(pictures))
    )
    system = "" if type(processor).__name__.startswith("Qwen3") else SYSTEM
    asked = f"{QUESTION} Answer the question using a single word or phrase."
    text = f"{system}<|im_start|>user\n{images}{asked}<|im_end|>\n<|im_start|>assistant\n"
    ids: list[int] = processor.tokenizer(text)["input_ids"]
    return ids


@pytest.mark.parametrize("name", PICTURES)
def test_ids_are_those_of_transformers(model: Model, processor: Any, name: str) -> None:
    one, other = picture(name), picture("square")
    layouts = [model.family.see(image, Way()).layout for image in (one, other)]
    alone, both = (
        model.prompts.one_image(QUESTION, layouts[0]),
        model.prompts.two_images(QUESTION, *layouts),
    )
    assert [*alone.prefix, *alone.suffix] == wanted(processor, [one])
    assert [*both.prefix, *both.suffix] == wanted(processor, [one, other])
    assert alone.prefix == both.prefix
