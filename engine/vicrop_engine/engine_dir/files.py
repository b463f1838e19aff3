"""The files of an engine directory: their sizes and hashes, and whether they are as the manifest says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicrop_engine.errors import EngineDamagedError

MANIFEST = "manifest.json"

WEIGHT_SUFFIXES = (".data", ".npy", ".plan")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and sha256 (hex) of one file of an engine directory."""

    size: int
    sha256: str


def hash_file(path: Path) -> FileEntry:
    """Size and sha256 of one file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(os.fstat(file.fileno()).st_size, digest)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document and flush it to the disk."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def check_sizes(directory: Path, files: Mapping[str, FileEntry], remedy: str) -> None:
    """Raises EngineDamagedError, ending in `remedy`, for a file outside, missing or of a wrong size."""
    for name, entry in files.items():
        if Path(name).name != name:
            raise EngineDamagedError(f"{directory / MANIFEST} lists {name!r} outside it; {remedy}")
        _check_size(directory / name, entry, remedy)


def verify_hashes(directory: Path, files: Mapping[str, FileEntry], remedy: str, *, weights: bool) -> None:
    """Compare sizes and hashes, with `weights` False not those of the large weight files.

    Raises EngineDamagedError, ending in `remedy`.
    """
    for name, entry in files.items():
        if name.endswith(WEIGHT_SUFFIXES) and not weights:
            continue
        _check_size(directory / name, entry, remedy)
        if hash_file(directory / name) != entry:
            raise EngineDamagedError(f"{directory / name}: sha256 differs from the manifest; {remedy}")


def _check_size(path: Path, entry: FileEntry, remedy: str) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise EngineDamagedError(f"{path} is missing; {remedy}") from error
    if size != entry.size:
        raise EngineDamagedError(f"{path} has {size} bytes and the manifest says {entry.size}; {remedy}")
