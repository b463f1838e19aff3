"""An engine of LLaVA-NeXT's family: its prompts and packed pictures, and what every engine does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, LlavaNextProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from tests.engines import NEXTS, Built, built_next
from tests.families.common import (
    FEW,
    OTHER,
    QUESTION,
    check_a_batch_and_the_scheduler,
    check_nothing_is_computed_twice,
)
from tests.parity.family_checks import PICTURES, picture
from tests.parity.next_flow import PROMPTS, NextFlow
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.engine_dir.manifest import EXTRA_ROWS
from vicrop_engine.errors import EngineDamagedError, SettingError
from vicrop_engine.images.seen import Way
from vicrop_engine.model.states import ImageEmbeds
from vicrop_export.checks.parity import relative_l2

GROUPED, SMALL = "mistral, grouped heads", "vicuna, one KV head, a small context"
EMBEDS, ROWS, LOGITS, GRADIENT = 1e-5, 2e-5, 1e-5, 2e-5  # relative L2 from transformers


@pytest.fixture(scope="module")
def made() -> Built:
    return built_next(NEXTS[GROUPED])


@pytest.fixture
def engine(made: Built) -> ViCropEngine:
    return ViCropEngine.load(made.engine, threads=1)


@pytest.fixture
def image() -> Image.Image:
    return picture("640 x 481")


def transformers_ids(made: Built, pictures: Sequence[Image.Image]) -> list[int]:
    """Those of transformers' whole processor."""
    processor: Any = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil.from_pretrained(made.checkpoint),
        tokenizer=AutoTokenizer.from_pretrained(made.checkpoint),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    kind = "mistral" if made is built_next(NEXTS[GROUPED]) else "llama"
    text = PROMPTS[kind].format("<image>" * len(pictures), QUESTION)
    ids: list[int] = processor(images=list(pictures), text=text, return_tensors="pt")["input_ids"][0].tolist()
    return ids


@pytest.mark.parametrize("kind", [GROUPED, SMALL])
def test_prompts_are_those_of_transformers_processor(kind: str) -> None:
    made = built_next(NEXTS[kind])
    model = ViCropEngine.load(made.engine, threads=1, probe=False).model
    crop = picture("square")
    for name in PICTURES:
        layouts = [model.family.see(each, Way()).layout for each in (picture(name), crop)]
        one = model.prompts.one_image(QUESTION, layouts[0])
        assert [*one.prefix, *one.suffix] == transformers_ids(made, [picture(name)])
        two = model.prompts.two_images(QUESTION, *layouts)
        assert [*two.prefix, *two.suffix] == transformers_ids(made, [picture(name), crop])


@pytest.mark.parametrize("kind", NEXTS)
def test_graphs_agree_with_transformers_on_packed_pictures(kind: str) -> None:
    """Packed embeddings, the last token's row of every layer, logits, on pictures of any shape."""
    made = built_next(NEXTS[kind])
    for figures in (made.manifest.parity, made.manifest.float32_parity):
        assert figures is not None
        assert (figures.image_embeds <= EMBEDS, figures.attention <= ROWS) == (True, True)
        assert figures.logits <= LOGITS
        assert figures.gradient is not None
        assert figures.gradient <= GRADIENT
    flow, model = NextFlow(made.checkpoint), ViCropEngine.load(made.engine, threads=1, probe=False).model
    layers = tuple(range(model.manifest.decoder.num_layers))
    for name in ("square", "wide", "tall", "640 x 481"):
        shown, seen = flow.see(picture(name)), model.family.see(picture(name), Way())
        embeds = model.vision.embed(seen.inputs)
        assert relative_l2(np.asarray(embeds)[0], shown.embeds.numpy()) <= EMBEDS
        ids, prompt = flow.ids(QUESTION, [shown]), model.prompts.one_image(QUESTION, seen.layout)
        with torch.no_grad():
            wanted = flow.model(inputs_embeds=flow.embeds(ids, [shown]), output_attentions=True)
        prefix = model.decoder.begin(prompt.prefix, [ImageEmbeds(embeds, None)], len(prompt) + 8)
        output = model.decoder.prefill(prefix, [prompt.suffix], layers=layers)
        for layer, row in output.rows(0).items():
            assert relative_l2(np.asarray(row), wanted.attentions[layer][0, :, -1].numpy()) <= ROWS
        assert relative_l2(model.decoder.logits(output), wanted.logits[0, -1].numpy()) <= LOGITS


