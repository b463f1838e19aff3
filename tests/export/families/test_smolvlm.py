"""SmolVLM and Idefics3 checkpoints: what is read of them, their modules against transformers, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from tests.export.conftest import edit_json
from tests.smolvlm_checkpoints import SPECIALS, TiledSpec, write_tiled_checkpoint
from vicrop_engine.engine_dir.records import Preprocessing, VisionGeometry
from vicrop_engine.errors import CheckpointError, SettingError
from vicrop_engine.images.preprocessing import preprocess
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.locate import locate
from vicrop_export.checkpoint.processor import load_processor
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks.parity import relative_l2
from vicrop_export.checks.reference import run_reference
from vicrop_export.families.smolvlm.names import canonical_name
from vicrop_export.families.table import read_family
from vicrop_export.modules.decoder import LowerDecoder, UpperDecoder, causal_bias
from vicrop_export.plan import Plan, make_plan
from vicrop_export.quiet import quiet

SMALL = TiledSpec(hidden=32, layers=3, vision_hidden=16, vision_layers=2)
# Head groups of the 256M and 500M models; a tile with pixels beyond its last whole patch, as the 2.2B's.
KINDS = {
    "newer": SMALL,
    "older, tied, plain names": TiledSpec(
        "idefics3", 3, hidden=72, heads=9, kv_heads=3, tied=True, naming="plain"
    ),
    "pixels left over, shards": replace(
        SMALL, seed=5, side=56, patch_size=6, scale=3, longest_edge=224, heads=4, kv_heads=4, shards=3
    ),
    "one layer of fifteen heads": TiledSpec(
        "idefics3", 6, hidden=120, heads=15, kv_heads=5, layers=2, vision_heads=4, tied=True, shards=2
    ),
}
EMBEDS, ROWS, LOGITS = 1e-5, 2e-5, 1e-5  # relative L2 from transformers


def plan_of(directory: Path, **changes: Any) -> Plan:
    settings: dict[str, Any] = {"name": "x", "layers": None, "precision": "fp32", "target": "cpu"}
    with quiet():
        return make_plan(locate(directory), **settings | changes)


@pytest.fixture
def tiled(tmp_path: Path) -> Path:
    """A whole small checkpoint of this test's own."""
    return write_tiled_checkpoint(tmp_path / "tiled", SMALL)


