"""`vicrop-engine build clip | yolo | sam`: what the command line does for localizer models."""

from __future__ import annotations

from pathlib import Path

from vicrop_engine import cli_output as output
from vicrop_engine.builder import build_tool
from vicrop_engine.models import KnownTool, cached_tool
from vicrop_engine.tools.tool_facts import tool_facts, tool_info


def build_localizer_model(tool: KnownTool, out: Path | None, checkpoint: str | None, force: bool) -> None:
    """Build `tool` into `out`, or into the cache, and print what it is. Raises what the build raises."""
    directory = out or cached_tool(tool.name)
    with output.progress_bar(f"building {tool.name}") as progress:
        build_tool(tool, directory, checkpoint=checkpoint, force=force, progress=progress)
    output.print_facts(tool_facts(tool_info(directory, verify=False)))
