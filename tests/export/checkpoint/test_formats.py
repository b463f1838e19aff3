"""What a checkpoint directory says it is, or asks for, that is not built: named, never silently left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.engines import STRETCH_168, built
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.formats import refuse_adapters, refuse_formats
from vicrop_export.checkpoint.generation import not_done, warnings_of
from vicrop_export.checkpoint.tokenizer import demand_rows


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin"]
)
def test_an_adapter_is_not_left_out_without_a_word(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}.*merge_and_unload"):
        refuse_adapters({"model.safetensors", "config.json", name}, "a place")
    refuse_adapters({"model.safetensors", "config.json"}, "a place")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"mm_vision_tower": "openai/clip"}, "original LLaVA code; .*convert_llava_weights_to_hf.py"),
        ({"architectures": ["LlavaMistralForCausalLM"]}, "original LLaVA code; .*llava-hf"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantised already \(gptq\)"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, r"quantised already \(awq\)"),
    ],
)
def test_formats_are_recognised_before_their_files_are_missed(config: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        refuse_formats(config, "a place")


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"eos_token_id": 2, "temperature": 0.7, "do_sample": True, "_from_model_config": True}, []),
        ({"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": []}, []),
        ({"repetition_penalty": 1.05}, ["repetition_penalty = 1.05"]),
        ({"suppress_tokens": [7], "num_beams": 4}, ["suppress_tokens = [7]", "num_beams = 4"]),
        ({"forced_eos_token_id": 2}, ["forced_eos_token_id = 2"]),
        ({"a_key_of_tomorrow": 1}, ["a_key_of_tomorrow = 1"]),
    ],
)
def test_generation_settings_are_done_harmless_or_named(settings: dict[str, Any], left: list[str]) -> None:
    assert not_done(settings) == left


def test_a_build_says_what_it_does_not_do(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"no_repeat_ngram_size": 3}')
    told = " ".join(warnings_of(tmp_path, ()))
    assert "no_repeat_ngram_size = 3" in told
    assert "eos_token_id" in told
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert warnings_of(tmp_path, (2,)) == []


def test_a_token_without_a_row_is_refused() -> None:
    tokenizer = Tokenizer.from_file(str(built(STRETCH_168).checkpoint / "tokenizer.json"))
    rows = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    demand_rows(tokenizer, rows)
    with pytest.raises(CheckpointError, match=f"1 tokens from .* on, the embeddings {rows - 1} rows"):
        demand_rows(tokenizer, rows - 1)
