"""Builds the directory of a localizer model from a checkpoint: export, comparison, manifest last.

Knows the order; each model's own file knows its graphs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from vicrop_engine.engine_dir.files import MANIFEST, hash_file, verify_hashes
from vicrop_engine.engine_dir.parsing import to_json
from vicrop_engine.engine_dir.registry import ToolName
from vicrop_engine.errors import EngineDirectoryError
from vicrop_engine.external.manifest import (
    REQUIRED,
    SETTINGS,
    TOOL_SCHEMA,
    ToolManifest,
    mend_tool,
    read_tool,
    write_tool,
)
from vicrop_export.checkpoint.locate import (
    Checkpoint,
    CheckpointKind,
    fetch_weights,
    locate,
    refuse_impossible,
)
from vicrop_export.existing import is_built
from vicrop_export.external import clip, sam, yolo
from vicrop_export.external.loading import demand_type
from vicrop_export.plan import versions
from vicrop_export.progress import FetchProgress, Report
from vicrop_export.quiet import quiet
from vicrop_export.staging import LAST, clear_leftovers, staged

EXPORTERS: Mapping[ToolName, ModuleType] = {"clip": clip, "yolo": yolo, "sam": sam}
FETCHED = 0.5  # the share of a build that fetching its weights takes, where it does


def build_tool(
    kind: ToolName,
    checkpoint: Path | str,
    output: Path | str,
    *,
    force: bool = False,
    progress: Report | None = None,
) -> ToolManifest:
    """Build `output` from a checkpoint directory or hub id and return its manifest.

    The same model already there is kept; another one is replaced only with `force`, and only once the new one
    is whole. Raises CheckpointError, EngineDirectoryError, BuildError, ParityError and NoSpaceError; then
    nothing is left behind.
    """
    report = progress or (lambda _stage, _share: None)
    exporter: Any = EXPORTERS[kind]
    wanted: CheckpointKind = exporter.WANTED
    if Path(checkpoint).is_dir():
        demand_type(Path(checkpoint), exporter.MODEL_TYPE, wanted.example)
    refuse_impossible(checkpoint, wanted)
    output = Path(output)
    with quiet():
        report("reading the checkpoint", 0.0)
        found = locate(checkpoint, wanted)
        clear_leftovers(output)
        kept = _reusable(output, kind, found, force=force)
        if kept is not None:
            report("already built", 1.0)
            return kept
        fetching = FetchProgress(report, FETCHED)
        fetch_weights(found, fetching)
        report = fetching.rest()
        with staged(output) as partial:
            parity, settings = exporter.export(found.directory, partial, report)
            manifest = _written(partial, kind, found, parity, to_json(settings))
    report("done", 1.0)
    return manifest


def _written(
    directory: Path, kind: ToolName, found: Checkpoint, parity: dict[str, float], settings: object
) -> ToolManifest:
    document = json.dumps(settings, indent=1, sort_keys=True)
    (directory / SETTINGS).write_text(document + "\n", encoding="utf-8")
    files = {path.name: hash_file(path) for path in sorted(directory.iterdir())}
    manifest = ToolManifest(TOOL_SCHEMA, kind, found.source, found.revision, parity, files, versions())
    write_tool(directory, manifest, LAST)
    return manifest


def _reusable(output: Path, kind: ToolName, checkpoint: Checkpoint, *, force: bool) -> ToolManifest | None:
    """The manifest of the very model asked for if it is there.

    Raises EngineDirectoryError and EngineDamagedError.
    """
    if not is_built(output, _own_files(kind)) or force:
        return None
    manifest = read_tool(output, kind)
    own = "vicrop-engine"
    if (manifest.revision, manifest.versions.get(own)) != (checkpoint.revision, versions().get(own)):
        raise EngineDirectoryError(f"{output} holds another {kind} ({manifest.source}); --force replaces it")
    verify_hashes(output, manifest.files, mend_tool(kind), weights=True)
    return manifest


def _own_files(kind: ToolName) -> set[str]:
    graphs = [name for name in REQUIRED[kind] if name.endswith(".onnx")]
    return {MANIFEST, *REQUIRED[kind], *(f"{name}.data" for name in graphs)}
