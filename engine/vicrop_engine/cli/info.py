"""The command `info`: what an engine is, or what this machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import DebugOption, JsonOption
from vicrop_engine.errors import SettingError

EngineArgument = Annotated[
    str | None,
    typer.Argument(metavar="[ENGINE]", help="An engine directory or model name; else this machine."),
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Compare the hash of every file, and run the probe again.")
]


def info(
    engine: EngineArgument = None,
    verify: VerifyOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what an engine is, or which models and execution providers this machine has."""
    from vicrop_engine.cli import facts
    from vicrop_engine.cli.facts import tool_facts, tool_info
    from vicrop_engine.engine_dir.registry import find_engine, find_tool

    if engine is None:
        if verify:
            raise SettingError("--verify wants an engine: vicrop-engine info ENGINE --verify")
        document = facts.machine_info()
        lines = facts.machine_facts(document)
    elif (tool := find_tool(engine)) is not None:
        document = tool_info(tool, verify=verify)
        lines = tool_facts(document)
    else:
        directory = find_engine(engine)
        if directory is None:
            raise SettingError(f"{engine} was never built here; run 'vicrop-engine build {engine}' first")
        document = facts.engine_info(directory, verify=verify)
        lines = facts.engine_facts(document)
    if json:
        output.print_json(document)
    else:
        output.print_facts(lines)