def test_nothing_is_computed_twice(engine: ViCropEngine, image: Image.Image) -> None:
    check_nothing_is_computed_twice(engine, image)


@pytest.mark.parametrize("kind", [GROUPED, SMALL])
def test_a_batch_and_the_scheduler_give_what_ask_gives(kind: str) -> None:
    """Notices too: in the small context the square picture's crop is its base alone."""
    items = [(picture("640 x 481"), QUESTION), (picture("square"), OTHER), (picture("640 x 481"), OTHER)]
    answers = check_a_batch_and_the_scheduler(built_next(NEXTS[kind]), items)
    assert [bool(answer.notices) for answer in answers] == [False, kind == SMALL, False]


@pytest.mark.parametrize("method", ["rel-att", "grad-att"])
def test_high_res_looks_at_tiles_of_its_own(engine: ViCropEngine, method: str) -> None:
    large = picture("square").resize((1500, 1100))
    answer = engine.ask(large, QUESTION, method=method, high_res="on", **FEW)
    assert len(answer.tiles) == 4
    assert answer.heatmap is not None
    assert answer.heatmap.shape == (2 * 6, 2 * 8)


def test_what_it_does_not_have_is_refused(engine: ViCropEngine, image: Image.Image) -> None:
    with pytest.raises(SettingError, match="'pure-grad' goes back to the pixels"):
        engine.ask(image, QUESTION, method="pure-grad")
    with pytest.raises(SettingError, match="the published code has nothing for"):
        engine.ask(image, QUESTION, compat="mllms-know")


def test_fewer_tokens_of_the_crop(engine: ViCropEngine, image: Image.Image) -> None:
    whole, fewer = (engine.ask(image, QUESTION, crop_tokens=tokens, **FEW) for tokens in ("all", 5))
    assert whole.tokens.crop - fewer.tokens.crop == 36 - 5


def test_an_engine_without_its_newline_is_damaged(made: Built, tmp_path: Any) -> None:
    copy = tmp_path / "engine"
    copy.mkdir()
    for path in made.engine.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    other = np.zeros((2, 7), np.float32)
    size = (copy / EXTRA_ROWS).stat().st_size
    np.save(copy / EXTRA_ROWS, other)
    with (copy / EXTRA_ROWS).open("ab") as file:
        file.write(bytes(size - file.tell()))
    with pytest.raises(EngineDamagedError, match=EXTRA_ROWS):
        ViCropEngine.load(copy, threads=1, probe=False)


def test_operations_are_those_of_the_formula(engine: ViCropEngine, image: Image.Image) -> None:
    """By the sizes of the checkpoint: two for each multiply-add of a plain answer of one token."""
    spec = NEXTS[GROUPED]
    with engine.tally.watching() as runs:
        answer = engine.ask(image, QUESTION, method="none", max_new_tokens=1)
    counted = engine.manifest.multiply_adds
    assert counted is not None
    flops = sum(num_flops(counted[graph], run.axes) for run in runs for graph in run.graphs)
    inputs = len(engine.model.family.see(image, Way()).inputs.pixels)
    wide, cells = spec.vision_hidden, engine.manifest.vision.image_tokens
    layer = (cells + 1) * (4 * wide**2 + 2 * wide * 2 * wide) + 2 * (cells + 1) ** 2 * wide
    tower = cells * 3 * 14**2 * wide + (spec.vision_layers - 1) * layer  # the last one is never read
    vision = inputs * (tower + cells * (wide * spec.hidden + spec.hidden**2))
    tokens, dim = answer.tokens.prefill, spec.hidden // spec.heads
    projections, mlp = 2 * spec.hidden * dim * (spec.heads + spec.kv_heads), 3 * spec.hidden * 2 * spec.hidden
    attention = 2 * tokens**2 * spec.heads * dim
    mlps = (spec.layers - 1) * tokens + 1  # the last layer's is of the last token alone
    head = spec.hidden * engine.manifest.decoder.vocab_size
    decoder = spec.layers * (tokens * projections + attention) + mlps * mlp + head
    assert flops == pytest.approx(2 * (vision + decoder), rel=0.02)


def test_the_manifest_says_what_a_picture_takes_at_most(made: Built) -> None:
    manifest = made.manifest
    assert (manifest.family.name, manifest.crop.source) == ("llava-next", "scaled, not measured")
    assert (manifest.picture_tokens, manifest.crop_tokens, manifest.family.most_inputs) == (88, 88, 5)
    assert dataclasses.replace(manifest.family, most_tokens=None).most_inputs == 5
