"""An engine of InstructBLIP's family: its two stages, its prompts, and what every engine does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engines import BLIPS, Built, built_blip
from tests.families.common import FEW, OTHER, QUESTION, check_a_batch_and_the_scheduler, spent
from tests.parity.blip_flow import PROMPT, BlipFlow, blip_processor
from tests.parity.family_checks import picture
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.errors import QuestionError, SettingError
from vicrop_engine.images.seen import Way
from vicrop_engine.measure.profiling.flows import NEXT, Case, measure
from vicrop_engine.model.instructed import LOOKED, InstructedStage
from vicrop_engine.vicrop.params import AskParams
from vicrop_export.checks.parity import relative_l2

USUAL, EVERY = "every other layer looks", "one KV head, every layer looks"
EMBEDS, LOOKS, ROWS, LOGITS = 1e-5, 1e-5, 2e-5, 1e-5  # relative L2 from transformers


@pytest.fixture(scope="module")
def made() -> Built:
    return built_blip(BLIPS[USUAL])


@pytest.fixture
def engine(made: Built) -> ViCropEngine:
    return ViCropEngine.load(made.engine, threads=1)


@pytest.fixture
def image() -> Image.Image:
    return picture("640 x 481")


@pytest.mark.parametrize("question", [QUESTION, OTHER, "Ünïcode, 字 and  two blanks? ", "a\nb"])
def test_prompts_are_those_of_transformers_processor(
    question: str, made: Built, engine: ViCropEngine
) -> None:
    """Both tokenizers'; of two pictures the processor writes one picture's tokens, and here stand two."""
    queries = BLIPS[USUAL].queries
    processor: Any = blip_processor(made.checkpoint, queries)
    model, shown = engine.model, picture("square")
    layout = model.family.see(shown, Way()).layout
    text = PROMPT.format(question)
    wanted = processor(images=[shown], text=text, return_tensors="pt")
    ids = wanted["input_ids"][0].tolist()
    one = model.prompts.one_image(question, layout)
    assert [*one.prefix, *one.suffix] == ids
    assert list(one.instruction or ()) == wanted["qformer_input_ids"][0].tolist()
    two = model.prompts.two_images(question, layout, layout)
    both = processor(images=[shown, shown], text=text, return_tensors="pt")["input_ids"][0].tolist()
    image = engine.manifest.tokens.image
    assert (both.count(image), [*two.prefix, *two.suffix].count(image)) == (queries, 2 * queries)
    assert [*two.prefix, *two.suffix] == [image] * queries + ids
    assert (two.prefix, two.instruction) == (one.prefix, one.instruction)


@pytest.mark.parametrize("kind", BLIPS)
def test_graphs_agree_with_transformers(kind: str) -> None:
    """Image embeds, the Q-Former's rows, the last token's row of every layer, logits."""
    made = built_blip(BLIPS[kind])
    for figures in (made.manifest.parity, made.manifest.float32_parity):
        assert figures is not None
        assert max(figures.image_embeds, figures.logits) <= EMBEDS
        assert figures.attention <= ROWS
    check_graphs(made)


@torch.no_grad()
def check_graphs(made: Built) -> None:
    """On two pictures and questions, one graph after the other."""
    assert made.manifest.instructed is not None
    flow = BlipFlow(made.checkpoint, made.manifest.instructed.layer)
    model = ViCropEngine.load(made.engine, threads=1, probe=False).model
    layers = tuple(range(model.manifest.decoder.num_layers))
    for name, question in (("wide", QUESTION), ("square", "What?")):
        seen = model.family.see(picture(name), Way())
        prompt = model.prompts.one_image(question, seen.layout)
        asked = seen.asked(prompt.instruction)
        features = flow.features(question, [picture(name)])
        states = model.vision.embed(asked.inputs)
        assert relative_l2(np.asarray(states), features.vision_outputs.last_hidden_state.numpy()) <= EMBEDS
        looked = features.qformer_outputs.cross_attentions[flow.entry][0, :, :, 1:].numpy()
        assert relative_l2(looks(model.instructed, states, prompt.instruction), looked) <= LOOKS
        [embeds] = model.image_embeds([asked])
        assert relative_l2(np.asarray(embeds.states), features.pooler_output.numpy()) <= EMBEDS
        assert embeds.mixer is not None
        assert relative_l2(embeds.mixer, looked.mean(axis=0)) <= LOOKS
        inputs = flow.embeds(question, [picture(name)])
        wanted = flow.model.language_model(inputs_embeds=inputs, output_attentions=True)
        prefix = model.begin(prompt.prefix, [embeds], len(prompt) + 8)
        output = model.decoder.prefill(prefix, [prompt.suffix], layers=layers)
        for layer, row in output.rows(0).items():
            assert relative_l2(np.asarray(row), wanted.attentions[layer][0, :, -1].numpy()) <= ROWS
        assert relative_l2(model.decoder.logits(output), wanted.logits[0, -1].numpy()) <= LOGITS


def looks(stage: Any, states: Any, instruction: Any) -> Any:
    """What the second stage's graph gives beside embeds, [heads, tokens, cells]."""
    assert isinstance(stage, InstructedStage)
    graph: Any = stage._graph
    ids = np.asarray([instruction], np.int64)
    return graph.run({"image_states": states, "instruction_ids": ids})[LOOKED].numpy()


