"""Remote pictures over a network that is none: names resolve to what a test says, hosts answer its bytes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from scripts import hostile_pictures as hostile
from vicrop_engine.errors import ImageError
from vicrop_engine.server.guard.network import Network
from vicrop_engine.server.guard.remote_image import fetch_image, parse_address
from vicrop_engine.server.guard.untrusted_image import load_image
from vicrop_engine.server.settings import ServerSettings

PNG = hostile.noise(random.Random(5), "PNG")
PUBLIC = "93.184.216.34"
SETTINGS = ServerSettings(allow_remote_images=True, remote_seconds=5.0)


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def moved(to: str, status: str = "302 Found") -> bytes:
    return answer(b"", status, f"Location: {to}")


@dataclass
class FakeNetwork(Network):
    """Names to the addresses that they have in turn; (address, port) to the bytes that answer there."""

    names: dict[str, list[list[str]]]
    hosts: dict[str, bytes] = field(default_factory=dict)
    resolved: list[str] = field(default_factory=list)
    connected: list[tuple[str, int, str | None]] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    stays_open: bool = False

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if host not in self.names:
            raise OSError("unknown name")
        turns = self.names[host]
        return turns.pop(0) if len(turns) > 1 else turns[0]

    async def connect(
        self, address: str, port: int, *, tls_host: str | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.connected.append((address, port, tls_host))
        reader = asyncio.StreamReader()
        reader.feed_data(self.hosts[address])
        if not self.stays_open:
            reader.feed_eof()
        return reader, FakeWriter(self.requests)  # type: ignore[return-value]


class FakeWriter:
    """Keeps what is written to it."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = requests
        self.transport = self

    def write(self, data: bytes) -> None:
        self._requests.append(data)

    async def drain(self) -> None: ...

    def abort(self) -> None: ...


def fetch(url: str, network: FakeNetwork, settings: ServerSettings = SETTINGS) -> bytes:
    return asyncio.run(fetch_image(url, settings, network))


def one(body: bytes, **more: object) -> FakeNetwork:
    return FakeNetwork({"pictures.example": [[PUBLIC]]}, {PUBLIC: body}, **more)  # type: ignore[arg-type]


def test_a_picture_comes_from_the_address_that_was_checked() -> None:
    network = one(answer(PNG))
    assert fetch("https://pictures.example/a/b.png?c=1#d", network) == PNG
    assert network.connected == [(PUBLIC, 443, "pictures.example")]
    head = network.requests[0].decode()
    assert head.startswith("GET /a/b.png?c=1 HTTP/1.1\r\nHost: pictures.example\r\n")
    assert "cookie" not in head.lower()
    assert "authorization" not in head.lower()
    assert asyncio.run(load_image("http://pictures.example", SETTINGS, network)) == PNG
    assert network.connected[1] == (PUBLIC, 80, None)


def test_what_comes_is_checked_like_every_other_picture() -> None:
    with pytest.raises(ImageError, match="is not PNG, JPEG, WEBP, GIF"):
        asyncio.run(load_image("https://pictures.example", SETTINGS, one(answer(b"<html></html>"))))


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a00:1"],
        [],
        [PUBLIC, "10.0.0.1"],
        ["fd00::1", PUBLIC],
    ],
)
def test_a_name_with_one_address_that_is_not_public_is_not_asked(found: list[str]) -> None:
    network = FakeNetwork({"inside.example": [found]})
    with pytest.raises(ImageError, match="not on the public network") as caught:
        fetch("https://inside.example/", network)
    assert network.connected == []
    assert not any(address in str(caught.value) for address in found)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost", "LOCALHOST."])
def test_addresses_in_place_of_names_are_resolved_and_checked_too(host: str) -> None:
    network = FakeNetwork({host.strip("[]").lower(): [["127.0.0.1"]]})
    with pytest.raises(ImageError, match="not on the public network"):
        fetch(f"http://{host}/", network)
    assert network.resolved == [host.strip("[]").lower()]


