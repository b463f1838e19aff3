"""Small seeded checkpoints of Qwen2-VL, Qwen2.5-VL and Qwen3-VL in Hugging Face layout: random weights.

Weights are scaled so that attention is neither flat nor one-hot. Nothing here is trained; the files only have
to be read the way a real checkpoint is. A tensor is drawn from its own name, and files are written one by
one, so that a checkpoint of published sizes needs no more memory than one of its files.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from tests.checkpoints import write_json
from tests.qwen_documents import CLASSES, QwenSpec, config_document, processor_document
from tests.smolvlm_checkpoints import byte_tokenizer


def write_qwen_checkpoint(directory: Path, spec: QwenSpec | None = None) -> Path:
    """Write the whole checkpoint directory and return it."""
    spec = spec or QwenSpec()
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer(spec.special_tokens)
    tokenizer.save(str(directory / "tokenizer.json"))
    document = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    write_json(directory / "tokenizer_config.json", document)
    write_json(directory / "config.json", config_document(spec, tokenizer))
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    write_json(directory / "generation_config.json", {"eos_token_id": ends})
    write_json(directory / "preprocessor_config.json", processor_document(spec))
    _write_weights(directory, qwen_config(spec, tokenizer), spec)
    return directory


def qwen_config(spec: QwenSpec, tokenizer: Tokenizer) -> Any:
    """The transformers configuration of this checkpoint."""
    import transformers

    made: Any = getattr(transformers, f"{CLASSES[spec.kind]}Config")
    return made.from_dict(json.loads(json.dumps(config_document(spec, tokenizer))))


def qwen_model(config: Any) -> Any:
    """transformers' own class of a configuration, without weights."""
    import transformers

    made: Any = getattr(transformers, f"{CLASSES[config.model_type]}ForConditionalGeneration")
    with torch.device("meta"):
        return made(config)


def random_tensor(name: str, shape: torch.Size, spec: QwenSpec) -> torch.Tensor:
    """What the checkpoint has under one of transformers' names."""
    generator = torch.Generator().manual_seed(spec.seed * 1000003 + zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        is_norm = ("norm" in name or "ln_q" in name) and name.endswith("weight")
        turns = any(part in name for part in ("q_proj", "k_proj", "v_proj"))
        return 1 + 0.2 * noise if is_norm else (0.3 if turns else 0.1) * noise
    if "embed_tokens" in name:  # tied: smaller rows, or every answer would be the last token again, and sure
        return 0.2 * noise if spec.tied else noise
    if "pos_embed" in name:
        return 0.3 * noise
    gain = 1.5 if any(part in name for part in ("q_proj", "k_proj", "attn.qkv")) else 1.0
    scaled: torch.Tensor = gain * noise / shape[1:].numel() ** 0.5
    return scaled


def _stored_name(name: str, spec: QwenSpec) -> str:
    if spec.naming == "model":
        return name
    if spec.kind == "qwen3_vl":
        return name.removeprefix("model.")
    return name.replace("model.visual.", "visual.", 1).replace("model.language_model.", "model.", 1)


def _write_weights(directory: Path, config: Any, spec: QwenSpec) -> None:
    state = qwen_model(config).state_dict()
    shapes = {name: value.shape for name, value in state.items()}
    if spec.tied:
        shapes.pop("lm_head.weight", None)
    weight_map: dict[str, str] = {}
    total = 0
    for index in range(spec.shards):
        whole = spec.shards == 1
        file = "model.safetensors" if whole else f"model-{index + 1:05d}-of-{spec.shards:05d}.safetensors"
        names = sorted(shapes)[index :: spec.shards]
        part = {
            _stored_name(name, spec): random_tensor(name, shapes[name], spec).to(spec.dtype).contiguous()
            for name in names
        }
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
        total += sum(value.nbytes for value in part.values())
    if spec.shards > 1:
        document = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", document)
