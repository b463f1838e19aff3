"""Building a known model or localizer model: its default checkpoint, and the call into `vicrop_export`.

The only file of the runtime that knows the build package; it is imported when something is built.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicrop_engine.engine_dir.registry import (
    KnownModel,
    KnownTool,
    Progress,
    cached_engine,
    find_engine,
    find_model,
    logger,
)
from vicrop_engine.errors import BuildError, ViCropError
from vicrop_engine.runtime.extras import extra_problem, import_problem, package_fault
from vicrop_engine.runtime.onnx_runtime import demand_one_package

if TYPE_CHECKING:
    from vicrop_engine.engine_dir.layer_choice import LayerChoice
    from vicrop_engine.engine_dir.manifest import Manifest


def build_model(
    model: KnownModel,
    output: Path,
    *,
    checkpoint: str | None = None,
    layers: LayerChoice | None = None,
    precision: str = "fp32",
    target: str = "cpu",
    pure_grad: bool = False,
    max_pixels: int | None = None,
    architectures: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Build `model` from its own source, or from `checkpoint` (a directory or Hub id), into `output`.

    `progress` hears the stage and its share done, 0 to 1. Raises BuildError without the build extra,
    ProviderError when two packages of ONNX Runtime are installed or half of one, and what
    `vicrop_export.build.build_engine` raises.
    """
    demand_one_package()
    with _libraries("building"):
        from vicrop_export.build import build_engine
    own = model.checkpoint if model.embedded else model.source
    measured = layers is None and checkpoint is None and model.layers is not None
    with _in_use("building"):
        return build_engine(
            checkpoint or own,
            output,
            name=model.name,
            layers=model.layers if measured else layers,
            layer_source="measured" if measured else "chosen at build",
            precision=precision,
            target=target,
            pure_grad=pure_grad,
            max_pixels=max_pixels,
            architectures=architectures,
            force=force,
            progress=progress,
        )


def build_tool(
    tool: KnownTool,
    output: Path,
    *,
    checkpoint: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Build a localizer model from its own source, or from `checkpoint`, into `output`.

    Raises BuildError without the build extra, ProviderError as above, and what
    `vicrop_export.external.build.build_tool` raises.
    """
    demand_one_package()
    with _libraries("building"):
        from vicrop_export.external.build import build_tool as build
    with _in_use("building"):
        build(tool.name, checkpoint or tool.source, output, force=force, progress=progress)


def open_published(checkpoint: str) -> Any:
    """The published flow on transformers for a checkpoint, to be timed, as `checks.published` has it.

    Raises BuildError without the build extra, and CheckpointError.
    """
    what = "comparing with the published flow"
    with _libraries(what):
        from vicrop_export.checks.published import Published
    with _in_use(what):
        return Published(checkpoint)


@contextlib.contextmanager
def _libraries(what: str) -> Iterator[None]:
    """While libraries are imported. Raises BuildError where they are missing, too old or broken."""
    problem = extra_problem("build", what)
    if problem is not None:
        raise BuildError(problem)
    try:
        yield
    except ViCropError:
        raise
    except Exception as error:  # libraries that do not go together fail in every way when they are imported
        raise BuildError(import_problem(error, "build", what)) from error


@contextlib.contextmanager
def _in_use(what: str) -> Iterator[None]:
    """While they are used, and parts of them imported. Raises BuildError where they lack something."""
    try:
        yield
    except Exception as error:
        fault = package_fault(error)
        if fault is None:
            raise
        raise BuildError(import_problem(fault, "build", what)) from error


def resolve(engine: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """The engine directory `engine` stands for, building a known model into the cache if it never was.

    A build says so in the log; `progress` hears the stage and its share done. Raises UnknownModelError,
    EngineDirectoryError, and whatever a build raises.
    """
    found = find_engine(engine)
    if found is not None:
        return found
    built = cached_engine(str(engine))
    logger.warning("%s was never built here; building it once into %s", engine, built)
    build_model(find_model(str(engine)), built, progress=progress)
    return built
