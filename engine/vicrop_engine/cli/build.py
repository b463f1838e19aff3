"""The command `build`: progress on standard error, what was built on standard output.

Knows settings by name; not how an engine is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicrop_engine.cli import output
from vicrop_engine.cli.options import DebugOption
from vicrop_engine.errors import SettingError, one_of

if TYPE_CHECKING:
    from vicrop_engine.engine_dir.registry import KnownModel, KnownTool

PRECISIONS = ("fp32", "fp16", "int8", "int4")

TOOL = None, "fp32", "cpu", None, False, None  # how a localizer's model is built, whatever it is

FLOAT8 = ("fp8",)  # for tensorrt alone

_, _, TENSORRT = TARGETS = ("cpu", "cuda", "tensorrt")


def build_and_print(
    model: KnownModel,
    directory: Path,
    *,
    checkpoint: str | None,
    layers: str | None,
    precision: str,
    target: str,
    pure_grad: bool = False,
    max_pixels: int | None = None,
    arch: str | None = None,
    force: bool,
) -> None:
    """Build `model` into `directory` and print the engine's facts.

    Raises SettingError for an unknown precision or target, and what `builder.build_model` raises.
    """
    _demand("target", target, TARGETS)
    _demand("precision", precision, PRECISIONS + (FLOAT8 if target == TENSORRT else ()))
    from vicrop_engine.builder import build_model
    from vicrop_engine.cli.facts import engine_facts, engine_info

    with output.progress_bar(f"building {model.name}") as progress:
        build_model(
            model,
            directory,
            checkpoint=checkpoint,
            layers=layers,
            precision=precision,
            target=target,
            pure_grad=pure_grad,
            max_pixels=max_pixels,
            architectures=tuple(arch.split(",")) if arch else (),
            force=force,
            progress=progress,
        )
    output.print_facts(engine_facts(engine_info(directory, verify=False)))


def build_tool_and_print(tool: KnownTool, directory: Path, *, checkpoint: str | None, force: bool) -> None:
    """Build an external localizer's model and print its facts. Raises what `builder.build_tool` raises."""
    from vicrop_engine.builder import build_tool
    from vicrop_engine.cli.facts import tool_facts, tool_info

    with output.progress_bar(f"building {tool.name}") as progress:
        build_tool(tool, directory, checkpoint=checkpoint, force=force, progress=progress)
    output.print_facts(tool_facts(tool_info(directory, verify=False)))


def _demand(kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingError(one_of(kind, value, known))


ArchOption = Annotated[
    str | None, typer.Option(help="GPUs for tensorrt to compile for: sm_86,sm_89…; else this one.")
]


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="llava-signs, llava-1.5, llava-1.5-13b, smolvlm2-256m, -500m, -2.2b, qwen2.5-vl-3b, -7b, "
        "qwen2-vl-2b, qwen3-vl-2b, -4b, -8b, llava-next-mistral-7b or llava-next-vicuna-7b; clip, yolo or "
        "sam for the methods of that name.",
    ),
]
CheckpointOption = Annotated[
    str | None, typer.Option(help="A directory or Hub id with a checkpoint of that architecture.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="ENGINE_DIR", help="The engine directory to make; else in the cache."
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(help="Default heatmap layers from 0: 14, 10-20 or all; else the model's own."),
]
PrecisionOption = Annotated[str, typer.Option(help="fp32, fp16, int8 or int4; fp8 for tensorrt.")]
TargetOption = Annotated[str, typer.Option(help="cpu, cuda (in fp16, int8 or int4) or tensorrt.")]
PureGradOption = Annotated[
    bool, typer.Option("--pure-grad", help="Add the graph that the method pure-grad runs.")
]
MostPixelsOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="The largest picture, of models that see pictures in their own size."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an engine that is already there.")]


def build(
    model: ModelArgument,
    checkpoint: CheckpointOption = None,
    out: OutOption = None,
    layers: LayersOption = None,
    precision: PrecisionOption = "fp32",
    target: TargetOption = "cpu",
    arch: ArchOption = None,
    pure_grad: PureGradOption = False,
    max_pixels: MostPixelsOption = None,
    force: ForceOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn a checkpoint into an engine directory, checked against transformers on the way."""
    from vicrop_engine.engine_dir.registry import KnownTool, cached_engine, cached_tool, find_buildable

    known = find_buildable(model)
    if isinstance(known, KnownTool):
        if (layers, precision, target, arch, pure_grad, max_pixels) != TOOL:
            raise SettingError(f"{model} is built in fp32 for cpu and has no layers; leave these options out")
        build_tool_and_print(known, out or cached_tool(known.name), checkpoint=checkpoint, force=force)
        return
    build_and_print(
        known,
        out or cached_engine(known.name),
        checkpoint=checkpoint,
        layers=layers,
        precision=precision,
        target=target,
        pure_grad=pure_grad,
        max_pixels=max_pixels,
        arch=arch,
        force=force,
    )
