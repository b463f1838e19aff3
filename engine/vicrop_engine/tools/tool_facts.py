"""Facts about a localizer model's directory, as plain values ready to print. Loads no graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from vicrop_engine.config import to_json
from vicrop_engine.manifest import read_document, verify_hashes
from vicrop_engine.models import ToolName
from vicrop_engine.tools.tool_manifest import REQUIRED, mend_tool, read_tool


def tool_info(directory: Path, *, verify: bool) -> dict[str, Any]:
    """What the manifest says, and with `verify` that every file agrees with it.

    Raises EngineDirectoryError and EngineDamagedError.
    """
    kind = read_document(directory).get("kind")
    known = isinstance(kind, str) and kind in REQUIRED
    manifest = read_tool(directory, cast(ToolName, kind) if known else "clip")
    if verify:
        verify_hashes(directory, manifest.files, mend_tool(manifest.kind), weights=True)
    document = to_json(manifest)
    document["directory"] = str(directory)
    document["bytes"] = sum(entry.size for entry in manifest.files.values())
    document["verified"] = verify
    return document


def tool_facts(document: dict[str, Any]) -> dict[str, str]:
    """`tool_info` as lines for people."""
    source = f"{document['source']} at {document['revision']}" if document["revision"] else document["source"]
    return {
        "model": document["directory"],
        "kind": f"{document['kind']} from {source}",
        "precision": f"fp32 for cpu, {document['bytes'] / 1e6:.1f} MB",
        "parity": ", ".join(f"{name} {value:.1e}" for name, value in document["parity"].items()),
        "built with": ", ".join(f"{name} {found}" for name, found in document["versions"].items()),
        "files": f"{len(document['files'])}, " + ("hashes agree" if document["verified"] else "sizes agree"),
    }
