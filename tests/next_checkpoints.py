"""Small seeded checkpoints of LLaVA-NeXT in Hugging Face layout: real files, random weights.

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
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, MistralConfig
from transformers import LlavaNextForConditionalGeneration as Model

from tests.checkpoints import (
    CLIP_MEAN,
    CLIP_STD,
    random_tensor,
    small_tokenizer,
    stored_name,
    write_json,
    write_tokenizer,
)

TILES = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))  # rows and columns, in the order of the published files


@dataclass(frozen=True)
class NextSpec:
    """What kind of checkpoint to write; sizes not named here are small constants."""

    kind: Literal["mistral", "llama"] = "mistral"
    seed: int = 0
    side: int = 56  # of a tile, in pixels
    vision_hidden: int = 32
    vision_layers: int = 3
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    tied: bool = False
    naming: Literal["language_model", "model"] = "language_model"
    shards: int = 1
    context_length: int = 4096

    @property
    def pinpoints(self) -> list[list[int]]:
        """Heights and widths of whole tiles."""
        return [[rows * self.side, cols * self.side] for rows, cols in TILES]


MID_SIZE = NextSpec(
    side=336,
    vision_hidden=256,
    vision_layers=12,
    hidden=768,
    layers=16,
    heads=12,
    kv_heads=4,
    context_length=32768,
)
"""Published tiles and tokens, on a tower and a decoder that a processor answers with in seconds."""


def write_next_checkpoint(directory: Path, spec: NextSpec | None = None) -> Path:
    """Write the whole checkpoint directory and return it."""
    spec = spec or NextSpec()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = small_tokenizer()
    write_tokenizer(directory, tokenizer)
    config = next_config(spec, tokenizer)
    write_json(directory / "config.json", json.loads(config.to_json_string(use_diff=False)))
    write_json(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    write_json(directory / "preprocessor_config.json", processor_document(spec))
    _write_weights(directory, _random_state(config, spec), spec)
    return directory


def next_config(spec: NextSpec, tokenizer: Tokenizer) -> LlavaNextConfig:
    """The transformers configuration of this checkpoint."""
    vision = CLIPVisionConfig(
        hidden_size=spec.vision_hidden,
        intermediate_size=2 * spec.vision_hidden,
        num_hidden_layers=spec.vision_layers,
        num_attention_heads=2,
        image_size=spec.side,
        patch_size=14,
    )
    made: Any = MistralConfig if spec.kind == "mistral" else LlamaConfig
    text = made(
        vocab_size=tokenizer.get_vocab_size() + 5,
        hidden_size=spec.hidden,
        intermediate_size=2 * spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=spec.tied,
        **({"sliding_window": None} if spec.kind == "mistral" else {}),
    )
    return LlavaNextConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.token_to_id("<image>"),
        image_grid_pinpoints=spec.pinpoints,
        tie_word_embeddings=spec.tied,
    )


def processor_document(spec: NextSpec) -> dict[str, Any]:
    """The image processor's file as it is published."""
    return {
        "image_processor_type": "LlavaNextImageProcessor",
        "processor_class": "LlavaNextProcessor",
        "aspect_ratio_setting": "anyres",
        "crop_size": {"height": spec.side, "width": spec.side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_grid_pinpoints": spec.pinpoints,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": spec.side},
    }


def _random_state(config: LlavaNextConfig, spec: NextSpec) -> dict[str, torch.Tensor]:
    made: Any = Model
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in made(config).state_dict().items()}
    generator = torch.Generator().manual_seed(spec.seed)
    state = {name: random_tensor(name, shape, generator, 1.5) for name, shape in shapes.items()}
    state["model.image_newline"] *= 10  # as large as the others
    if spec.tied:  # smaller rows, or every answer would be the last token again, and sure
        del state["lm_head.weight"]
        state["model.language_model.embed_tokens.weight"] *= 0.2
    return state


def _write_weights(directory: Path, state: dict[str, torch.Tensor], spec: NextSpec) -> None:
    named = {stored_name(name, spec.naming): value.contiguous() for name, value in state.items()}
    files: dict[str, str] = {}
    for index in range(spec.shards):
        whole = spec.shards == 1
        file = "model.safetensors" if whole else f"model-{index + 1:05d}-of-{spec.shards:05d}.safetensors"
        part = {name: named[name] for name in sorted(named)[index :: spec.shards]}
        save_file(part, directory / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    if spec.shards > 1:
        total = sum(value.nbytes for value in named.values())
        document = {"metadata": {"total_size": total}, "weight_map": files}
        write_json(directory / "model.safetensors.index.json", document)
