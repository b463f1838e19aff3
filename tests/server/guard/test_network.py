"""The network itself, on 127.0.0.1: names become addresses, and certificates have to be the host's."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from vicrop_engine.server.guard.network import Network, own_network

CERTIFICATE = Path(__file__).parent / "pictures_example.pem"  # with its key, which nobody else has a use for


def test_an_address_resolves_to_itself_and_is_connected_to() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(5))
        writer.close()

    async def ask() -> tuple[list[str], bytes]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        network = Network()
        found = await network.resolve("127.0.0.1", port)
        reader, writer = await network.connect(found[0], port, tls_host=None)
        writer.write(b"hello")
        answer = await reader.read()
        writer.close()
        server.close()
        return found, answer

    assert asyncio.run(ask()) == (["127.0.0.1"], b"hello")


def handshake(network: Network, tls_host: str) -> None:
    """Connect to a server on 127.0.0.1 whose certificate is pictures.example's, and signed by itself."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(CERTIFICATE)

    async def connect() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
        port = server.sockets[0].getsockname()[1]
        try:
            _, writer = await network.connect("127.0.0.1", port, tls_host=tls_host)
            writer.transport.abort()
        finally:
            server.close()

    asyncio.run(connect())


def test_certificates_have_to_be_signed_and_the_hosts_own() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        handshake(own_network(), "pictures.example")
    network = Network()
    network._tls.load_verify_locations(CERTIFICATE)
    handshake(network, "pictures.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.example'"):
        handshake(network, "other.example")


def test_there_is_one_network_for_the_process() -> None:
    assert own_network() is own_network()
