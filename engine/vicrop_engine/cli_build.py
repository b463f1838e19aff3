"""A build as it is seen at a terminal: progress on standard error, what was built on standard output.

Whichever command asks for it. Knows settings by name; not how an engine is built.
"""

from __future__ import annotations

from pathlib import Path

from vicrop_engine import cli_output as output
from vicrop_engine.errors import SettingError, one_of
from vicrop_engine.manifest import TENSORRT
from vicrop_engine.models import KnownModel, KnownTool

PRECISIONS = ("fp32", "fp16", "int8", "int4")
FLOAT8 = ("fp8",)  # for TENSORRT alone
TARGETS = ("cpu", "cuda", TENSORRT)


def build_and_print(
    model: KnownModel,
    directory: Path,
    *,
    checkpoint: str | None,
    layers: str | None,
    precision: str,
    target: str,
    pure_grad: bool = False,
    arch: str | None = None,
    force: bool,
) -> None:
    """Build `model` into `directory` and print the engine's facts.

    Raises SettingError for an unknown precision or target, and what `builder.build_model` raises.
    """
    _demand("target", target, TARGETS)
    _demand("precision", precision, PRECISIONS + (FLOAT8 if target == TENSORRT else ()))
    from vicrop_engine.builder import build_model
    from vicrop_engine.info import engine_facts, engine_info

    with output.progress_bar(f"building {model.name}") as progress:
        build_model(
            model,
            directory,
            checkpoint=checkpoint,
            layers=layers,
            precision=precision,
            target=target,
            pure_grad=pure_grad,
            architectures=tuple(arch.split(",")) if arch else (),
            force=force,
            progress=progress,
        )
    output.print_facts(engine_facts(engine_info(directory, verify=False)))


def build_tool_and_print(tool: KnownTool, directory: Path, *, checkpoint: str | None, force: bool) -> None:
    """Build an external localizer's model and print its facts. Raises what `builder.build_tool` raises."""
    from vicrop_engine.builder import build_tool
    from vicrop_engine.tools.tool_facts import tool_facts, tool_info

    with output.progress_bar(f"building {tool.name}") as progress:
        build_tool(tool, directory, checkpoint=checkpoint, force=force, progress=progress)
    output.print_facts(tool_facts(tool_info(directory, verify=False)))


def _demand(kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingError(one_of(kind, value, known))