def test_the_tower_sees_a_picture_once_for_all_questions(engine: ViCropEngine, image: Image.Image) -> None:
    """The Q-Former reads every instruction once, and the general prompt's row is kept with the picture."""
    answer, cost = spent(engine, lambda: engine.ask(image, QUESTION, **FEW))
    assert cost.vision_images == 2, "the picture and the crop"
    assert cost.vision_passes == 2
    assert cost.instructed_passes == 3, "the question on both, the general prompt on the picture"
    assert (cost.prefix_prefills, cost.general_prefills) == (1, 1)
    layout, builder = engine.model.family.see(image, Way()).layout, engine.model.prompts
    one, general = len(builder.one_image(QUESTION, layout)), len(builder.general(layout))
    assert cost.upper_tokens - cost.decode_steps == one + answer.tokens.crop
    assert cost.lower_tokens - cost.decode_steps == one + answer.tokens.crop + general, "in the lower layers"
    again, cost = spent(engine, lambda: engine.ask(image, OTHER, **FEW))
    new_crop = int(again.crop_box != answer.crop_box)
    assert cost.vision_images == new_crop
    assert (cost.instructed_passes, cost.prefix_prefills) == (2, 1), "another question has other tokens"
    assert (cost.general_prefills, cost.general_hits) == (0, 1)
    _, cost = spent(engine, lambda: engine.ask(image, OTHER, **FEW))
    assert (cost.vision_images, cost.instructed_passes, cost.prefix_prefills) == (0, 0, 0)
    assert (cost.prefix_hits, cost.general_hits) == (1, 1)


def test_the_general_prompt_asked_as_a_question_is_one_sequence(engine: ViCropEngine) -> None:
    """Its map is the ratio of a row to itself."""
    text = engine.manifest.prompts.general_question
    answer, cost = spent(engine, lambda: engine.ask(picture("wide"), text, **FEW))
    assert cost.instructed_passes == 2
    assert answer.heatmap is not None
    assert np.allclose(answer.heatmap, 1, rtol=1e-5)


def test_without_caches_it_answers_alike(made: Built, engine: ViCropEngine, image: Image.Image) -> None:
    bare = ViCropEngine.load(made.engine, threads=1, cache_bytes=0)
    for question in (QUESTION, OTHER):
        one, other = (each.ask(image, question, **FEW) for each in (engine, bare))
        assert (one.token_ids, one.crop_box) == (other.token_ids, other.crop_box)
        assert one.heatmap is not None
        assert np.array_equal(one.heatmap, other.heatmap)
    bare.check_integrity()


@pytest.mark.parametrize("kind", [USUAL, EVERY])
def test_a_batch_and_the_scheduler_give_what_ask_gives(kind: str) -> None:
    items = [(picture("640 x 481"), QUESTION), (picture("square"), OTHER), (picture("640 x 481"), OTHER)]
    check_a_batch_and_the_scheduler(built_blip(BLIPS[kind]), items)


def test_grad_att_goes_once_through_both_stages_and_back(engine: ViCropEngine, image: Image.Image) -> None:
    """The picture is seen no more often than for a plain answer with a crop."""
    answer, cost = spent(engine, lambda: engine.ask(image, QUESTION, method="grad-att", **FEW))
    assert (cost.gradient_passes, cost.instructed_gradients) == (1, 1)
    assert (cost.vision_images, cost.instructed_passes, cost.general_prefills) == (2, 2, 0)
    assert answer.heatmap is not None
    assert np.all(answer.heatmap >= 0)
    assert answer.heatmap.max() > 0
    served = engine.ask_batch([(image, QUESTION)], method="grad-att", **FEW)[0]
    assert (served.token_ids, served.crop_box) == (answer.token_ids, answer.crop_box)
    assert relative_l2(served.heatmap, answer.heatmap) <= 1e-5
    tiled = engine.ask(image.resize((1500, 1100)), QUESTION, method="grad-att", high_res="on", **FEW)
    assert len(tiled.tiles) == 4


