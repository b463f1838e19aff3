"""The table of model families, by what `config.json` calls a checkpoint's model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vicrop_engine.errors import CheckpointError, one_of
from vicrop_export.checkpoint.config import CONFIG, read_json
from vicrop_export.families.instructblip.family import InstructBlip
from vicrop_export.families.interfaces import ExportFamily
from vicrop_export.families.llava.family import Llava
from vicrop_export.families.llava_next.family import LlavaNext
from vicrop_export.families.qwen2_5.family import Qwen2_5
from vicrop_export.families.qwen3.family import Qwen3, refuse_mixture
from vicrop_export.families.smolvlm.family import SmolVLM

FAMILIES: dict[str, Callable[[Path, int | None], ExportFamily]] = {
    "llava": Llava.read,
    "llava_next": LlavaNext.read,
    "smolvlm": SmolVLM.read,
    "idefics3": SmolVLM.read,
    "qwen2_5_vl": Qwen2_5.read,
    "qwen2_vl": Qwen2_5.read,
    "qwen3_vl": Qwen3.read,
    "qwen3_vl_moe": refuse_mixture,
    "instructblip": InstructBlip.read,
}


def read_family(directory: Path, max_pixels: int | None = None) -> ExportFamily:
    """The model of a checkpoint, read and checked but for weights.

    `max_pixels` bounds pictures that are seen in their own size. Raises CheckpointError, and SettingError for
    bounds that cannot be.
    """
    kind = read_json(directory / CONFIG).get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise CheckpointError(
            f"{directory / CONFIG}: {one_of('model_type', str(kind), FAMILIES)}; "
            "choose a checkpoint of one of these"
        )
    return FAMILIES[kind](directory, max_pixels)
