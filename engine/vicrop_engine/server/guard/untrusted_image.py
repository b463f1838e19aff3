"""Pictures as requests bring them: `data:` URLs, and others where the server was told to fetch them.

What comes back has passed every check that needs no pixel; decoding it is the engine's work.
"""

from __future__ import annotations

import asyncio
import binascii
import io
import re
from dataclasses import replace

from vicrop_engine.errors import ImageError
from vicrop_engine.images.picture import ALL_FROM_STRANGERS, FROM_STRANGERS, ImageLimits, picture_size
from vicrop_engine.server.guard.network import Network
from vicrop_engine.server.guard.remote_image import fetch_image
from vicrop_engine.server.guard.sloppy_url import tidied
from vicrop_engine.server.settings import ServerSettings

_HEAD = re.compile(r"data:([A-Za-z0-9.+/*_-]*)((?:;[A-Za-z0-9.+=_-]+)*),", re.IGNORECASE)
_LONGEST_HEAD = 200
PIECE = 1 << 20  # characters of base64 that are decoded at a time
_REMOTE = re.compile(r"https?:", re.IGNORECASE)


class UrlError(ImageError):
    """A URL that is not written as it should be."""


async def load_image(url: str, settings: ServerSettings, network: Network | None = None) -> bytes:
    """The encoded picture of an `image_url`, in a format that is known and within the limits.

    Raises ImageError. `network` is for tests.
    """
    if _REMOTE.match(url):
        if not settings.allow_remote_images:
            raise ImageError(
                "the picture is given by an http URL, which this server does not fetch; send a data: URL"
            )
        data = await fetch_image(url, settings, network)
        await asyncio.to_thread(picture_size, data, _limits(settings))
        return data
    return await asyncio.to_thread(read_data_url, url, settings)


def read_data_url(url: str, settings: ServerSettings) -> bytes:
    """The encoded picture in a `data:` URL (RFC 2397) of base64. Raises ImageError.

    Line breaks and spaces in the base64 are none of it, and the media type is a hint: the bytes decide. Where
    the server is not strict the URL may be sloppy.
    """
    try:
        data = _read(url, settings)
    except UrlError:
        tidy = None if settings.strict else tidied(url)
        if tidy is None:
            raise
        data = _read(tidy, settings)
    picture_size(data, _limits(settings))
    return data


def _read(url: str, settings: ServerSettings) -> bytes:
    """The bytes in the URL. Raises UrlError where it is not as RFC 2397 has it, and ImageError."""
    start = _start(url)
    length = (len(url) - start) // 4 * 3
    if length - 2 > settings.max_image_bytes:
        raise ImageError(
            f"the picture has about {length} bytes and the limit is {settings.max_image_bytes}; "
            "give a smaller one"
        )
    try:
        data = _decoded(url, start)
    except ValueError as error:
        raise UrlError("the picture's data: URL is not base64; send A-Z a-z 0-9 + / with its =") from error
    return data


def _decoded(url: str, start: int) -> bytes:
    """The bytes of the base64 that begins there, piece by piece. Raises ValueError.

    From the first padding on it is one piece, for that ends base64.
    """
    decoded, rest = io.BytesIO(), b""
    for at in range(start, len(url), PIECE):
        rest += b"".join(url[at : at + PIECE].encode("ascii").split())
        padding = rest.find(b"=")
        whole = (len(rest) if padding < 0 else padding) // 4 * 4
        decoded.write(binascii.a2b_base64(rest[:whole], strict_mode=True))
        rest = rest[whole:]
    decoded.write(binascii.a2b_base64(rest, strict_mode=True))
    return decoded.getvalue()


def _start(url: str) -> int:
    """Where the base64 of a data URL begins."""
    found = _HEAD.match(url, 0, _LONGEST_HEAD)
    if found is None:
        raise UrlError("the picture's URL is no data: URL; send data:image/png;base64,... or another format")
    if not found[2].lower().endswith(";base64"):
        raise UrlError("the picture's data: URL is not in base64; send data:image/png;base64,...")
    return found.end()


def _limits(settings: ServerSettings) -> ImageLimits:
    limits = FROM_STRANGERS if settings.strict else ALL_FROM_STRANGERS
    return replace(limits, max_pixels=settings.max_pixels, max_bytes=settings.max_image_bytes)
