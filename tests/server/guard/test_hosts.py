"""Hosts and origins: what a page in a browser can make a server on this machine do, which is nothing."""

from __future__ import annotations

import pytest

from tests.server.asking import Echo, ask
from vicrop_engine.server.guard.hosts import AllowedHosts
from vicrop_engine.server.settings import ServerSettings


def status(host: str, *, bound: str = "127.0.0.1", names: tuple[str, ...] = (), **headers: str) -> int:
    guard = AllowedHosts(Echo(), ServerSettings(host=bound, allowed_hosts=names))
    return ask(guard, host=host, **headers).status


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LocalHost.", "[::1]"]
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_its_own_names_are_answered(host: str, bound: str) -> None:
    assert status(host, bound=bound) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "localhost:8000:1",
        "localhost@evil.example",
        "localhost/",
        "user@localhost",
        "127.0.0.1 evil",
        "ÿ",
    ],
)
def test_on_loopback_other_names_are_not(host: str) -> None:
    assert status(host) == 403


def test_other_names_can_be_allowed() -> None:
    assert status("signs.example:443", names=("Signs.Example",)) == 200
    assert status("localhost", names=("signs.example",)) == 200
    assert status("other.example", names=("signs.example",)) == 403
    assert status("other.example", bound="0.0.0.0", names=("signs.example",)) == 403
    assert status("signs.example", bound="0.0.0.0", names=("signs.example",)) == 200


def test_bound_to_other_addresses_every_name_is() -> None:
    assert status("anything.example", bound="0.0.0.0") == 200
    assert status("not a name", bound="0.0.0.0") == 403


@pytest.mark.parametrize("origin", ["http://localhost:8000", "https://localhost:8000"])
def test_its_own_page_may_ask(origin: str) -> None:
    assert status("localhost:8000", origin=origin) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1:8000",
        "file://",
        "http://[::1",
        "",
    ],
)
def test_other_pages_may_not(origin: str) -> None:
    assert status("localhost:8000", origin=origin) == 403
    assert status("localhost:8000", bound="0.0.0.0", origin=origin) == 403


def test_a_page_of_an_allowed_name_may_ask_through_a_proxy() -> None:
    assert status("127.0.0.1:8000", names=("signs.example",), origin="https://signs.example") == 200


def test_the_answer_is_an_error_document_and_allows_nothing() -> None:
    guard = AllowedHosts(Echo(), ServerSettings())
    answer = ask(guard, host="evil.example")
    assert answer.error["code"] == "host_not_allowed"
    assert not [name for name in answer.headers if name.startswith("access-control")]
