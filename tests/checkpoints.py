"""Small seeded LLaVA checkpoints in Hugging Face layout: real files, random weights.

Weights are scaled so that attention is neither flat nor one-hot and logits have no near ties. Nothing here is
trained; the files only have to be read the way a real checkpoint is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
CORPUS = (
    "USER: What is written on the red sign? Answer the question using a single word or phrase. ASSISTANT: K7",
    "USER: Write a general description of the image. ASSISTANT: a street with many signs and a blue door",
    "How many people are there in the picture? two three four. What colour is the small car? yes no",
)
SPECIALS = ("<unk>", "<s>", "</s>")
ADDED = ("<pad>", "<image>")


@dataclass(frozen=True)
class CheckpointSpec:
    """What kind of checkpoint to write; sizes not named here are small constants."""

    seed: int = 0
    sharpness: float = 1.5  # of the weights of queries and keys; the attention's scores grow with its square
    image_size: int = 168
    patch_size: int = 14
    vision_hidden: int = 32
    vision_layers: int = 3
    vision_heads: int = 2
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    intermediate: int | None = None  # twice `hidden` when None
    feature_layer: int | tuple[int, ...] = -2
    strategy: Literal["default", "full"] = "default"
    naming: Literal["language_model", "model"] = "language_model"
    tie_word_embeddings: bool = False
    biases: bool = False
    rope_theta: float = 10000.0
    context_length: int = 2048
    processor: Literal["centre_crop", "exact", "pad"] = "centre_crop"
    nested_processor: bool = False
    image_token_key: Literal["image_token_index", "image_token_id"] = "image_token_index"
    shards: int = 1
    dtype: torch.dtype = torch.float32


def write_checkpoint(directory: Path, spec: CheckpointSpec | None = None) -> Path:
    """Write the whole checkpoint directory and return it."""
    spec = spec or CheckpointSpec()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = small_tokenizer()
    write_tokenizer(directory, tokenizer)
    config = llava_config(spec, tokenizer)
    write_json(directory / "config.json", _config_document(config, spec))
    write_json(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    write_processor(directory, spec)
    _write_weights(directory, random_state(config, spec.seed, spec.sharpness), spec)
    return directory


def small_tokenizer() -> Tokenizer:
    """A Llama-style byte-fallback BPE learned on a few sentences, with `<image>` as a special token."""
    vocab, merges = _learned_pieces()
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in (*SPECIALS, *ADDED)]
    )
    return tokenizer


def _learned_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    learner.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=250, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    return {piece: index for index, piece in enumerate(pieces)}, [tuple(pair) for pair in learned["merges"]]


def write_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Write `tokenizer.json` and the configuration transformers reads beside it."""
    tokenizer.save(str(directory / "tokenizer.json"))
    document = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
    }
    write_json(directory / "tokenizer_config.json", document)


def llava_config(spec: CheckpointSpec, tokenizer: Tokenizer) -> LlavaConfig:
    """The transformers configuration of this checkpoint."""
    vision = CLIPVisionConfig(
        hidden_size=spec.vision_hidden,
        intermediate_size=2 * spec.vision_hidden,
        num_hidden_layers=spec.vision_layers,
        num_attention_heads=spec.vision_heads,
        image_size=spec.image_size,
        patch_size=spec.patch_size,
    )
    text = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size() + 5,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate or 2 * spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
        attention_bias=spec.biases,
        mlp_bias=spec.biases,
        tie_word_embeddings=spec.tie_word_embeddings,
    )
    layers = spec.feature_layer if isinstance(spec.feature_layer, int) else list(spec.feature_layer)
    image_token = tokenizer.token_to_id("<image>")
    assert image_token is not None, "the tokenizer was made with it"
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        vision_feature_layer=layers,
        vision_feature_select_strategy=spec.strategy,
        tie_word_embeddings=spec.tie_word_embeddings,
    )


def random_state(config: LlavaConfig, seed: int, sharpness: float = 1.5) -> dict[str, torch.Tensor]:
    """Every tensor of the model under transformers' own names, from one seeded generator."""
    with torch.device("meta"):
        shapes = {
            name: value.shape for name, value in LlavaForConditionalGeneration(config).state_dict().items()
        }
    generator = torch.Generator().manual_seed(seed)
    state = {name: random_tensor(name, shape, generator, sharpness) for name, shape in shapes.items()}
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


def random_tensor(name: str, shape: torch.Size, generator: torch.Generator, sharpness: float) -> torch.Tensor:
    """A weight of this name: attention neither flat nor one-hot."""
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        return centre + 0.1 * noise
    if "embed" in name and "patch" not in name:
        return noise
    gain = sharpness if "q_proj" in name or "k_proj" in name else 1.0
    scaled: torch.Tensor = gain * noise / shape[1:].numel() ** 0.5
    return scaled


def _config_document(config: LlavaConfig, spec: CheckpointSpec) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    image_token = document.pop("image_token_index")
    document[spec.image_token_key] = image_token
    return document


def write_processor(directory: Path, spec: CheckpointSpec) -> None:
    """Write the image processor's files: beside each other as published, or nested in one as saved today."""
    size = spec.image_size
    square = {"height": size, "width": size}
    image_processor = {
        "image_processor_type": "LlavaImageProcessor" if spec.processor == "pad" else "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if spec.processor == "exact" else {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": spec.processor != "exact",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    if spec.processor == "pad":
        image_processor["do_pad"] = True
    processor: dict[str, Any] = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": spec.patch_size,
        "vision_feature_select_strategy": spec.strategy,
    }
    if spec.nested_processor:
        processor["image_processor"] = image_processor
    else:
        write_json(directory / "preprocessor_config.json", image_processor)
    write_json(directory / "processor_config.json", processor)


def _write_weights(directory: Path, state: dict[str, torch.Tensor], spec: CheckpointSpec) -> None:
    named = {
        stored_name(name, spec.naming): value.to(spec.dtype).contiguous() for name, value in state.items()
    }
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


def stored_name(name: str, naming: str) -> str:
    """What a checkpoint of this naming calls one of transformers' tensors."""
    name = name.replace("model.vision_tower.", "model.vision_tower.vision_model.")
    if naming == "model":
        return name
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = name.removeprefix("model.")
    return name.replace("language_model.", "language_model.model.", 1)


def write_json(path: Path, document: object) -> None:
    """Write one JSON document."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