def test_high_res_looks_at_tiles_of_its_own(engine: ViCropEngine) -> None:
    large = picture("square").resize((1500, 1100))
    answer, cost = spent(engine, lambda: engine.ask(large, QUESTION, high_res="on", **FEW))
    assert len(answer.tiles) == 4
    assert answer.heatmap is not None
    assert answer.heatmap.shape == (8, 8)
    assert (cost.vision_images, cost.instructed_passes) == (4 + 2, 2 * 4 + 2)
    _, cost = spent(engine, lambda: engine.ask(large, OTHER, high_res="on", **FEW))
    assert (cost.general_hits, cost.general_prefills) == (4, 0)


def test_what_it_does_not_have_is_refused(engine: ViCropEngine, image: Image.Image) -> None:
    with pytest.raises(SettingError, match="'pure-grad' goes back to the pixels"):
        engine.ask(image, QUESTION, method="pure-grad")
    with pytest.raises(SettingError, match="picture_tiles 'one', and"):
        engine.ask(image, QUESTION, picture_tiles="one")
    with pytest.raises(QuestionError, match=r"contains '\[SEP\]'"):
        engine.ask(image, "What is [SEP]?")
    with pytest.raises(QuestionError, match=r"of \d+ tokens for the vision part, which takes 64"):
        engine.ask(image, "what " * 70)


def test_fewer_tokens_of_the_crop(engine: ViCropEngine, image: Image.Image) -> None:
    whole, fewer = (engine.ask(image, QUESTION, crop_tokens=tokens, **FEW) for tokens in ("all", 5))
    assert whole.tokens.crop - fewer.tokens.crop == BLIPS[USUAL].queries - 5


def test_operations_are_those_of_the_formula(engine: ViCropEngine, image: Image.Image) -> None:
    """By the sizes of the checkpoint: two for each multiply-add of a plain answer of one token."""
    spec = BLIPS[USUAL]
    with engine.tally.watching() as runs:
        answer = engine.ask(image, QUESTION, method="none", max_new_tokens=1)
    counted = engine.manifest.multiply_adds
    assert counted is not None
    flops = sum(num_flops(counted[graph], run.axes) for run in runs for graph in run.graphs)
    [read] = [run.axes["instruction"] for run in runs if "instruction" in run.axes]
    wide, patches = spec.vision_hidden, (spec.side // 14) ** 2
    seen = patches + 1
    tower = patches * 3 * 14**2 * wide + spec.vision_layers * (8 * seen * wide**2 + 2 * seen**2 * wide)
    small, queries, both = spec.qformer_hidden, spec.queries, spec.queries + read
    own = 8 * both * small**2 + 2 * both**2 * small  # attention among all, and the products after it
    cross = 2 * queries * small**2 + 2 * seen * wide * small + 2 * queries * seen * small
    unread = (
        read * 6 * small**2 + 2 * read * both * small
    )  # the last layer's text is needed for its keys alone
    qformer = spec.qformer_layers * own + spec.qformer_layers // 2 * cross - unread
    vision = tower + qformer + queries * small * spec.hidden
    tokens, dim = answer.tokens.prefill, spec.hidden // spec.heads
    projections, mlp = 2 * spec.hidden * dim * (spec.heads + spec.kv_heads), 3 * spec.hidden * 2 * spec.hidden
    attention = 2 * tokens**2 * spec.heads * dim
    mlps = (spec.layers - 1) * tokens + 1  # the last layer's is of the last token alone, as its output is
    head = spec.hidden * engine.manifest.decoder.vocab_size - (tokens - 1) * spec.hidden**2
    decoder = spec.layers * (tokens * projections + attention) + mlps * mlp + head
    assert flops == pytest.approx(2 * (vision + decoder), rel=0.02)


def test_a_profiles_next_question_has_image_tokens_of_its_own(
    engine: ViCropEngine, image: Image.Image
) -> None:
    """The tower sees its crop, the Q-Former picture and crop, and the general prompt's row is there."""
    params = AskParams(high_res="off", **FEW)
    [sample] = measure(engine, Case(image, QUESTION, params), range(2))[NEXT]
    graphs = [graph for run in sample.runs for graph in run.graphs]
    assert (graphs.count("vision"), graphs.count("instructed")) == (1, 2)
    assert sum(run.prefix_tokens for run in sample.runs) == 2 * BLIPS[USUAL].queries, "lower, then upper"


def test_the_manifest_says_what_it_reads(made: Built) -> None:
    manifest = made.manifest
    assert manifest.instructed is not None
    assert (manifest.instructed.layer, manifest.instructed.most_tokens) == (1, 64)
    assert (manifest.family.name, manifest.crop.source) == ("instructblip", "scaled, not measured")
    assert (manifest.picture_tokens, manifest.crop_tokens) == (8, 8)
    assert manifest.tokens.eos == (1, 2), "the published settings' and the tokenizer's own end sign"
