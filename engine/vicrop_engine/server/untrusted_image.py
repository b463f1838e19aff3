"""A picture out of a request: the bytes behind its URL."""

from __future__ import annotations

import asyncio
import base64
import binascii

from vicrop_engine.errors import ImageError
from vicrop_engine.server.settings import ServerSettings


async def load_image(url: str, settings: ServerSettings) -> bytes:
    """The bytes of a data: URL. Raises ImageError."""
    head, _, data = url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ImageError("the picture's URL is no data:image/...;base64,... URL; send one")
    try:
        return await asyncio.to_thread(base64.b64decode, data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("the picture's data: URL is not valid base64; encode it again") from error
