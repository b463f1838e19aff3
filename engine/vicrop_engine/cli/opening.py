"""The engine that a command works with: found or built, with progress shown, and opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vicrop_engine.cli import output
from vicrop_engine.errors import SettingError

if TYPE_CHECKING:
    from vicrop_engine.engine import ViCropEngine

MIB = 1 << 20


@dataclass(frozen=True)
class Opening:
    """An engine by directory or name, and the options that say how it is opened."""

    engine: str
    threads: int | None = None
    share_weights: bool = False
    device: str | None = None
    tools: tuple[Path | None, Path | None, Path | None] = (None, None, None)
    no_probe: bool = False
    cache_mib: int | None = None
    huge_pages: bool = True

    def __post_init__(self) -> None:
        if self.cache_mib is not None and self.cache_mib < 0:
            raise SettingError(f"got --cache-mib {self.cache_mib}, wanted mebibytes from 0 up")

    def open(self) -> ViCropEngine:
        """Build it if it never was, and open it. Raises what `ViCropEngine.load` raises."""
        from vicrop_engine.builder import resolve
        from vicrop_engine.engine import ViCropEngine

        with output.progress_bar(self.engine) as progress:
            directory = resolve(self.engine, progress)
        clip, yolo, sam = self.tools
        return ViCropEngine.load(
            directory,
            threads=self.threads,
            cache_bytes=None if self.cache_mib is None else self.cache_mib * MIB,
            share_weights=self.share_weights,
            clip=clip,
            yolo=yolo,
            sam=sam,
            probe=not self.no_probe,
            huge_pages=self.huge_pages,
            **output.parse_device(self.device),
        )
