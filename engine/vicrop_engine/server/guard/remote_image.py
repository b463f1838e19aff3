"""Pictures from http and https addresses, fetched without reaching anything that is not public.

Each name is resolved once, every address it has must be public, and the connection goes to the address that
was checked: a name that changes its mind in between (DNS rebinding) changes nothing. A redirect is a new
address with the same checks. Proxies of the environment, cookies and credentials do not exist here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import h11

from vicrop_engine.errors import ImageError
from vicrop_engine.server.guard.network import Network, own_network
from vicrop_engine.server.guard.public_address import is_public
from vicrop_engine.server.settings import ServerSettings

PORTS = {"http": 80, "https": 443}
MAX_REDIRECTS = 3
MAX_HEADER_BYTES = 16 * 1024
MAX_URL = 2048
READ_BYTES = 64 * 1024
_REDIRECTS = {301, 302, 303, 307, 308}
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True)
class Address:
    """Where a picture is said to be: scheme, host without brackets, port, path with query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def named(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


async def fetch_image(url: str, settings: ServerSettings, network: Network | None = None) -> bytes:
    """The bytes at `url`, at most `max_image_bytes`, redirects and all within `remote_seconds`.

    Raises ImageError, which never says what an address resolved to.
    """
    network = network or own_network()
    try:
        async with asyncio.timeout(settings.remote_seconds):
            return await _follow(url, settings, network)
    except TimeoutError as error:
        raise ImageError(
            f"the picture's address gave no picture within {settings.remote_seconds:g} seconds; "
            "send the picture in a data: URL"
        ) from error
    except (OSError, UnicodeError, h11.ProtocolError) as error:
        raise ImageError(
            "the picture's address cannot be reached, or what answers there is broken; "
            "send the picture in a data: URL"
        ) from error


async def _follow(url: str, settings: ServerSettings, network: Network) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        address = parse_address(url)
        moved, body = await _get(address, settings.max_image_bytes, network)
        if moved is None:
            return body
        moved = _joined(url, moved)
        if address.scheme == "https" and not moved.lower().startswith("https:"):
            raise ImageError("the picture's address leads from https to another scheme; give the last one")
        url = moved
    raise ImageError(f"the picture's address leads on more than {MAX_REDIRECTS} times; give the last one")


def _joined(url: str, moved: str) -> str:
    try:
        return urljoin(url, moved)
    except ValueError as error:
        raise ImageError("the picture's address leads to what is no URL; give the last one") from error


def parse_address(url: str) -> Address:
    """The parts of an http or https URL that may be fetched. Raises ImageError."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
        raise ImageError(f"the picture's URL has signs that no URL has, or more than {MAX_URL} of them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ImageError(
            "the picture's URL cannot be read; give one like https://host/picture.png"
        ) from error
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise ImageError("the picture's URL is neither http nor https; give one of these or a data: URL")
    if "@" in parts.netloc:
        raise ImageError("the picture's URL holds a user name; give one without")
    port = PORTS[scheme] if port is None else port
    if port not in PORTS.values():
        raise ImageError(
            f"the picture's URL has port {port}; only {', '.join(map(str, PORTS.values()))} are asked"
        )
    if not _HOST.fullmatch(parts.netloc.removesuffix(f":{port}").removesuffix(":")):
        raise ImageError(
            "the picture's URL has no host that can be asked; give one like https://host/picture.png"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(scheme, (parts.hostname or "").lower(), port, target)


async def _get(address: Address, limit: int, network: Network) -> tuple[str | None, bytes]:
    """One request: where it leads on, or the body."""
    checked = await _public(address, network)
    tls_host = address.host if address.scheme == "https" else None
    reader, writer = await network.connect(checked, address.port, tls_host=tls_host)
    try:
        connection = h11.Connection(h11.CLIENT, MAX_HEADER_BYTES)
        writer.write(_request(connection, address))
        await writer.drain()
        return await _answer(connection, reader, limit)
    finally:
        writer.transport.abort()


async def _public(address: Address, network: Network) -> str:
    """The one address to connect to, when every one that the name has is public. Raises ImageError."""
    found: Sequence[str] = await network.resolve(address.host, address.port)
    if not found or not all(is_public(each) for each in found):
        raise ImageError(
            "the picture's address is not on the public network; send the picture in a data: URL"
        )
    return found[0]


def _request(connection: h11.Connection, address: Address) -> bytes:
    headers = [
        ("Host", address.named),
        ("User-Agent", "vicrop-engine"),
        ("Accept", "image/png, image/jpeg, image/webp, image/gif"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    request = h11.Request(method="GET", target=address.target, headers=headers)
    return (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")


async def _answer(
    connection: h11.Connection, reader: asyncio.StreamReader, limit: int
) -> tuple[str | None, bytes]:
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            moved = _checked_head(event, limit)
            if moved is not None:
                return moved, b""
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise _too_large(limit)
        elif isinstance(event, h11.EndOfMessage):
            return None, bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("closed before its answer")


def _checked_head(response: h11.Response, limit: int) -> str | None:
    """Where an answer leads on, or None when its body is the picture. Raises ImageError."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    if response.status_code in _REDIRECTS and "location" in headers:
        return headers["location"]
    if response.status_code != 200:
        raise ImageError(f"the picture's address answers with status {response.status_code}, wanted 200")
    if headers.get("content-encoding", "identity") != "identity":
        raise ImageError(
            "the picture's address answers with compressed data; send the picture in a data: URL"
        )
    if int(headers.get("content-length", 0)) > limit:
        raise _too_large(limit)
    return None


def _too_large(limit: int) -> ImageError:
    return ImageError(f"the picture has more than {limit} bytes, which is the limit; give a smaller one")
