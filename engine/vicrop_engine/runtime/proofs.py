"""On which processors an engine was proven to give what it gave where it was built, in the user's cache.

A cache that cannot be written only means proving again. Knows machines and files; runs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vicrop_engine.engine_dir.files import MANIFEST, hash_file
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.registry import cache_directory
from vicrop_engine.errors import ConfigError
from vicrop_engine.runtime.onnx_runtime import installed_runtime
from vicrop_engine.runtime.processor import processor_kind
from vicrop_engine.runtime.sessions import adds_in_16_bits


@dataclass(frozen=True)
class Proof:
    """One processor and ONNX Runtime, and there the distances of the probe's outputs, by name."""

    processor: str
    onnxruntime: str
    distances: dict[str, float] = field(default_factory=dict)


def this_machine() -> Proof:
    """What decides which kernels run here. Raises ProviderError without a sound ONNX Runtime."""
    # The system may describe another processor than the one that runs, as under an emulator.
    sums = "; byte products in 16 bits" if adds_in_16_bits() else ""
    return Proof(processor_kind() + sums, str(installed_runtime().__version__))


def is_proven(directory: Path, manifest: Manifest) -> bool:
    """Whether this very engine was proven on such a machine: where it was built, or here before."""
    here, probed = this_machine(), manifest.probe
    if probed is not None and (probed.processor, probed.onnxruntime) == (here.processor, here.onnxruntime):
        return True
    note = _note(directory, here)
    return note is not None and note.is_file()


def remember(directory: Path, proof: Proof) -> None:
    """Note that this engine was proven, where notes can be written."""
    note = _note(directory, proof)
    if note is None:
        return
    partial = note.with_name(f"{note.name}.partial-{os.getpid()}")
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(proof)) + "\n", encoding="utf-8")
        partial.replace(note)


def proven_on(directory: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """Every processor and ONNX Runtime that this engine was proven on, that of its build first."""
    probed, found = manifest.probe, []
    if probed is not None:
        found.append({"processor": probed.processor, "onnxruntime": probed.onnxruntime, "distances": {}})
    folder = _folder(directory)
    for note in sorted(folder.glob("*.json")) if folder is not None else ():
        with contextlib.suppress(OSError, ValueError, ConfigError):
            found.append(asdict(parse(Proof, json.loads(note.read_text(encoding="utf-8")), str(note))))
    machines = {(each["processor"], each["onnxruntime"]): each for each in reversed(found)}
    return list(machines.values())[::-1]


def _folder(directory: Path) -> Path | None:
    """The notes about this engine, by its manifest's hash; None without a home."""
    cache = cache_directory()
    return None if cache is None else cache / "proven" / hash_file(directory / MANIFEST).sha256


def _note(directory: Path, machine: Proof) -> Path | None:
    folder = _folder(directory)
    facts = f"{machine.processor}\n{machine.onnxruntime}"
    return None if folder is None else folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"
