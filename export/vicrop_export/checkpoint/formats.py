"""Directories that look like a checkpoint and are another model, or none that is built: said by name.

Knows file names and configurations; reads no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vicrop_engine.errors import CheckpointError

# As peft, diffusers and trainers of LLaVA name them; in a folder of their own where a checkpoint has several.
ADAPTER = re.compile(
    r"(?:[^/]+/)?adapter_config\.json|adapter(?:_model|s)?[^/]*\.(?:safetensors|bin|pt|pth|npz)|adapters\.npz"
    r"|(?:[^/]*[-_.])?lora(?:[-_.][^/]*)?\.(?:safetensors|bin|pt|pth)",
    re.IGNORECASE,
)
OF_TRAINING = re.compile(r"checkpoint-\d+/")  # what a run left on its way, beside what came of it
FURTHER_WEIGHTS = ("non_lora_trainables.bin", "mm_projector.bin")
# What says that weights are quantised, beside config.json or in the place of safetensors.
QUANTISED_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "quantization_config.json": "its quantization_config.json",
    "hf_quant_config.json": "modelopt",
}
QUANTISED_KEYS = {
    "quantization_config": "?",
    "quantization": "mlx",
    "compression_config": "compressed-tensors",
}
OTHER_WEIGHTS = {
    ".gguf": "GGUF, llama.cpp's format",
    ".pth": "PyTorch pickles of the original code",
    ".ckpt": "a training framework's format",
    ".h5": "TensorFlow's format",
    ".msgpack": "Flax's format",
    ".npz": "arrays of MLX or NumPy",
    ".onnx": "ONNX graphs",
}
ORIGINAL_CLASS = re.compile(r"\w*Llava\w*ForCausalLM")  # of Llama, Mistral, MPT, Qwen and so on
CONVERTED = (
    "convert it with transformers' convert_llava_weights_to_hf.py, or take a converted one such as "
    "'llava-hf/llava-1.5-7b-hf'"
)


def refuse_adapters(names: Collection[str], place: Path | str) -> None:
    """Raise CheckpointError for weights that lie beside the model's and are not applied."""
    adapters = sorted(name for name in names if ADAPTER.fullmatch(name) and not OF_TRAINING.match(name))
    found = adapters or [name for name in FURTHER_WEIGHTS if name in names]
    if not found:
        return
    kind = "an adapter" if adapters else "weights of an adapter's training"
    raise CheckpointError(
        f"{place} holds {kind} ({', '.join(found)}), which is not applied: without it another model would "
        "answer; merge it into the weights with peft's merge_and_unload, save the whole model and build that"
    )


def refuse_other_weights(names: Collection[str], place: Path | str) -> None:
    """Raise CheckpointError for weights of another kind: quantised, or another framework's alone."""
    for name, method in QUANTISED_FILES.items():
        if name in names:
            raise _quantised(place, method)
    if any(name.endswith((".safetensors", ".safetensors.index.json", ".bin")) for name in names):
        return
    for name in sorted(names):
        kind = OTHER_WEIGHTS.get(Path(name).suffix.lower())
        if kind is not None:
            raise CheckpointError(
                f"{place} holds its weights as {name}, which is {kind}; take the safetensors checkpoint of "
                "transformers that it was made of"
            )


def _quantised(place: Path | str, method: str) -> CheckpointError:
    return CheckpointError(
        f"{place} is quantised already ({method}); build from the float16 or float32 checkpoint it "
        "was made of, with --precision int8 or int4"
    )


def refuse_formats(config: Mapping[str, Any], place: Path | str) -> None:
    """Raise CheckpointError for the original LLaVA format, and for weights that are quantised already."""
    classes = config.get("architectures") or []
    if "mm_vision_tower" in config or any(ORIGINAL_CLASS.fullmatch(str(name)) for name in classes):
        raise CheckpointError(f"{place} is a checkpoint of the original LLaVA code; {CONVERTED}")
    parts = (config, *(config.get(name) for name in ("text_config", "vision_config", "llm_config")))
    for part in (part for part in parts if isinstance(part, Mapping)):
        for key, method in QUANTISED_KEYS.items():
            settings = part.get(key)
            if settings:
                said = settings.get("quant_method", method) if isinstance(settings, Mapping) else method
                raise _quantised(place, str(said))


def configuration(directory: Path) -> dict[str, Any]:
    """The directory's config.json, empty where it has none that can be read: whoever needs it says so."""
    try:
        document = json.loads((directory / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def nested_adapters(directory: Path) -> set[str]:
    """Adapters in folders of their own."""
    return {path.relative_to(directory).as_posix() for path in directory.glob("*/adapter_config.json")}
