"""Where a checkpoint is and which one it is: a local directory, or a repository on the Hugging Face hub.

Knows file names and hashes; reads no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.registry import DEFAULT, find_model
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.formats import (
    configuration,
    nested_adapters,
    refuse_adapters,
    refuse_formats,
    refuse_other_weights,
)
from vicrop_export.checkpoint.hub import fetch, list_files
from vicrop_export.checkpoint.tensors import (
    INDEX,
    WEIGHTS,
    demand_weights,
    file_names,
    weight_files,
    weight_names,
)
from vicrop_export.progress import FetchProgress

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    *TOKENIZER_FILES,
    "preprocessor_config.json",
    "processor_config.json",
    *(f"qformer_tokenizer/{name}" for name in TOKENIZER_FILES),  # of what a vision part reads
)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files on this machine, and how a manifest names it.

    `source` is the hub id, or the last part of a local path; `revision` the hub's commit, or a hash over the
    files. `weights` are those files of the hub that hold them, fetched or not; a directory names none.
    """

    directory: Path
    source: str
    revision: str
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointKind:
    """What kind of checkpoint is looked for, a hub id of one, and whether it has a tokenizer."""

    kind: str
    example: str
    tokenizer: bool = True


MODEL = CheckpointKind("model", find_model(DEFAULT).source)


def refuse_impossible(checkpoint: Path | str, wanted: CheckpointKind = MODEL) -> None:
    """Raise CheckpointError for what is no checkpoint directory and cannot be a hub id; reads no weights."""
    directory = Path(checkpoint)
    if directory.is_dir():
        names = file_names(directory)
        refuse_formats(configuration(directory), directory)
        refuse_adapters({*names, *nested_adapters(directory)}, directory)
        refuse_other_weights(names, directory)
        _demand_files(names, directory, wanted)
        weight_files(directory)
        return
    if directory.exists():
        raise CheckpointError(f"{checkpoint} is a file; wanted the directory of a {wanted.kind} checkpoint")
    if not _looks_like_hub_id(str(checkpoint)):
        raise CheckpointError(
            f"{checkpoint} does not exist; wanted the directory of a {wanted.kind} checkpoint or a hub id "
            f"such as {wanted.example!r}"
        )


def locate(checkpoint: Path | str, wanted: CheckpointKind = MODEL) -> Checkpoint:
    """Find a local directory, or a hub repository, of which everything but the weights is fetched.

    Raises CheckpointError and BuildError.
    """
    refuse_impossible(checkpoint, wanted)
    directory = Path(checkpoint)
    if directory.is_dir():
        return Checkpoint(directory, directory.resolve().name, fingerprint(directory))
    return _locate_on_hub(str(checkpoint), wanted)


def fetch_weights(checkpoint: Checkpoint, progress: FetchProgress) -> None:
    """Fetch the weights of a hub repository; those of a directory are there.

    Raises CheckpointError, BuildError and NoSpaceError.
    """
    if checkpoint.weights:
        fetch(checkpoint.source, checkpoint.weights, revision=checkpoint.revision, progress=progress)
        weight_files(checkpoint.directory)


def fingerprint(directory: Path) -> str:
    """`sha256:` and a hash over the names and contents of every file a build reads."""
    files = [path for name in SMALL_FILES if (path := directory / name).is_file()]
    total = hashlib.sha256()
    for path in (*files, *weight_files(directory)):
        total.update(f"{path.name} {hash_file(path).sha256}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _demand_files(names: Collection[str], place: Path | str, wanted: CheckpointKind) -> None:
    """Raise CheckpointError for what a checkpoint of these files, found at `place`, lacks."""
    demand_weights(names, place)
    if wanted.tokenizer and "tokenizer.json" not in names:
        raise CheckpointError(
            f"{place}: no tokenizer.json; make one with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    if not any(name in names for name in PROCESSOR_FILES):
        raise CheckpointError(
            f"{place}: no {' and no '.join(PROCESSOR_FILES)}; copy the image processor's file from where "
            "the checkpoint was published"
        )


def _looks_like_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)


def _locate_on_hub(hub_id: str, wanted: CheckpointKind) -> Checkpoint:
    listed = list_files(hub_id)
    if listed is not None:
        refuse_adapters(listed, hub_id)
        refuse_other_weights(listed, hub_id)
        _demand_files(listed, hub_id, wanted)
    directory = fetch(hub_id, (*SMALL_FILES, INDEX))
    refuse_formats(configuration(directory), hub_id)
    single = listed is not None and WEIGHTS in listed
    weights = [WEIGHTS] if single else weight_names(directory)
    return Checkpoint(directory, hub_id, directory.name, tuple(weights))
