"""What `config.json` says: the same facts however it is spelt, and everything the graphs lack refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlavaConfig

from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.export.conftest import SMALL, edit_json
from vicrop_engine.errors import CheckpointError
from vicrop_export.families.llava.facts import LlavaFacts, read_facts
from vicrop_export.families.table import read_family

# Where in the document, what is put there, and what the refusal says.
REFUSED: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "another model": (None, {"model_type": "llama"}, "unknown model_type 'llama'; .* did you mean 'llava'"),
    "a later one": (
        None,
        {"model_type": "llava_onevision"},
        "unknown model_type 'llava_onevision'; known: llava",
    ),
    "no model": (None, {"model_type": None}, "unknown model_type 'None'; known: llava"),
    "another decoder": ("text", {"model_type": "qwen2"}, "is 'qwen2', wanted 'llama' or 'mistral'"),
    "another tower": (
        "vision",
        {"model_type": "siglip_vision_model"},
        "is 'siglip_vision_model', wanted CLIP",
    ),
    "scaled positions": (
        "text",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        r"rope type is 'linear', wanted 'default' \(no rope scaling\)",
    ),
    "scaled positions, older key": (
        "text",
        {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        r"rope type is 'dynamic', wanted 'default' \(no rope scaling\)",
    ),
    "partly rotated": (
        "text",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        r"partial_rotary_factor is 0\.5, wanted 1\.0",
    ),
    "the decoder's activation": ("text", {"hidden_act": "mish"}, r"text_config\.hidden_act is 'mish'.* silu"),
    "the tower's activation": ("vision", {"hidden_act": "mish"}, r"vision_config\.hidden_act is 'mish'"),
    "the projector's activation": (None, {"projector_hidden_act": "tanh"}, "projector_hidden_act is 'tanh'"),
    "grey pictures": ("vision", {"num_channels": 1}, "num_channels is 1, wanted 3"),
    "oblong pictures": ("vision", {"image_size": [56, 70]}, r"image_size is \[56, 70\], wanted one whole"),
    "a feature layer too high": (None, {"vision_feature_layer": 3}, "is 3, wanted indices from -3 to 2"),
    "a feature layer too low": (None, {"vision_feature_layer": [-1, -4]}, r"is \[-1, -4\], wanted indices"),
    "no feature layer": (None, {"vision_feature_layer": []}, r"is \[\], wanted indices"),
    "another strategy": (None, {"vision_feature_select_strategy": "cls"}, "refuses it: .* got cls"),
    "no image token": (None, {"image_token_index": None}, "refuses it: .*image_token"),
    "heads that do not divide": ("text", {"num_attention_heads": 5}, "refuses it: .* not a multiple"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_graphs_lack_is_refused_by_name(case: str, checkpoint: Path) -> None:
    part, values, words = REFUSED[case]
    edit_json(
        checkpoint / "config.json",
        lambda document: (document[f"{part}_config"] if part else document).update(values),
    )
    with pytest.raises(CheckpointError, match=words) as caught:
        read_family(checkpoint)
    message = str(caught.value)
    assert "config.json: " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, r"no config\.json"), ("{", "cannot be read as JSON"), ("[]", "holds no JSON object")],
)
def test_no_readable_document(text: str | None, words: str, checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    if text is not None:
        (checkpoint / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        read_family(checkpoint)


def facts_of(directory: Path, spec: CheckpointSpec) -> LlavaFacts:
    return read_facts(write_checkpoint(directory, spec))


def test_both_spellings_of_the_image_token(checkpoint: Path, tmp_path: Path) -> None:
    other = facts_of(tmp_path / "other", replace(SMALL, image_token_key="image_token_id"))
    assert other == read_facts(checkpoint)
    assert other.image_token != LlavaConfig().image_token_id


def test_both_spellings_of_the_rotary_base(checkpoint: Path, tmp_path: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        del document["text_config"]["rope_parameters"]
        document["text_config"]["rope_theta"] = 500000.0

    edit_json(checkpoint / "config.json", older)
    newer = facts_of(tmp_path / "newer", replace(SMALL, rope_theta=500000.0))
    assert read_facts(checkpoint) == newer
    assert newer.text.rope.theta == 500000.0


def test_sizes_and_defaults_are_transformers(checkpoint: Path) -> None:
    """Published files name only what differs from the defaults."""
    facts = read_facts(checkpoint)
    assert (facts.vision.grid, facts.vision.image_tokens, facts.vision.feature_layers) == (4, 16, (1,))
    assert (facts.text.num_layers, facts.text.num_heads, facts.text.head_dim) == (2, 4, 8)

    def published(document: dict[str, Any]) -> None:
        document.clear()
        document.update(
            model_type="llava",
            text_config={"model_type": "llama", "vocab_size": 32064},
            vision_config={"model_type": "clip_vision_model", "num_hidden_layers": 24, "image_size": 336},
        )

    edit_json(checkpoint / "config.json", published)
    facts = read_facts(checkpoint)
    assert (facts.text.hidden_size, facts.text.num_layers, facts.text.num_kv_heads) == (4096, 32, 32)
    assert (facts.text.activation, facts.vision.activation) == ("silu", "quick_gelu")
    assert (facts.text.vocab_size, facts.image_token) == (32064, 32000)
    assert facts.vision.feature_layers == (23,)


@pytest.mark.parametrize(
    ("layer", "strategy", "layers", "tokens"),
    [(-2, "default", (1,), 16), (-1, "full", (2,), 17), ((0, -3, 2), "default", (0, 0, 2), 16)],
)
def test_feature_layers_and_the_class_token(
    layer: int | tuple[int, ...], strategy: Any, layers: tuple[int, ...], tokens: int, tmp_path: Path
) -> None:
    vision = facts_of(tmp_path, replace(SMALL, feature_layer=layer, strategy=strategy)).vision
    assert (vision.feature_layers, vision.image_tokens) == (layers, tokens)
