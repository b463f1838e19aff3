"""Whatever stands where a picture's URL should: a picture, or an ImageError, and nothing of the network."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from vicrop_engine.errors import ImageError
from vicrop_engine.server.guard.network import Network
from vicrop_engine.server.guard.public_address import is_public
from vicrop_engine.server.guard.remote_image import PORTS, parse_address
from vicrop_engine.server.guard.untrusted_image import load_image
from vicrop_engine.server.settings import ServerSettings

SIGNS = "htps:/@[]?#.%\\ \n\t0123456789abcx;,=-_~é＠。"
SETTINGS = ServerSettings(allow_remote_images=True)


class Nowhere(Network):
    """Every name is on this machine."""

    async def resolve(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def connect(
        self, address: str, port: int, *, tls_host: str | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise AssertionError(f"connected to {address}")


NOWHERE = Nowhere()


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(["http://", "https://", "data:image/png;base64,", "data:", ""]), rest=st.text(SIGNS)
)
def test_any_url(start: str, rest: str) -> None:
    found = None
    try:
        asyncio.run(load_image(start + rest, SETTINGS, NOWHERE))
    except ImageError as error:
        found = str(error)
    assert found is not None, "no picture could be there"
    assert found.isprintable()


@settings(max_examples=300, deadline=None)
@given(rest=st.text(SIGNS))
def test_what_may_be_asked_is_one_host_on_a_known_port(rest: str) -> None:
    try:
        address = parse_address("https://" + rest)
    except ImageError:
        return
    assert address.port in PORTS.values()
    assert address.host
    assert not set(address.host) & set("@/\\?# %\n")
    assert not set(address.target) & set(" \n\r\t")
    assert address.target.startswith("/")


@settings(max_examples=300, deadline=None)
@given(address=st.ip_addresses())
def test_public_is_never_more_than_global(address: object) -> None:
    assert not is_public(str(address)) or address.is_global  # type: ignore[attr-defined]
    assert not is_public(f"::ffff:{address}")
