"""Small seeded checkpoints of InstructBLIP in Hugging Face layout: real files, random weights.

Weights are scaled so that attention is neither flat nor one-hot. Nothing here is trained; the files only have
to be read the way a real checkpoint is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
)

from tests.checkpoints import (
    CLIP_MEAN,
    CLIP_STD,
    CORPUS,
    random_tensor,
    small_tokenizer,
    write_json,
    write_tokenizer,
)

SIGNS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class BlipSpec:
    """What kind of checkpoint to write; sizes not named here are small constants."""

    seed: int = 0
    side: int = 56  # of a picture, in pixels
    vision_hidden: int = 32
    vision_layers: int = 2
    vision_heads: int = 2
    vision_bias: bool = True
    queries: int = 8
    qformer_hidden: int = 32
    qformer_layers: int = 6
    qformer_heads: int = 2
    every: int = 2  # layers from one that looks at the picture to the next
    positions: int = 64  # of the longest instruction
    hidden: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int = 4
    tied: bool = False
    shards: int = 1
    context_length: int = 2048


MID_SIZE = BlipSpec(
    side=224,
    vision_hidden=352,
    vision_layers=20,
    vision_heads=4,
    queries=32,
    qformer_hidden=192,
    qformer_layers=12,
    qformer_heads=3,
    positions=512,
    hidden=1024,
    layers=16,
    heads=8,
    kv_heads=8,
)
"""Published input, queries and Q-Former layers; all a quarter as wide, tower and decoder half as deep."""


def write_blip_checkpoint(directory: Path, spec: BlipSpec | None = None) -> Path:
    """Write the whole checkpoint directory and return it."""
    spec = spec or BlipSpec()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer, reader = small_tokenizer(), word_pieces()
    write_tokenizer(directory, tokenizer)
    write_word_pieces(directory / "qformer_tokenizer", reader)
    config = blip_config(spec, tokenizer, reader)
    write_json(directory / "config.json", json.loads(config.to_json_string(use_diff=False)))
    write_json(directory / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 1})  # as published
    write_json(directory / "preprocessor_config.json", processor_document(spec))
    _write_weights(directory, _random_state(config, spec), spec)
    return directory


def word_pieces() -> Tokenizer:
    """A BERT-style WordPiece of letters and of a few sentences' words, lower case."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = sorted({word for text in CORPUS for word in re.findall(r"[a-z]{2,}", text.lower())})
    pieces = [*SIGNS, *letters, *(f"##{letter}" for letter in letters), *words]
    vocab = {piece: id for id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(sign, vocab[sign]) for sign in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens([AddedToken(sign, normalized=False, special=True) for sign in SIGNS])
    return tokenizer


def write_word_pieces(directory: Path, tokenizer: Tokenizer) -> None:
    """Write `tokenizer.json` and the configuration transformers reads beside it."""
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    document = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    write_json(directory / "tokenizer_config.json", document)


def blip_config(spec: BlipSpec, tokenizer: Tokenizer, reader: Tokenizer) -> InstructBlipConfig:
    """The transformers configuration of this checkpoint."""
    vision = InstructBlipVisionConfig(
        hidden_size=spec.vision_hidden,
        intermediate_size=2 * spec.vision_hidden,
        num_hidden_layers=spec.vision_layers,
        num_attention_heads=spec.vision_heads,
        image_size=spec.side,
        patch_size=14,
        qkv_bias=spec.vision_bias,
    )
    qformer = InstructBlipQFormerConfig(
        vocab_size=reader.get_vocab_size() + 1,
        hidden_size=spec.qformer_hidden,
        num_hidden_layers=spec.qformer_layers,
        num_attention_heads=spec.qformer_heads,
        intermediate_size=2 * spec.qformer_hidden,
        max_position_embeddings=spec.positions,
        cross_attention_frequency=spec.every,
        encoder_hidden_size=spec.vision_hidden,
    )
    text = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size() + 5,
        hidden_size=spec.hidden,
        intermediate_size=2 * spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=spec.tied,
    )
    return InstructBlipConfig(
        vision_config=vision,
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=spec.queries,
        image_token_index=tokenizer.token_to_id("<image>"),
    )


def processor_document(spec: BlipSpec) -> dict[str, Any]:
    """The image processor's file as it is published."""
    return {
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "InstructBlipProcessor",
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": spec.side, "width": spec.side},
    }


def _random_state(config: InstructBlipConfig, spec: BlipSpec) -> dict[str, torch.Tensor]:
    made: Any = InstructBlipForConditionalGeneration
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in made(config).state_dict().items()}
    generator = torch.Generator().manual_seed(spec.seed)
    state = {name: _tensor(name, shape, generator) for name, shape in shapes.items()}
    if spec.tied:  # smaller rows, or every answer would be the last token again, and sure
        del state["language_model.lm_head.weight"]
        state["language_model.model.embed_tokens.weight"] *= 0.2
    return state


def _tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """A weight of this name: attention neither flat nor one-hot, and queries that differ."""
    if any(part in name for part in ("position_embedding", "class_embedding", "query_tokens")):
        return 0.3 * torch.randn(shape, generator=generator)
    if name.endswith("LayerNorm.weight"):
        return 1 + 0.1 * torch.randn(shape, generator=generator)
    tensor = random_tensor(name, shape, generator, 1.5)
    sharp = any(part in name for part in ("attention.query.weight", "attention.key.weight"))
    return 1.5 * tensor if sharp else tensor


def _write_weights(directory: Path, state: dict[str, torch.Tensor], spec: BlipSpec) -> None:
    named = {name: value.contiguous() for name, value in state.items()}
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
