"""Where a checkpoint is and which one it is: a local directory, or a repository on the Hugging Face hub.

Knows file names and hashes; reads no model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vicrop_engine.errors import BuildError, CheckpointError
from vicrop_engine.manifest import hash_file
from vicrop_export.quiet import reason
from vicrop_export.tensors import weight_files

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
HUB_PATTERNS = ["*.json", "*.safetensors"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files on this machine, and how a manifest names it.

    `source` is the hub id, or the last part of a local path; `revision` the hub's commit, or a hash over the
    files.
    """

    directory: Path
    source: str
    revision: str


@dataclass(frozen=True)
class Wanted:
    """What kind of checkpoint is looked for, a hub id of one, and whether it has a tokenizer."""

    kind: str
    example: str
    tokenizer: bool = True


LLAVA = Wanted("LLaVA", "llava-hf/llava-1.5-7b-hf")


def refuse_impossible(checkpoint: Path | str, wanted: Wanted = LLAVA) -> None:
    """Raise CheckpointError for what is no checkpoint directory and cannot be a hub id; reads no weights."""
    directory = Path(checkpoint)
    if directory.is_dir():
        _demand_files(directory, wanted)
        return
    if directory.exists():
        raise CheckpointError(f"{checkpoint} is a file; wanted the directory of a {wanted.kind} checkpoint")
    if not _looks_like_hub_id(str(checkpoint)):
        raise CheckpointError(
            f"{checkpoint} does not exist; wanted the directory of a {wanted.kind} checkpoint or a hub id "
            f"such as {wanted.example!r}"
        )


def locate(checkpoint: Path | str, wanted: Wanted = LLAVA) -> Checkpoint:
    """Find a local directory or fetch a hub repository. Raises CheckpointError or BuildError."""
    refuse_impossible(checkpoint, wanted)
    directory = Path(checkpoint)
    if directory.is_dir():
        return Checkpoint(directory, directory.resolve().name, fingerprint(directory))
    return _fetch(str(checkpoint), wanted)


def fingerprint(directory: Path) -> str:
    """`sha256:` and a hash over the names and contents of every file a build reads."""
    files = [path for name in SMALL_FILES if (path := directory / name).is_file()]
    total = hashlib.sha256()
    for path in (*files, *weight_files(directory)):
        total.update(f"{path.name} {hash_file(path).sha256}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _demand_files(directory: Path, wanted: Wanted) -> None:
    weight_files(directory)
    if wanted.tokenizer and not (directory / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{directory}: no tokenizer.json; make one with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    if not any((directory / name).is_file() for name in PROCESSOR_FILES):
        raise CheckpointError(
            f"{directory}: no {' and no '.join(PROCESSOR_FILES)}; copy the image processor's file from where "
            "the checkpoint was published"
        )


def _looks_like_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)


def _fetch(hub_id: str, wanted: Wanted) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        directory = Path(snapshot_download(hub_id, allow_patterns=HUB_PATTERNS))
    except HFValidationError as error:
        raise CheckpointError(f"{hub_id!r} is neither a directory nor a hub id ({reason(error)})") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BuildError(
            f"{hub_id} could not be fetched from the Hugging Face hub ({reason(error)}); check the "
            "network and the name, or give a local copy with --checkpoint DIR"
        ) from error
    _demand_files(directory, wanted)
    return Checkpoint(directory, hub_id, directory.name)
