"""What an InstructBLIP checkpoint says is read, and what the engine has nothing for is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from tests.blip_checkpoints import BlipSpec, write_blip_checkpoint
from tests.export.conftest import edit_json
from tests.export.families.test_smolvlm import plan_of
from vicrop_engine.engine_dir.records import InstructionReader, Preprocessing, VisionGeometry
from vicrop_engine.errors import CheckpointError, SettingError
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.locate import fingerprint
from vicrop_export.families.instructblip.facts import QFormerFacts
from vicrop_export.families.instructblip.names import canonical_name
from vicrop_export.families.table import read_family

SMALL = BlipSpec(hidden=32, layers=2, vision_hidden=16, vision_layers=2)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A whole small checkpoint of this test's own."""
    return write_blip_checkpoint(tmp_path / "blip", SMALL)


def test_a_plan_says_what_the_engine_has_to_know(written: Path) -> None:
    plan = plan_of(written)
    assert (plan.family.name, plan.images.settings) == ("instructblip", {})
    assert plan.vision == VisionGeometry(56, 14, 4, 4, 8, 0)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert plan.preprocessing == Preprocessing("exact", 56, 56, 3, False, 56, 56, 1 / 255, mean, std)
    assert (plan.layers, plan.layer_source) == ((0,), "scaled, not measured")
    assert plan.family.second_stage is not None
    assert plan.family.second_stage.reader == InstructionReader(184, 64, 1)
    assert plan.instructions is not None
    assert plan.instructions.encode("the").tokens == ["[CLS]", "the", "[SEP]"]
    assert (plan.family.window, plan.begin) == (56, 1)
    assert plan.end_tokens((1,)) == (1, 2), "the published settings name what a text begins with"
    prompts = plan.prompts
    assert prompts.question == "<image>Question: {question} Short answer:"
    assert prompts.two_image_question == "<image><image>Question: {question} Short answer:"
    assert prompts.general_question == "Write a general description of the image."
    assert prompts.pictures_first


@pytest.mark.parametrize(
    ("layers", "every", "entry"), [(12, 2, 2), (6, 2, 1), (6, 1, 2), (7, 2, 1), (2, 2, 0), (24, 2, 5)]
)
def test_the_entry_is_the_published_one_scaled(layers: int, every: int, entry: int) -> None:
    facts = QFormerFacts(layers, 2, 8, every, 100, 64, "gelu", 1e-12)
    assert facts.entry == entry
    assert facts.entry * every < layers


@pytest.mark.parametrize(
    ("layers", "layer", "source"),
    [(32, 15, "published"), (40, 19, "scaled, not measured"), (4, 1, "scaled, not measured")],
)
def test_the_heatmap_layer(layers: int, layer: int, source: str, written: Path) -> None:
    edit_json(written / "config.json", lambda config: config["text_config"].update(num_hidden_layers=layers))
    assert read_family(written).default_layer == (layer, source)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("query_tokens", "multi_modal_projector.query_tokens"),
        ("language_projection.bias", "multi_modal_projector.language_projection.bias"),
        ("qformer.embeddings.layernorm.bias", "multi_modal_projector.qformer.embeddings.layernorm.bias"),
        ("vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("language_model.model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
    ],
)
def test_one_name_for_each_tensor(stored: str, name: str) -> None:
    assert canonical_name(stored) == name


def test_a_change_of_the_second_tokenizer_is_another_checkpoint(written: Path) -> None:
    before, path = fingerprint(written), written / "qformer_tokenizer" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens([AddedToken("sign")])
    tokenizer.save(str(path))
    assert fingerprint(written) != before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image_token_index": None}, "image_token_index is None, wanted the id"),
        ({"num_query_tokens": 0}, "num_query_tokens is 0, wanted a whole number from 1 up"),
        ({"text_config": {"model_type": "t5"}}, "text_config.model_type is 't5', wanted 'llama' or"),
    ],
)
def test_what_the_graphs_lack_is_refused_by_name(values: dict[str, Any], words: str, written: Path) -> None:
    edit_json(written / "config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words):
        read_family(written)


def test_other_processors_are_refused(written: Path) -> None:
    document = written / "preprocessor_config.json"
    edit_json(document, lambda values: values.update(size={"height": 28, "width": 28}))
    with pytest.raises(CheckpointError, match="makes 28 x 28 pixels"):
        plan_of(written)


def test_a_checkpoint_without_its_second_tokenizer_is_refused(written: Path) -> None:
    shutil.rmtree(written / "qformer_tokenizer")
    with pytest.raises(CheckpointError, match=r"qformer_tokenizer/tokenizer\.json cannot be loaded"):
        plan_of(written)


def test_what_it_is_not_built_with_is_refused_before_any_work(written: Path, tmp_path: Path) -> None:
    output = tmp_path / "engine"
    with pytest.raises(SettingError, match="pure-grad cannot be built for models of the family"):
        build_engine(written, output, name="x", pure_grad=True)
    with pytest.raises(SettingError, match="max_pixels 9999"):
        build_engine(written, output, name="x", max_pixels=9999)
    with pytest.raises(SettingError, match="'tensorrt' cannot be built for models of the family"):
        build_engine(written, output, name="x", target="tensorrt", architectures=("sm_86",))
    assert not output.exists()
