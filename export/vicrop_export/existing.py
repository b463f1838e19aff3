"""Decides what a build may do with a directory that is already there.

Only ever lets an engine be replaced, never somebody's other files.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from vicrop_engine.engine_dir.files import MANIFEST
from vicrop_engine.engine_dir.manifest import (
    EVERY_GRAPH,
    EXTRA_ROWS,
    GRADIENT,
    INSTRUCTED,
    INSTRUCTED_GRADIENT,
    INSTRUCTION_TOKENIZER,
    KV_BUFFER,
    PIXEL_GRADIENTS,
    PREFILL,
    PROBE,
    REQUIRED,
    ROWS,
    WIDE,
    Manifest,
    is_plan,
    read_manifest,
    verify_files,
)
from vicrop_engine.errors import EngineDirectoryError
from vicrop_export.plan import Plan, versions

OWN_FILES = {
    MANIFEST,
    PROBE,
    EXTRA_ROWS,
    *REQUIRED,
    f"{GRADIENT}.onnx",
    f"{PIXEL_GRADIENTS}.onnx",
    f"{ROWS}.onnx",
    f"{KV_BUFFER}.onnx",
    INSTRUCTION_TOKENIZER,
    f"{INSTRUCTED}.onnx",
    f"{INSTRUCTED_GRADIENT}.onnx",
    *(f"{name}{kind}.onnx" for name in EVERY_GRAPH for kind in (PREFILL, WIDE)),
    *(f"{name}.onnx.data" for name in EVERY_GRAPH),
}


def reusable(output: Path, plan: Plan, *, force: bool) -> Manifest | None:
    """The manifest of the very engine asked for if it is already there; None when there is work to do.

    Raises EngineDirectoryError when `output` holds anything that may not be replaced, EngineDamagedError when
    it holds a damaged engine and `force` is not set.
    """
    plans = {path.name for path in output.iterdir() if is_plan(path.name)} if output.is_dir() else set()
    if not is_built(output, OWN_FILES | plans) or force:
        return None
    manifest = read_manifest(output)
    if not is_same(manifest, plan):
        raise EngineDirectoryError(
            f"{output} holds another engine ({manifest.model.name}, layers {_listed(manifest.crop.layers)}, "
            f"{manifest.precision} for {manifest.target}{_compiled(manifest)}{_missing(manifest, plan)}); "
            "--force replaces it"
        )
    verify_files(output, manifest, weights=True)
    return manifest


def is_built(output: Path, own_files: Collection[str]) -> bool:
    """Whether something was built into `output` before; False where nothing is there yet.

    Raises EngineDirectoryError when it is a file, or holds files other than a build's own.
    """
    if not output.exists():
        return False
    if not output.is_dir():
        raise EngineDirectoryError(f"{output} is a file; give -o a directory that does not exist yet")
    names = {path.name for path in output.iterdir()}
    strangers = sorted(names - set(own_files))
    if strangers:
        raise EngineDirectoryError(
            f"{output} holds other files ({strangers[0]}) and is left alone; give -o a directory that does "
            "not exist yet"
        )
    return bool(names)


def is_same(manifest: Manifest, plan: Plan) -> bool:
    """Whether an engine is what building the plan would give, or that with a graph more."""
    compiled = None if plan.compiler is None else plan.compiler.plans
    if _missing(manifest, plan) or manifest.plans != compiled:
        return False
    wanted = (plan.name, plan.checkpoint.revision, plan.layers, plan.precision, plan.target)
    if plan.images.settings != manifest.family.settings:
        return False
    own = "vicrop-engine"
    return wanted == (
        manifest.model.name,
        manifest.model.revision,
        manifest.crop.layers,
        manifest.precision,
        manifest.target,
    ) and manifest.versions.get(own) == versions().get(own)


def _compiled(manifest: Manifest) -> str:
    return "" if manifest.plans is None else f" on {', '.join(manifest.plans.architectures)}"


def _missing(manifest: Manifest, plan: Plan) -> str:
    return ", without pure-grad" if plan.pure_grad and not manifest.has_pixel_gradients else ""


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers))
