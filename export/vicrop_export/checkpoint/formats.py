"""Directories that look like a checkpoint and are another model, or none that is built: said by name.

Knows file names and configurations; reads no weights.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vicrop_engine.errors import CheckpointError

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
FURTHER_WEIGHTS = ("non_lora_trainables.bin", "mm_projector.bin")
ORIGINAL_CLASSES = ("LlavaLlamaForCausalLM", "LlavaMistralForCausalLM", "LlavaMptForCausalLM")
CONVERTED = (
    "convert it with transformers' convert_llava_weights_to_hf.py, or take a converted one such as "
    "'llava-hf/llava-1.5-7b-hf'"
)


def refuse_adapters(names: Collection[str], place: Path | str) -> None:
    """Raise CheckpointError for weights that lie beside the model's and are not applied."""
    found = [name for name in (*ADAPTER_FILES, *FURTHER_WEIGHTS) if name in names]
    if not found:
        return
    kind = "an adapter" if found[0] in ADAPTER_FILES else "weights of an adapter's training"
    raise CheckpointError(
        f"{place} holds {kind} ({', '.join(found)}), which is not applied: without it another model would "
        "answer; merge it into the weights with peft's merge_and_unload, save the whole model and build that"
    )


def refuse_formats(config: Mapping[str, Any], place: Path | str) -> None:
    """Raise CheckpointError for the original LLaVA format, and for weights that are quantised already."""
    classes = config.get("architectures") or []
    if "mm_vision_tower" in config or any(name in ORIGINAL_CLASSES for name in classes):
        raise CheckpointError(f"{place} is a checkpoint of the original LLaVA code; {CONVERTED}")
    for part in (config, config.get("text_config"), config.get("vision_config")):
        settings = part.get("quantization_config") if isinstance(part, Mapping) else None
        if settings:
            method = settings.get("quant_method", "?") if isinstance(settings, Mapping) else "?"
            raise CheckpointError(
                f"{place} is quantised already ({method}); build from the float16 or float32 checkpoint it "
                "was made of, with --precision int8 or int4"
            )


def configuration(directory: Path) -> dict[str, Any]:
    """The directory's config.json, empty where it has none that can be read: whoever needs it says so."""
    try:
        document = json.loads((directory / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
