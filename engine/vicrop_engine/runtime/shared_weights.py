"""Where processes of one machine share an engine's weights: a copy packed for this processor, made once.

ONNX Runtime repacks weights for the processor's kernels, in memory of each process. Written to a file once,
the packed weights are mapped, so that processes share one copy in memory; on the disk the file takes twice
the room of the weights. Knows places and names; the runtime writes the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vicrop_engine.engine_dir.registry import demand_cache
from vicrop_engine.runtime.processor import processor_kind


def shared_directory(engine_digest: str, runtime_version: str) -> Path:
    """The directory in the cache for this engine as this runtime packs it for this processor."""
    facts = "\n".join((engine_digest, runtime_version, processor_kind()))
    return demand_cache() / "shared-weights" / hashlib.sha256(facts.encode()).hexdigest()[:32]


@contextlib.contextmanager
def made_at_once(directory: Path) -> Iterator[Path]:
    """A new directory that takes the place of `directory` when the block ends well, else nothing is left.

    When another process was quicker its directory stays. Raises OSError.
    """
    partial = directory.with_name(f"{directory.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.iterdir():
            _flush(path)
        if not directory.exists():
            os.rename(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _flush(path: Path) -> None:
    """Put a file on the disk, so that its pages in memory are clean ones the system may drop."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