def test_a_name_that_changes_its_mind_changes_nothing() -> None:
    network = FakeNetwork({"two.example": [[PUBLIC], ["127.0.0.1"]]}, {PUBLIC: answer(PNG)})
    assert fetch("https://two.example/", network) == PNG
    assert network.resolved == ["two.example"]
    assert network.connected == [(PUBLIC, 443, "two.example")]


def test_redirects_are_followed_with_the_same_checks() -> None:
    other = "1.1.1.1"
    network = FakeNetwork(
        {"a.example": [[PUBLIC]], "b.example": [[other]]},
        {PUBLIC: moved("//b.example/c.png"), other: answer(PNG)},
    )
    assert fetch("https://a.example/", network) == PNG
    assert network.connected == [(PUBLIC, 443, "a.example"), (other, 443, "b.example")]
    network = FakeNetwork(
        {"a.example": [[PUBLIC]], "in.example": [["10.0.0.1"]]}, {PUBLIC: moved("http://in.example")}
    )
    with pytest.raises(ImageError, match="not on the public network"):
        fetch("http://a.example/", network)
    assert network.connected == [(PUBLIC, 80, None)]


def test_a_name_that_moves_inside_on_its_redirect_is_not_followed() -> None:
    network = FakeNetwork({"two.example": [[PUBLIC], ["10.0.0.1"]]}, {PUBLIC: moved("/again")})
    with pytest.raises(ImageError, match="not on the public network"):
        fetch("https://two.example/", network)
    assert len(network.connected) == 1


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://pictures.example/", "neither http nor https"),
        ("http://pictures.example:8080/", "port 8080"),
        ("http://user:key@pictures.example/", "user name"),
        ("http://[::1", "no URL"),
    ],
)
def test_redirects_to_what_could_not_be_asked_for(to: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        fetch("http://pictures.example/", one(moved(to)))


def test_redirects_end_after_three() -> None:
    network = one(moved("/on"))
    with pytest.raises(ImageError, match="more than 3 times"):
        fetch("https://pictures.example/", network)
    assert len(network.connected) == 4


def test_https_is_not_left() -> None:
    with pytest.raises(ImageError, match="from https to another scheme"):
        fetch("https://pictures.example/", one(moved("http://pictures.example/")))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (answer(bytes(1001)), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001), "more than 1000 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + bytes(1001),
            "more than 1000 bytes",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "more than 1000 bytes"),
        (answer(b"", "404 Not Found"), "status 404"),
        (answer(b"", "206 Partial Content"), "status 206"),
        (answer(b"", "302 Found"), "status 302"),
        (answer(b"x", "200 OK", "Content-Encoding: gzip"), "compressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "broken"),
        (b"", "broken"),
        (b"220 smtp.example ESMTP\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 40_000, "broken"),
    ],
)
def test_answers_that_are_no_picture(body: bytes, words: str) -> None:
    settings = ServerSettings(allow_remote_images=True, max_image_bytes=1000)
    with pytest.raises(ImageError, match=words):
        fetch("https://pictures.example/", one(body), settings)


def test_an_answer_has_a_time_to_be_there() -> None:
    settings = ServerSettings(allow_remote_images=True, remote_seconds=0.05)
    with pytest.raises(ImageError, match=r"within 0\.05 seconds"):
        fetch("https://pictures.example/", one(b"HTTP/1.1 200 OK\r\n", stays_open=True), settings)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a b",
        "https://host\\@other/",
        "https://ho\nst/",
        "https://höst/",
        "https:///path",
        "https://",
        "https://host:99999/",
        "https://host:22/",
        "https://a@host/",
        "https://%6cocalhost/",
        "javascript:alert(1)",
        "https://host/" + "a" * 3000,
        "https://[::1]a/",
        "http:host",
        "https://ho*st/",
    ],
)
def test_urls_that_are_not_asked(url: str) -> None:
    with pytest.raises(ImageError):
        parse_address(url)


def test_an_unknown_name_is_said_to_be_out_of_reach() -> None:
    with pytest.raises(ImageError, match="cannot be reached"):
        fetch("https://nowhere.example/", FakeNetwork({}))
