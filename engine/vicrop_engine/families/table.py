"""The families by name: the only place that knows which there are."""

from __future__ import annotations

from vicrop_engine.engine_dir.manifest import Manifest, remedy_command
from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import ConfigError, EngineDirectoryError
from vicrop_engine.families.instructblip.picture import InstructBlip
from vicrop_engine.families.interfaces import Family, FamilyType
from vicrop_engine.families.llava.picture import Llava
from vicrop_engine.families.llava_next.picture import LlavaNext
from vicrop_engine.families.qwen.picture import PublishedQwen, Qwen
from vicrop_engine.families.smolvlm.picture import SmolVLM

FAMILIES: dict[str, FamilyType] = {
    "llava-1.5": Llava,
    "llava-next": LlavaNext,
    "smolvlm": SmolVLM,
    "qwen2.5-vl": PublishedQwen,
    "qwen3-vl": Qwen,
    "instructblip": InstructBlip,
}


def family_type(manifest: Manifest) -> FamilyType:
    """The row of an engine's family. Raises EngineDirectoryError for one this version does not know."""
    name = manifest.family.name
    if name not in FAMILIES:
        raise EngineDirectoryError(
            f"the engine is of family {name!r} and this version knows {', '.join(FAMILIES)}; update "
            f"vicrop-engine, or {remedy_command(manifest)}"
        )
    return FAMILIES[name]


def family_of(manifest: Manifest, preprocessing: Preprocessing) -> Family:
    """An engine's family with its settings. Raises EngineDirectoryError for what this version cannot read."""
    try:
        return family_type(manifest)(manifest, preprocessing)
    except ConfigError as error:
        raise EngineDirectoryError(f"{error}; {remedy_command(manifest)}") from error
