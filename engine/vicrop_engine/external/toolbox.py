"""The localizer models an engine may use: found when a method needs them, opened once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vicrop_engine.engine_dir.files import MANIFEST
from vicrop_engine.engine_dir.registry import cached_tool
from vicrop_engine.errors import ToolMissingError
from vicrop_engine.external.clip import Similarity, open_similarity
from vicrop_engine.external.sam import Segmenter, open_segmenter
from vicrop_engine.external.yolo import Detector, open_detector

_Tool = TypeVar("_Tool")


class Toolbox:
    """Directories given by kind ("clip", …), else those in the cache; `threads` as the engine has."""

    def __init__(
        self, given: Mapping[str, str | os.PathLike[str] | None] | None = None, threads: int | None = None
    ) -> None:
        self._given = {kind: Path(place) for kind, place in (given or {}).items() if place is not None}
        self._threads = threads
        self._open: dict[str, Any] = {}
        self._lock = threading.Lock()

    def prepare(self, method: object) -> None:
        """Open what a method needs. Raises what the methods below raise."""
        needs: dict[str, tuple[Callable[[], object], ...]] = {
            "clip": (self.similarity,),
            "yolo": (self.detector, self.similarity),
            "sam": (self.segmenter, self.similarity),
        }
        for open_tool in needs.get(method, ()) if isinstance(method, str) else ():
            open_tool()

    def similarity(self) -> Similarity:
        """CLIP. Raises ToolMissingError, EngineDirectoryError, EngineDamagedError and ProviderError."""
        return self._opened("clip", open_similarity)

    def detector(self) -> Detector:
        """The detector. Raises as `similarity` does."""
        return self._opened("yolo", open_detector)

    def segmenter(self) -> Segmenter:
        """The segmenter. Raises as `similarity` does."""
        return self._opened("sam", open_segmenter)

    def _opened(self, kind: str, open_tool: Callable[[Path, int | None], _Tool]) -> _Tool:
        with self._lock:
            if kind not in self._open:
                self._open[kind] = open_tool(self._directory(kind), self._threads)
            tool: _Tool = self._open[kind]
            return tool

    def _directory(self, kind: str) -> Path:
        if kind in self._given:
            return self._given[kind]
        cached = cached_tool(kind)
        if not (cached / MANIFEST).is_file():
            raise ToolMissingError(
                f"the localizer model {kind!r} was never built here; run 'vicrop-engine build {kind}', or "
                f"give its directory with --{kind} DIR (in Python ViCropEngine.load(..., {kind}=DIR))"
            )
        return cached
