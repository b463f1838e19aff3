"""Small seeded checkpoints of SmolVLM's and Idefics3's architecture in Hugging Face layout: random weights.

Weights are scaled so that attention is neither flat nor one-hot. Nothing here is trained.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.checkpoints import CORPUS

PLACES = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>"),
    *("<image>", *PLACES),
)
END = "<end_of_utterance>"


@dataclass(frozen=True)
class SmolVLMSpec:
    """What kind of checkpoint to write; `edge` is what a picture's longer side is scaled to."""

    seed: int = 0
    kind: Literal["smolvlm", "idefics3"] = "smolvlm"
    side: int = 64
    patch: int = 8
    shuffle: int = 2
    edge: int = 256
    vision_hidden: int = 32
    vision_layers: int = 3
    vision_heads: int = 2
    vision_intermediate: int = 80
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 160
    vocabulary: int | None = None  # rows of the embeddings; a few more than tokens when None
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    bare_names: bool = False  # without the `model.` in front
    shards: int = 1
    dtype: torch.dtype = torch.float32


SMOLVLM2_256M = SmolVLMSpec(
    side=512,
    patch=16,
    shuffle=4,
    edge=2048,
    vision_hidden=768,
    vision_layers=12,
    vision_heads=12,
    vision_intermediate=3072,
    hidden=576,
    layers=30,
    heads=9,
    kv_heads=3,
    intermediate=1536,
    vocabulary=49280,
    rope_theta=100000.0,
    dtype=torch.bfloat16,
)


def smolvlm_tokenizer() -> Tokenizer:
    """Byte-level BPE as SmolLM2's: no token in front, special tokens cut out first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    return tokenizer


def write_smolvlm(directory: Path, spec: SmolVLMSpec) -> Path:
    """Write a whole checkpoint and give its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = smolvlm_tokenizer()
    config, model = _make(spec, tokenizer)
    _write_weights(directory, spec, model.state_dict())
    tokenizer.save(str(directory / "tokenizer.json"))
    processor = "SmolVLM" if spec.kind == "smolvlm" else "Idefics3"
    half = [0.5, 0.5, 0.5]
    documents: dict[str, dict[str, Any]] = {
        "config.json": json.loads(config.to_json_string(use_diff=False)),
        "generation_config.json": {"eos_token_id": tokenizer.token_to_id(END)},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False,
        },
        "preprocessor_config.json": {
            "image_processor_type": f"{processor}ImageProcessor",
            **{"do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True},
            **{"do_rescale": True, "do_resize": True, "image_mean": half, "image_std": half},
            **{"max_image_size": {"longest_edge": spec.side}, "size": {"longest_edge": spec.edge}},
            **{"resample": 1, "rescale_factor": 1 / 255},
        },
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return directory


def _make(spec: SmolVLMSpec, tokenizer: Tokenizer) -> tuple[Any, Any]:
    """transformers' configuration, and its model with seeded weights."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
    )

    text = LlamaConfig(
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        vocab_size=spec.vocabulary or tokenizer.get_vocab_size() + 20,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
        bos_token_id=0,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=0,
        tie_word_embeddings=spec.tie_word_embeddings,
    )
    vision = {
        "hidden_size": spec.vision_hidden,
        "intermediate_size": spec.vision_intermediate,
        "num_hidden_layers": spec.vision_layers,
        "num_attention_heads": spec.vision_heads,
        "image_size": spec.side,
        "patch_size": spec.patch,
    }
    kinds: dict[str, tuple[Any, Any]] = {
        "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration),
        "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
    }
    config_class, model_class = kinds[spec.kind]
    config = config_class(
        text_config=text.to_dict(),
        vision_config=vision,
        image_token_id=tokenizer.token_to_id("<image>"),
        scale_factor=spec.shuffle,
        tie_word_embeddings=spec.tie_word_embeddings,
    )
    with torch.device("meta"):
        model = model_class(config)
    model = model.to_empty(device="cpu")
    _seed(model, spec.seed)
    return config, model.to(spec.dtype)


@torch.no_grad()
def _seed(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim == 1:
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_(centre + 0.1 * noise)
        elif "embed" in name and "patch" not in name:
            value.copy_(noise if "tokens" in name else 0.3 * noise)
        else:
            gain = 1.8 if "q_proj" in name or "k_proj" in name else 1.0
            value.copy_(noise * gain / math.sqrt(math.prod(value.shape[1:])))


def _write_weights(directory: Path, spec: SmolVLMSpec, state: dict[str, torch.Tensor]) -> None:
    names = [name for name in state if not (spec.tie_word_embeddings and name == "lm_head.weight")]
    stored = {name.removeprefix("model.") if spec.bare_names else name: state[name] for name in names}
    if spec.shards == 1:
        save_file(
            {name: value.contiguous() for name, value in stored.items()}, directory / "model.safetensors"
        )
        return
    weight_map: dict[str, str] = {}
    for number in range(spec.shards):
        file = f"model-{number + 1:05d}-of-{spec.shards:05d}.safetensors"
        part = list(stored)[number :: spec.shards]
        save_file({name: stored[name].contiguous() for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
