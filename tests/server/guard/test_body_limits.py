"""Bodies: too long, too slow, too many at once, and those whose client has gone."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.server.asking import Answered, Echo, ask, ask_soon
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


def test_bodies_beyond_the_room_wait_and_are_then_refused() -> None:
    """One stalls with 700 bytes of 1000; another one of 600 is read when there is room, or has to go."""

    async def together(seconds: float) -> tuple[Answered, int]:
        limits = limited(Echo(), max_buffered_bytes=600, body_seconds=30, room_seconds=seconds)
        first = asyncio.create_task(ask_soon(limits, [b"a" * 700], ends=False, stalls=True))
        await asyncio.sleep(0)
        second = asyncio.create_task(ask_soon(limits, [b"b" * 600], content_length="600"))
        await asyncio.sleep(0)
        if seconds > 1:
            assert not second.done()
            first.cancel()
        answer, held = await second, limits.buffered
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert limits.buffered == 0
        return answer, held

    def run(seconds: float) -> tuple[Answered, int]:
        return asyncio.run(together(seconds))

    answer, held = run(60.0)
    assert (answer.status, answer.body, held) == (200, b"b" * 600, 0)
    answer, held = run(0.01)
    assert (answer.status, answer.error["code"], held) == (429, "too_many_bytes", 700)
    assert int(answer.headers["retry-after"]) > 0


def test_who_came_first_goes_on_where_all_wait_for_each_other() -> None:
    """Ten bodies of 900 bytes come in parts of 100, with room for 1000: all are answered, none at once."""

    async def together() -> tuple[list[int], int]:
        limits, most = limited(Echo(), max_buffered_bytes=1000, room_seconds=30), 0

        async def one() -> int:
            nonlocal most
            answer = await ask_soon(limits, slowly(), content_length="900")
            return answer.status

        def slowly() -> list[bytes]:
            return [b"a" * 100] * 9

        tasks = [asyncio.create_task(one()) for _ in range(10)]
        while not all(task.done() for task in tasks):
            most = max(most, limits.buffered)
            await asyncio.sleep(0)
        return [task.result() for task in tasks], most

    statuses, most = asyncio.run(together())
    assert statuses == [200] * 10
    assert most <= 1000 + 900 + 10 * 100  # the room, the first one, a part of each


def test_what_has_no_body_never_waits_for_room() -> None:
    async def asked() -> int:
        limits = limited(Echo(), max_buffered_bytes=1, room_seconds=0.01)
        first = asyncio.create_task(ask_soon(limits, [b"a" * 700], ends=False, stalls=True))
        await asyncio.sleep(0)
        answer = await ask_soon(limits, [], path="/health")
        first.cancel()
        return answer.status

    assert asyncio.run(asked()) == 200


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
