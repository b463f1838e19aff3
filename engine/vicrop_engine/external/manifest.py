"""The manifest of a localizer model's directory: which model it is, and whether its files agree with it.

Knows files and hashes; nothing of what the graphs compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vicrop_engine.engine_dir.files import MANIFEST, FileEntry, check_sizes, write_document
from vicrop_engine.engine_dir.manifest import TOKENIZER, read_document
from vicrop_engine.engine_dir.parsing import parse, to_json
from vicrop_engine.engine_dir.registry import ToolName
from vicrop_engine.engine_dir.verify import check_once
from vicrop_engine.errors import ConfigError, EngineDamagedError, EngineDirectoryError

TOOL_SCHEMA = 1
SETTINGS = "settings.json"
REQUIRED: dict[ToolName, tuple[str, ...]] = {
    "clip": ("clip_image.onnx", "clip_text.onnx", TOKENIZER, SETTINGS),
    "yolo": ("yolo.onnx", SETTINGS),
    "sam": ("sam_image.onnx", "sam_masks.onnx", SETTINGS),
}
_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class ToolManifest:
    """Everything the manifest says; `files` covers every other file of the directory by name.

    `source` is the checkpoint's Hub id or directory name. `parity` are relative L2 distances of the graphs'
    outputs to transformers in float32, measured at build time.
    """

    schema: int
    kind: ToolName
    source: str
    revision: str | None
    parity: dict[str, float]
    files: dict[str, FileEntry]
    versions: dict[str, str]


def write_tool(directory: Path, manifest: ToolManifest, name: str = MANIFEST) -> None:
    """Write the manifest, under another `name` when given, and flush it to the disk."""
    write_document(directory / name, to_json(manifest))


def read_tool(directory: Path, kind: ToolName) -> ToolManifest:
    """Read the manifest of a `kind` of model, checking schema and the size of every file.

    Raises EngineDirectoryError when `directory` holds something else, EngineDamagedError when it is damaged.
    """
    document = read_document(directory)
    got = document.get("kind", "engine")
    if got != kind:
        raise EngineDirectoryError(
            f"{directory} holds a model of kind {got!r}, wanted {kind!r}; give the directory made by "
            f"'vicrop-engine build {kind}'"
        )
    if document.get("schema") != TOOL_SCHEMA:
        raise EngineDirectoryError(
            f"{directory}: the manifest's schema is {document.get('schema')!r} and this version reads "
            f"{TOOL_SCHEMA}; {mend_tool(kind)}"
        )
    try:
        manifest = parse(ToolManifest, document, str(directory / MANIFEST))
    except ConfigError as error:
        raise EngineDamagedError(f"{error}; {mend_tool(kind)}") from error
    for name in REQUIRED[kind]:
        if name not in manifest.files:
            raise EngineDamagedError(f"{directory / MANIFEST} lists no {name}; {mend_tool(kind)}")
    check_sizes(directory, manifest.files, mend_tool(kind))
    return manifest


def checked_settings(directory: Path, kind: ToolName, settings: type[_Settings]) -> _Settings:
    """The settings of a directory whose files agree with its manifest; weights are hashed once per copy.

    Raises EngineDirectoryError and EngineDamagedError.
    """
    manifest = read_tool(directory, kind)
    check_once(directory, manifest.files, mend_tool(kind))
    try:
        return parse(settings, read_document(directory, SETTINGS), str(directory / SETTINGS))
    except ConfigError as error:
        raise EngineDamagedError(f"{error}; {mend_tool(kind)}") from error


def mend_tool(kind: str) -> str:
    """What to run so that a damaged localizer model is whole again."""
    return f"rebuild it with 'vicrop-engine build {kind} --force'"
