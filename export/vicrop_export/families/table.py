"""The table of model families, by what `config.json` calls a checkpoint's model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vicrop_engine.errors import CheckpointError, one_of
from vicrop_export.checkpoint.config import CONFIG, read_json
from vicrop_export.families.interfaces import ExportFamily
from vicrop_export.families.llava.family import Llava
from vicrop_export.families.smolvlm.family import SmolVLM

FAMILIES: dict[str, Callable[[Path], ExportFamily]] = {
    "llava": Llava.read,
    "smolvlm": SmolVLM.read,
    "idefics3": SmolVLM.read,
}


def read_family(directory: Path) -> ExportFamily:
    """The model of a checkpoint, read and checked but for weights. Raises CheckpointError."""
    kind = read_json(directory / CONFIG).get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise CheckpointError(
            f"{directory / CONFIG}: {one_of('model_type', str(kind), FAMILIES)}; "
            "choose a checkpoint of one of these"
        )
    return FAMILIES[kind](directory)
