"""HEIC, which Pillow reads by pillow-heif where that is installed. Loaded when such a picture comes."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

HEIF = "HEIF"
INSTALL = "pip install 'vicrop-engine[heic]'"


@cache
def reads_heif() -> bool:
    """Whether Pillow reads HEIC from now on."""
    if find_spec("pillow_heif") is None:
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    return True
