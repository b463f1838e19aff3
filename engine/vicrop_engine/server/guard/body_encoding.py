"""Compressed bodies, made plain a piece at a time so that whoever reads can stop at any size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from vicrop_engine.server.problem import Problem, bad_request

PIECE = 1 << 18  # bytes that come of one step
PLAIN = ("", "identity")
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Decoder(Protocol):
    """What makes the parts of a body plain."""

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """The plain bytes in one more part. Raises Problem."""

    def check_whole(self) -> None:
        """Raises Problem where the end is missing."""


class Inflater:
    """Of gzip and zlib."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream = zlib.decompressobj(_WINDOWS[encoding])

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """The plain bytes in one more part, PIECE at most at a time. Raises Problem, status 400."""
        while part:
            if self._stream.eof:
                raise bad_request(f"the body goes on after the end of its {self._encoding}; send one stream")
            try:
                piece = self._stream.decompress(part, PIECE)
            except zlib.error:
                raise bad_request(f"the body is not {self._encoding}; send it as its header says") from None
            part = self._stream.unconsumed_tail or self._stream.unused_data
            yield piece

    def check_whole(self) -> None:
        """Raises Problem, status 400, where the end is missing."""
        if not self._stream.eof:
            raise bad_request(f"the body's {self._encoding} breaks off; send all of it")


class AsItIs:
    """Of a body without an encoding."""

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """The part."""
        yield part

    def check_whole(self) -> None:
        """It is."""


def decoder_of(encoding: str) -> Decoder:
    """The decoder for a Content-Encoding header. Raises Problem, status 415."""
    if encoding in PLAIN:
        return AsItIs()
    if encoding not in _WINDOWS:
        known = ", ".join(("gzip", "deflate"))
        raise Problem(
            415, f"got a body of Content-Encoding {encoding[:40]!r}, wanted {known}, or the body as it is"
        )
    return Inflater(encoding)
