"""What is checked before an engine is opened: manifest, sizes and graphs always, weights once per copy.

That a copy's weights were checked is remembered in the user's cache by path, size and time of change; a cache
that cannot be written only means checking again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vicrop_engine.engine_dir.files import MANIFEST, FileEntry, hash_file, verify_hashes
from vicrop_engine.engine_dir.manifest import Manifest, read_manifest, remedy_command
from vicrop_engine.engine_dir.registry import cache_directory


def checked_manifest(directory: Path, *, verify: bool = False) -> Manifest:
    """The manifest of an engine whose files agree with it; `verify` hashes the weights in any case.

    Raises EngineDirectoryError and EngineDamagedError.
    """
    manifest = read_manifest(directory)
    check_once(directory, manifest.files, remedy_command(manifest), verify=verify)
    return manifest


def check_once(directory: Path, files: Mapping[str, FileEntry], remedy: str, *, verify: bool = False) -> None:
    """Compare the files with their hashes; those of weights when `verify` or never done for this copy.

    Raises EngineDamagedError, ending in `remedy`.
    """
    marker = _marker(directory, files)
    known = marker is not None and not verify and marker.exists()
    verify_hashes(directory, files, remedy, weights=not known)
    if marker is not None and not known:
        _remember(marker)


def _marker(directory: Path, files: Iterable[str]) -> Path | None:
    """A file whose name stands for this directory with exactly these files; None without a home."""
    cache = cache_directory()
    if cache is None:
        return None
    facts = [str(directory.resolve()), hash_file(directory / MANIFEST).sha256]
    for name in sorted(files):
        status = (directory / name).stat()
        facts.append(f"{name} {status.st_size} {status.st_mtime_ns} {status.st_ino}")
    digest = hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()
    return cache / "verified" / digest


def _remember(marker: Path) -> None:
    with contextlib.suppress(OSError):
        marker.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(marker, os.O_CREAT | os.O_WRONLY, 0o644))
