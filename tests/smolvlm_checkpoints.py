"""Small seeded checkpoints of SmolVLM and Idefics3 in Hugging Face layout: real files, random weights.

Weights are scaled so that attention is neither flat nor one-hot. Nothing here is trained; the files only have
to be read the way a real checkpoint is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from tests.checkpoints import CORPUS, write_json

PLACES = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>"),
    *("<global-img>", "<image>", *PLACES),
)


@dataclass(frozen=True)
class TiledSpec:
    """What kind of checkpoint to write; sizes not named here are small constants."""

    kind: Literal["smolvlm", "idefics3"] = "smolvlm"
    seed: int = 0
    side: int = 64  # of a tile, in pixels
    patch_size: int = 8
    scale: int = 2  # patches a side that go into one token
    longest_edge: int = 256
    vision_hidden: int = 32
    vision_layers: int = 3
    vision_heads: int = 2
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    tied: bool = False
    naming: Literal["model", "plain"] = "model"
    shards: int = 1
    dtype: torch.dtype = torch.float32
    special_tokens: tuple[str, ...] = SPECIALS
    intermediate: int | None = None  # twice `hidden` when None
    vision_intermediate: int | None = None  # twice `vision_hidden` when None
    vocabulary: int | None = None  # rows of the embeddings, 20 more than tokens when None
    rope_theta: float = 10000.0


SMOLVLM2_256M = TiledSpec(
    side=512,
    patch_size=16,
    scale=4,
    longest_edge=2048,
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
"""The published sizes of SmolVLM2-256M; the tokenizer stays small."""


def write_tiled_checkpoint(directory: Path, spec: TiledSpec | None = None) -> Path:
    """Write the whole checkpoint directory and return it."""
    spec = spec or TiledSpec()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer(spec.special_tokens)
    tokenizer.save(str(directory / "tokenizer.json"))
    document = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    write_json(directory / "tokenizer_config.json", document)
    config = tiled_config(spec, tokenizer)
    write_json(directory / "config.json", json.loads(config.to_json_string(use_diff=False)))
    write_json(directory / "generation_config.json", {"eos_token_id": 0})
    write_json(directory / "preprocessor_config.json", processor_document(spec))
    _write_weights(directory, random_state(config, spec.seed), spec)
    return directory


def byte_tokenizer(specials: tuple[str, ...] = SPECIALS) -> Tokenizer:
    """Byte-level BPE as SmolLM's: no token in front, special tokens cut out first, the end of text is 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in specials])
    return tokenizer


def tiled_config(spec: TiledSpec, tokenizer: Tokenizer) -> Any:
    """The transformers configuration of this checkpoint."""
    end = tokenizer.token_to_id("<end_of_utterance>")
    text = {
        "model_type": "llama",
        "vocab_size": spec.vocabulary or tokenizer.get_vocab_size() + 20,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.intermediate or 2 * spec.hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": end,
    }
    vision = {
        "hidden_size": spec.vision_hidden,
        "intermediate_size": spec.vision_intermediate or 2 * spec.vision_hidden,
        "num_hidden_layers": spec.vision_layers,
        "num_attention_heads": spec.vision_heads,
        "image_size": spec.side,
        "patch_size": spec.patch_size,
    }
    made: Any = Idefics3Config if spec.kind == "idefics3" else SmolVLMConfig
    return made(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.token_to_id("<image>"),
        scale_factor=spec.scale,
        tie_word_embeddings=spec.tied,
    )


def processor_document(spec: TiledSpec) -> dict[str, Any]:
    """The image processor's file as it is published, the settings for videos included."""
    name = "Idefics3" if spec.kind == "idefics3" else "SmolVLM"
    return {
        "processor_class": f"{name}Processor",
        "image_processor_type": f"{name}ImageProcessor",
        "do_convert_rgb": True,
        "do_image_splitting": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": spec.side},
        "resample": 1,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": spec.longest_edge},
        "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": spec.side}},
    }


def random_state(config: Any, seed: int) -> dict[str, torch.Tensor]:
    """Every tensor of the model under transformers' own names, from one seeded generator."""
    older = isinstance(config, Idefics3Config)
    made: Any = Idefics3ForConditionalGeneration if older else SmolVLMForConditionalGeneration
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in made(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    state = {name: _random_tensor(name, shape, generator) for name, shape in shapes.items()}
    if config.tie_word_embeddings:  # smaller rows, or every answer would be the last token again, and sure
        state.pop("lm_head.weight", None)
        state["model.text_model.embed_tokens.weight"] *= 0.2
    return state


def _random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        return centre + 0.1 * noise
    if "embed_tokens" in name:
        return noise
    if "position_embedding" in name:
        return 0.3 * noise
    gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
    scaled: torch.Tensor = gain * noise / shape[1:].numel() ** 0.5
    return scaled


def _write_weights(directory: Path, state: dict[str, torch.Tensor], spec: TiledSpec) -> None:
    prefix = "model." if spec.naming == "plain" else ""
    named = {name.removeprefix(prefix): value.to(spec.dtype).contiguous() for name, value in state.items()}
    if spec.shards == 1:
        save_file(named, directory / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for index in range(spec.shards):
        file = f"model-{index + 1:05d}-of-{spec.shards:05d}.safetensors"
        part = {name: named[name] for name in sorted(named)[index :: spec.shards]}
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(value.nbytes for value in named.values())
    document = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(directory / "model.safetensors.index.json", document)
