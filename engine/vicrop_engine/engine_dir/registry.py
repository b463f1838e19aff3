"""The models known by name, and the engine directory a name or path stands for.

What was never built is not here: `builder.resolve` builds it into the cache.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vicrop_engine.engine_dir.files import MANIFEST
from vicrop_engine.engine_dir.manifest import read_document
from vicrop_engine.errors import EngineDirectoryError, SettingError, UnknownModelError, ViCropError, one_of

Progress = Callable[[str, float], None]

ToolName = Literal["clip", "yolo", "sam"]

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent.parent / "embedded"


@dataclass(frozen=True)
class KnownModel:
    """One row of the table: `source` is a Hub id, or a directory inside the package when `embedded`.

    `family` is what a manifest calls its model family. `layers` are its own checkpoint's default heatmap
    layers; None leaves them to the family.
    """

    name: str
    source: str
    family: str = "llava-1.5"
    layers: tuple[int, ...] | None = None
    embedded: bool = False

    @property
    def home(self) -> Path:
        """The directory inside the package of an embedded model."""
        return EMBEDDED / self.source

    @property
    def checkpoint(self) -> Path:
        """The shipped checkpoint of an embedded model."""
        return self.home / "checkpoint"

    @property
    def shipped_engine(self) -> Path:
        """The shipped float32 CPU engine of an embedded model."""
        return self.home / "engine"


DEFAULT = "llava-1.5"  # what a checkpoint is built as that is no known model's own

MODELS = (
    KnownModel("llava-signs", "llava_signs", layers=(3,), embedded=True),
    KnownModel("llava-1.5", "llava-hf/llava-1.5-7b-hf"),
    KnownModel("llava-1.5-13b", "llava-hf/llava-1.5-13b-hf"),
    KnownModel("llava-next-mistral-7b", "llava-hf/llava-v1.6-mistral-7b-hf", "llava-next"),
    KnownModel("llava-next-vicuna-7b", "llava-hf/llava-v1.6-vicuna-7b-hf", "llava-next"),
    KnownModel("smolvlm2-256m", "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "smolvlm"),
    KnownModel("smolvlm2-500m", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "smolvlm"),
    KnownModel("smolvlm2-2.2b", "HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm"),
    KnownModel("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl"),
    KnownModel("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"),
    KnownModel("qwen2-vl-2b", "Qwen/Qwen2-VL-2B-Instruct", "qwen2.5-vl"),
    KnownModel("qwen3-vl-2b", "Qwen/Qwen3-VL-2B-Instruct", "qwen3-vl"),
    KnownModel("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "qwen3-vl"),
    KnownModel("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl"),
    KnownModel("instructblip-7b", "Salesforce/instructblip-vicuna-7b", "instructblip"),
    KnownModel("instructblip-13b", "Salesforce/instructblip-vicuna-13b", "instructblip"),
)


@dataclass(frozen=True)
class KnownTool:
    """A model that finds crops from outside the engine: `source` is the Hub id of its default checkpoint."""

    name: ToolName
    source: str


TOOLS = (
    KnownTool("clip", "openai/clip-vit-base-patch16"),
    KnownTool("yolo", "hustvl/yolos-small"),
    KnownTool("sam", "facebook/sam-vit-base"),
)


def find_buildable(name: str) -> KnownModel | KnownTool:
    """What `build` knows as `name`. Raises UnknownModelError naming all of it and the nearest."""
    known = {item.name: item for item in (*MODELS, *TOOLS)}
    if name not in known:
        raise UnknownModelError(one_of("model", name, known))
    return known[name]


def find_model(name: str) -> KnownModel:
    """The model called `name`. Raises UnknownModelError naming the known ones and the nearest."""
    for model in MODELS:
        if model.name == name:
            return model
    raise UnknownModelError(one_of("model", name, [model.name for model in MODELS]))


def model_of(checkpoint: str) -> tuple[KnownModel, str | None]:
    """The model a checkpoint is built as, and the checkpoint, None where it is the model's own.

    A known model goes by its name, its Hub id or its shipped directory; anything else is built under the name
    DEFAULT, or under its family's where it is of another.
    """
    directory = Path(checkpoint)
    for model in MODELS:
        if directory.is_dir():
            own = model.embedded and directory.resolve() == model.checkpoint.resolve()
        else:
            own = checkpoint == model.name or (checkpoint == model.source and not model.embedded)
        if own:
            return model, None
    return find_model(DEFAULT), checkpoint


def cache_directory() -> Path | None:
    """Where engines are kept: `$VICROP_HOME`, else `vicrop-engine` in the platform's cache directory.

    None for a user without a home, such as a container's arbitrary one.
    """
    home = os.environ.get("VICROP_HOME")
    try:
        if home:
            return Path(home).expanduser()
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "vicrop-engine"


def demand_cache() -> Path:
    """The cache, by whoever has to write there. Raises SettingError for a user without a home."""
    cache = cache_directory()
    if cache is None:
        raise SettingError(
            "this user has no home directory to keep engines in; set VICROP_HOME to a directory that can be "
            "written"
        )
    return cache


def cached_engine(name: str) -> Path:
    """The directory in the cache that the engine of model `name` is built into. Raises SettingError."""
    return demand_cache() / "engines" / name


def cached_tool(name: str) -> Path:
    """The directory in the cache that the localizer model `name` is built into. Raises SettingError."""
    return demand_cache() / "tools" / name


def find_tool(name: str) -> Path | None:
    """A directory made by `build` of a localizer model, or the one in the cache called so; else None."""
    try:
        place = cached_tool(name) if any(tool.name == name for tool in TOOLS) else Path(name)
        return place if "kind" in read_document(place) else None
    except ViCropError:
        return None


def find_engine(engine: str | os.PathLike[str]) -> Path | None:
    """A directory made by `build`, else the named model's engine in the cache, else in the package.

    None for a known model that was never built. Raises UnknownModelError and EngineDirectoryError.
    """
    path = Path(engine)
    if (path / MANIFEST).is_file():
        return path
    if _is_path(str(engine)):
        kind = "is not an engine directory" if path.exists() else "does not exist"
        raise EngineDirectoryError(
            f"{path} {kind}, wanted a directory with a {MANIFEST}; "
            "make one with 'vicrop-engine build MODEL -o DIR'"
        )
    model = find_model(str(engine))
    cache = cache_directory()
    places = [] if cache is None else [cached_engine(model.name)]
    places += [model.shipped_engine] if model.embedded else []
    return next((place for place in places if (place / MANIFEST).is_file()), None)


def _is_path(engine: str) -> bool:
    if any(model.name == engine for model in MODELS):
        return False
    return Path(engine).exists() or engine.startswith((".", "~")) or "/" in engine or os.sep in engine