def test_a_plan_says_what_the_engine_has_to_know(tiled: Path) -> None:
    plan = plan_of(tiled)
    tokenizer = Tokenizer.from_file(str(tiled / "tokenizer.json"))
    assert plan.family.name == "smolvlm"
    assert plan.vision == VisionGeometry(64, 16, 4, 4, 16, 0)
    assert plan.images.settings == {"longest_edge": 256}
    wanted = Preprocessing("exact", 64, 64, 1, False, 64, 64, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    assert plan.preprocessing == wanted
    assert (plan.layers, plan.layer_source) == ((1,), "scaled, not measured")
    assert plan.begin is None
    end = tokenizer.token_to_id("<end_of_utterance>")
    assert plan.end_tokens((0,)) == (0, end) == plan.end_tokens((0, end))
    asked = "{question} Answer the question using a single word or phrase.<end_of_utterance>\nAssistant:"
    assert plan.prompts.question == f"<|im_start|>User:<image>{asked}"
    assert plan.prompts.two_image_question == f"<|im_start|>User:<image><image>{asked}"
    assert plan.prompts.general_question == "Write a general description of the image."


def test_the_probe_is_one_tile_as_a_whole_picture(tiled: Path) -> None:
    plan = plan_of(tiled)
    probe = plan.probe()
    assert probe.picture.arrays["pixel_values"].shape == (1, 3, 64, 64)
    text = plan.tokenizer.decode(probe.ids[:-1], skip_special_tokens=False)
    picture = "<fake_token_around_image><global-img>" + 16 * "<image>" + "<fake_token_around_image>"
    assert text == plan.prompts.question.replace("<image>", picture).format(
        question="Write a general description of the image."
    )


@pytest.mark.parametrize(
    ("document", "cells", "tokens", "pixels"),
    [
        ({"scale_factor": 4, "vision_config": {"image_size": 512, "patch_size": 16}}, 8, 64, 64),
        ({"scale_factor": 3, "vision_config": {"image_size": 384, "patch_size": 14}}, 9, 81, 42),
    ],
)
def test_the_published_sizes(
    document: dict[str, Any], cells: int, tokens: int, pixels: int, tiled: Path
) -> None:
    edit_json(tiled / "config.json", lambda config: config.update(document))
    geometry = read_family(tiled).geometry
    assert (geometry.rows, geometry.cols, geometry.image_tokens, geometry.patch_size) == (
        *(cells, cells, tokens, pixels),
    )


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("model.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("model.connector.modality_projection.proj.weight", "multi_modal_projector.proj.weight"),
        ("connector.modality_projection.proj.weight", "multi_modal_projector.proj.weight"),
        ("model.text_model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("text_model.model.norm.weight", "language_model.norm.weight"),
        ("model.text_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_one_name_for_each_tensor(stored: str, name: str) -> None:
    assert canonical_name(stored) == name


@pytest.mark.parametrize("kind", KINDS)
def test_modules_agree_with_transformers(kind: str, tmp_path: Path) -> None:
    plan = plan_of(write_tiled_checkpoint(tmp_path, KINDS[kind]))
    tensors, probe, text = CheckpointTensors(tmp_path, canonical_name), plan.probe(), plan.family.text
    with quiet():
        reference = run_reference(tensors, plan.family, probe)
    pixels = torch.from_numpy(probe.picture.arrays["pixel_values"])
    embeds = plan.family.vision(tensors, half=False)(pixels)[0]
    assert embeds.shape == (plan.vision.image_tokens, text.hidden_size)
    assert relative_l2(embeds[None].numpy(), reference.image_embeds) <= EMBEDS

    inputs = tensors.get("language_model.embed_tokens.weight")[probe.ids]
    inputs[torch.tensor(probe.ids) == probe.image_token] = embeds
    length, cut = len(probe.ids), plan.decoder.num_lower_layers
    none = [(torch.zeros(1, 0, text.num_kv_heads, text.head_dim),) * 2] * text.num_layers
    positions, taps, last = torch.arange(length)[None], torch.arange(length), torch.tensor([length - 1])
    bias = causal_bias(length, 0)
    hidden, rows, *_ = LowerDecoder(tensors, text, cut, in_place=False)(
        inputs[None], positions, taps, bias, none[:cut]
    )
    upper = UpperDecoder(tensors, text, cut, in_place=False)
    logits, upper_rows, *_ = upper(hidden, positions, taps, bias, last, none[cut:])
    got = torch.cat((rows, upper_rows)).numpy()
    assert max(relative_l2(one, other) for one, other in zip(got, reference.attention, strict=True)) <= ROWS
    assert relative_l2(logits.numpy(), reference.logits[-1:]) <= LOGITS


def test_a_tile_is_what_the_processor_makes_of_it(tiled: Path) -> None:
    """A picture of the longest edge is cut without any resize: tile and picture bit for bit."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    picture = Image.fromarray(noise)
    made = load_processor(tiled, "")(images=[[picture]], return_tensors="np")["pixel_values"][0]
    assert len(made) == 17
    for index, box in enumerate(((0, 0, 64, 64), (64, 0, 128, 64))):
        got = preprocess(picture.crop(box), plan_of(tiled).preprocessing, "processor").pixels[0]
        assert np.array_equal(got, made[index])
    whole = preprocess(picture, plan_of(tiled).preprocessing, "processor").pixels[0]
    assert np.array_equal(whole, made[-1])


EDGE = "longest_edge"
PROCESSORS: dict[str, tuple[dict[str, Any], str]] = {
    "no tiles": ({"do_image_splitting": False}, "do_image_splitting is False, wanted true"),
    "no resize": ({"do_resize": False}, "do_resize is False, wanted true"),
    "tiles of another size": ({"max_image_size": {EDGE: 32}}, f"max_image_size is .* wanted {EDGE} 64"),
    "one fixed size": ({"size": {"height": 64, "width": 64}}, f"size is .* wanted {EDGE} from 64 to 4096"),
    "beyond what transformers keeps": ({"size": {EDGE: 5000}}, f"size is .* wanted {EDGE} from"),
    "another kind": ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor is not supported"),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_processors_that_cut_otherwise_are_refused(case: str, tiled: Path) -> None:
    values, words = PROCESSORS[case]
    edit_json(tiled / "preprocessor_config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words):
        plan_of(tiled)


@pytest.mark.parametrize("token", ["<fake_token_around_image>", "<global-img>", "<row_1_col_1>"])
def test_a_tokenizer_without_the_tokens_of_tiles_is_refused(token: str, tmp_path: Path) -> None:
    left = tuple(text for text in SPECIALS if text != token)
    checkpoint = write_tiled_checkpoint(tmp_path, replace(SMALL, special_tokens=left))
    with pytest.raises(CheckpointError, match=f"does not encode '{token}' as one token, .* take"):
        plan_of(checkpoint)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale_factor": 3}, "scale_factor is 3, wanted a divisor of the 8 patches a side"),
        ({"model_type": "smolvlm2"}, "unknown model_type 'smolvlm2'; known: .*; did you mean 'smolvlm'"),
    ],
)
def test_what_the_graphs_lack_is_refused_by_name(values: dict[str, Any], words: str, tiled: Path) -> None:
    edit_json(tiled / "config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words):
        read_family(tiled)


def test_pure_grad_is_refused_before_any_work(tiled: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="pure-grad cannot be built for models of the family 'smolvlm'"):
        build_engine(tiled, tmp_path / "engine", name="x", pure_grad=True)
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("name", "wanted"), [("smolvlm2-256m", "smolvlm2-256m"), ("llava-1.5", "smolvlm"), ("own", "own")]
)
def test_a_known_models_name_is_only_for_its_own_family(name: str, wanted: str, tiled: Path) -> None:
    assert plan_of(tiled, name=name).name == wanted


@pytest.mark.parametrize(
    ("asked", "layers", "source"),
    [
        ({}, (1,), "scaled, not measured"),
        ({"layers": "2"}, (2,), "chosen at build"),
        ({"layers": (0,), "layer_source": "measured"}, (0,), "measured"),
    ],
)
def test_a_plan_says_where_its_layers_are_from(
    asked: dict[str, Any], layers: tuple[int, ...], source: str, tiled: Path
) -> None:
    plan = plan_of(tiled, **asked)
    assert (plan.layers, plan.layer_source) == (layers, source)
