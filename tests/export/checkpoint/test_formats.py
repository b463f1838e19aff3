"""What a checkpoint directory says it is, or asks for, that is not built: named, never silently left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.engines import STRETCH_168, built
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.formats import refuse_adapters, refuse_formats, refuse_other_weights
from vicrop_export.checkpoint.generation import not_done, warnings_of
from vicrop_export.checkpoint.locate import refuse_impossible
from vicrop_export.checkpoint.tokenizer import demand_rows


@pytest.mark.parametrize(
    "name",
    [
        *("adapter_config.json", "adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin"),
        *("adapter_model-00001-of-00002.safetensors", "adapters.npz", "adapters.safetensors", "adapter.pt"),
        *("pytorch_lora_weights.safetensors", "lora.safetensors", "vision-lora/adapter_config.json"),
        "default/adapter_config.json",
    ],
)
def test_an_adapter_is_not_left_out_without_a_word(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}.*merge_and_unload"):
        refuse_adapters({"model.safetensors", "config.json", name}, "a place")
    others = (
        "model-floral.safetensors",
        "training_args.bin",
        "checkpoint-500/adapter_config.json",
        "adapter.md",
    )
    refuse_adapters({"model.safetensors", "config.json", *others}, "a place")


def test_an_adapter_in_a_folder_of_its_own_is_seen(tmp_path: Path) -> None:
    for name in ("checkpoint-20", "default"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}')
    with pytest.raises(CheckpointError, match=r"an adapter \(default/adapter_config.json\)"):
        refuse_impossible(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"mm_vision_tower": "openai/clip"}, "original LLaVA code; .*convert_llava_weights_to_hf.py"),
        ({"architectures": ["LlavaMistralForCausalLM"]}, "original LLaVA code; .*llava-hf"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantised already \(gptq\)"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, r"quantised already \(awq\)"),
        ({"quantization": {"group_size": 64, "bits": 4}}, r"quantised already \(mlx\)"),
        ({"compression_config": {"format": "pack"}}, r"quantised already \(compressed-tensors\)"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantised already"),
        ({"architectures": ["LlavaQwenForCausalLM"]}, "original LLaVA code"),
        ({"architectures": ["TinyLlavaForCausalLM"]}, "original LLaVA code"),
    ],
)
def test_formats_are_recognised_before_their_files_are_missed(config: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        refuse_formats(config, "a place")


def test_plain_configurations_pass() -> None:
    plain = {"architectures": ["LlavaForConditionalGeneration"], "text_config": {"quantization_config": None}}
    refuse_formats(plain, "a place")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quantize_config.json", r"quantised already \(gptq\)"),
        ("quant_config.json", r"quantised already \(awq\)"),
        ("hf_quant_config.json", r"quantised already \(modelopt\)"),
        (
            "ggml-model-q4_k.gguf",
            "ggml-model-q4_k.gguf, which is GGUF, llama.cpp's format; take the safetensors",
        ),
        ("weights.npz", "MLX or NumPy"),
        ("consolidated.00.pth", "the original code"),
        ("tf_model.h5", "TensorFlow's"),
        ("model.onnx", "ONNX graphs"),
    ],
)
def test_weights_of_other_kinds_are_named(name: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        refuse_other_weights({"config.json", name}, "a place")


@pytest.mark.parametrize("name", ["model.gguf", "tf_model.h5", "flax_model.msgpack"])
def test_other_weights_beside_safetensors_do_no_harm(name: str) -> None:
    refuse_other_weights({"model.safetensors", name}, "a place")


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"eos_token_id": 2, "temperature": 0.7, "do_sample": True, "_from_model_config": True}, []),
        ({"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": []}, []),
        ({"repetition_penalty": 1.05}, ["repetition_penalty = 1.05"]),
        ({"suppress_tokens": [7], "num_beams": 4}, ["suppress_tokens = [7]", "num_beams = 4"]),
        ({"forced_eos_token_id": 2}, ["forced_eos_token_id = 2"]),
        ({"a_key_of_tomorrow": 1}, ["a_key_of_tomorrow = 1"]),
        ({"stop_strings": "END", "guidance_scale": 1.5}, ['stop_strings = "END"', "guidance_scale = 1.5"]),
        ({"bad_words_ids": [[5]], "min_new_tokens": 3}, ["bad_words_ids = [[5]]", "min_new_tokens = 3"]),
        ({"constraints": None, "num_beams": 1, "early_stopping": False, "top_k": 50}, []),
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
