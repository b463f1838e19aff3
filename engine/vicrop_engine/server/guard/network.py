"""The network as remote pictures are fetched over it: names to addresses, and connections to an address.

Tests put another one in its place.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

RESOLVERS = 4  # threads of their own: a slow name server keeps nothing else waiting


class Network:
    """The machine's own resolver and TCP; certificates are verified against the system's authorities."""

    def __init__(self) -> None:
        self._tls = ssl.create_default_context()
        self._resolver = ThreadPoolExecutor(RESOLVERS, "resolver")

    async def resolve(self, host: str, port: int) -> list[str]:
        """Every address of `host`, in the system's order. Raises OSError."""
        loop = asyncio.get_running_loop()
        look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await loop.run_in_executor(self._resolver, look_up)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def connect(
        self, address: str, port: int, *, tls_host: str | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to exactly this address, with TLS when the certificate of `tls_host` is wanted.

        Raises OSError; ssl.SSLError is one.
        """
        tls = None if tls_host is None else self._tls
        return await asyncio.open_connection(address, port, ssl=tls, server_hostname=tls_host)


@functools.cache
def own_network() -> Network:
    """The one network of this process, made when first wanted."""
    return Network()
