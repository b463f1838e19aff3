"""Bodies: too long, too slow, too many at once, and those whose client has gone."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.server.asking import Echo, ask, ask_soon
from vicrop_engine.server.guard.body_limits import BodyLimits
from vicrop_engine.server.settings import ServerSettings

LIMIT = 1000


def limited(app: Echo, **settings: float) -> BodyLimits:
    return BodyLimits(app, ServerSettings(max_body_bytes=LIMIT, **settings))  # type: ignore[arg-type]


def test_a_body_of_parts_is_handed_on_whole() -> None:
    app = Echo()
    limits = limited(app)
    answer = ask(limits, [b"a" * 400, b"", b"b" * 600], content_length="1000")
    assert (answer.status, answer.body) == (200, b"a" * 400 + b"b" * 600)
    assert limits.buffered == 0


def test_an_announced_body_is_refused_before_it_comes() -> None:
    app = Echo()
    answer = ask(limited(app), [], ends=False, stalls=True, content_length=str(LIMIT + 1))
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/json"
    assert app.bodies == []


def test_a_body_that_says_nothing_is_counted_as_it_comes() -> None:
    app = Echo()
    limits = limited(app)
    answer = ask(limits, [b"a" * 600] * 2, ends=False, stalls=True, transfer_encoding="chunked")
    assert answer.status == 413
    assert (app.bodies, limits.buffered) == ([], 0)


@pytest.mark.parametrize("length", ["-1", "1e3", "", "1,2", "0x10", " 5", "²"])
def test_lengths_that_are_no_number(length: str) -> None:
    assert ask(limited(Echo()), [b"a"], content_length=length).status == 400


def test_a_length_of_many_digits_is_a_long_body() -> None:
    assert ask(limited(Echo()), [b"a"], content_length="9" * 5000).status == 413


def test_a_body_has_one_length_only() -> None:
    answer = ask(limited(Echo()), [b"a"], content_length="1", transfer_encoding="chunked")
    assert (answer.status, "in one of the two ways" in answer.error["message"]) == (400, True)


def test_a_slow_body_is_given_up() -> None:
    app = Echo()
    limits = limited(app, body_seconds=0.05)
    answer = ask(limits, [b"a"], ends=False, stalls=True)
    assert (answer.status, answer.error["code"]) == (408, "body_too_slow")
    assert (app.bodies, limits.buffered, answer.headers["connection"]) == ([], 0, "close")


def test_a_client_that_goes_gets_nothing() -> None:
    app = Echo()
    limits = limited(app)
    assert ask(limits, [b"a" * 10], ends=False).status == 0
    assert (app.bodies, limits.buffered) == ([], 0)


def test_bodies_of_all_requests_are_bounded_together() -> None:
    """One stalls with 700 bytes of 1000; a second one of 600 has to come back."""

    async def both() -> None:
        limits = limited(Echo(), max_buffered_bytes=1000, body_seconds=30)
        first = asyncio.create_task(ask_soon(limits, [b"a" * 700], ends=False, stalls=True))
        await asyncio.sleep(0)
        assert limits.buffered == 700
        second = await ask_soon(limits, [b"b" * 600])
        assert (second.status, second.error["code"]) == (503, "too_many_bytes")
        assert int(second.headers["retry-after"]) > 0
        assert (await ask_soon(limits, [b"b" * 300])).status == 200
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert limits.buffered == 0

    asyncio.run(both())


def test_after_the_body_the_application_hears_the_connection() -> None:
    heard: list[str] = []

    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    limits = BodyLimits(listening, ServerSettings())
    ask(limits, [b"a"])
    assert heard == ["http.request", "http.disconnect"]


def test_other_than_http_is_handed_on() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> Message:
        return {}

    async def silent(_: Message) -> None: ...

    asyncio.run(BodyLimits(app, ServerSettings())({"type": "lifespan"}, nothing, silent))
    assert seen == ["lifespan"]
