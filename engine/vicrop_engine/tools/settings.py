"""What a localizer model's directory says about its use, as plain records read from `settings.json`."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.config import Preprocessing


@dataclass(frozen=True)
class ClipSettings:
    """The image processor of the CLIP checkpoint and the most tokens its text encoder takes."""

    preprocessing: Preprocessing
    context_length: int
