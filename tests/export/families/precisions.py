"""Engines of one checkpoint in several precisions: all of real builds, but they share what is exported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicrop_engine.engine_dir.manifest import CPU, Manifest
from vicrop_export import build
from vicrop_export.checks import agreement
from vicrop_export.onnx_files.exported import export_described


class Precisions:
    """Builds of the checkpoint that `write` makes, each once; `compared` questions are asked, not all."""

    def __init__(self, write: Callable[[Path], Path], name: str, compared: int) -> None:
        self._write, self._name, self._compared = write, name, compared
        self._folder = tempfile.TemporaryDirectory(prefix="vicrop-precisions-")
        self._exported: dict[str, Any] = {}
        self._built: dict[tuple[str, str], tuple[Path, Manifest]] = {}

    @property
    def checkpoint(self) -> Path:
        """Written when first asked for."""
        place = Path(self._folder.name) / "checkpoint"
        return place if place.exists() else self._write(place)

    def engine(self, precision: str, target: str = CPU) -> tuple[Path, Manifest]:
        """The directory and its manifest; graphs of other targets are exported for themselves."""
        key = target, precision
        if key not in self._built:
            output = Path(self._folder.name) / "-".join(key)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(agreement, "MOST", self._compared)
                if target == CPU:
                    patch.setattr(build, "export_described", self._once)
                made = build.build_engine(
                    self.checkpoint, output, name=self._name, precision=precision, target=target
                )
            self._built[key] = output, made
        return self._built[key]

    def _once(self, name: str, *rest: Any) -> Any:
        if name not in self._exported:
            self._exported[name] = export_described(name, *rest)
        return self._exported[name]
