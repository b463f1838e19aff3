"""Building an engine for a known model: where its checkpoint comes from, and the call into `vicrop_export`.

The only file of the runtime that knows the build package; it is imported when something is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vicrop_engine.errors import BuildError, CheckpointError
from vicrop_engine.models import KnownModel, Progress

if TYPE_CHECKING:
    from vicrop_engine.manifest import Manifest

CHECKPOINT_FILES = ("*.json", "*.safetensors", "tokenizer.model")


def build_model(
    model: KnownModel,
    output: Path,
    *,
    checkpoint: str | None = None,
    layers: tuple[int, ...] | None = None,
    precision: str = "fp32",
    target: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Build `model` from its own source, or from `checkpoint` (a directory or Hub id), into `output`.

    `progress` hears the stage and its share done, 0 to 1. Raises CheckpointError, BuildError and what
    `vicrop_export.build.build_engine` raises.
    """
    source = find_checkpoint(model, checkpoint)
    try:
        from vicrop_export.build import build_engine
    except ModuleNotFoundError as error:
        raise BuildError(
            f"building needs {error.name}, which is not installed; run pip install 'vicrop-engine[cpu,build]'"
        ) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    return build_engine(
        source if isinstance(source, Path) else download(source),
        output,
        name=model.name,
        layers=layers or model.layers,
        precision=precision,
        target=target,
        force=force,
        progress=progress,
    )


def find_checkpoint(model: KnownModel, checkpoint: str | None) -> Path | str:
    """The local directory of the checkpoint, or the Hub id to fetch it from. Raises CheckpointError."""
    if checkpoint is None and model.embedded:
        return model.checkpoint
    wanted = checkpoint or model.source
    local = Path(wanted).expanduser()
    if local.is_dir():
        return local
    if local.exists():
        raise CheckpointError(f"{local} is a file; --checkpoint wants the directory that holds config.json")
    if wanted.count("/") != 1 or wanted.startswith((".", "/", "~")):
        raise CheckpointError(
            f"{wanted} does not exist; --checkpoint wants a directory or a Hub id such as org/name"
        )
    return wanted


def download(hub_id: str) -> Path:
    """The files of a checkpoint from the Hub, kept in the Hub's own cache. Raises BuildError."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(CHECKPOINT_FILES)))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BuildError(
            f"could not get {hub_id} from the Hub ({reason}); give a local copy with --checkpoint DIR"
        ) from error
