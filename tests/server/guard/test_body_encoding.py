"""Compressed bodies: read like plain ones, and counted by what they become."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import pytest

from tests.server.asking import Echo, ask, ask_soon
from tests.server.guard.test_body_limits import LIMIT, limited
from tests.server.running import Running, chat
from vicrop_engine.server.guard.body_encoding import PIECE, Inflater
from vicrop_engine.server.problem import Problem

BODY = bytes(range(256)) * 3
PACKED = {"gzip": gzip.compress(BODY), "x-gzip": gzip.compress(BODY), "deflate": zlib.compress(BODY)}


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_body_is_handed_on_plain(encoding: str, step: int) -> None:
    packed, app = PACKED[encoding], Echo()
    parts = [packed[at : at + step] for at in range(0, len(packed), step)]
    limits = limited(app)
    answer = ask(limits, parts, content_encoding=encoding.upper(), content_length=str(len(packed)))
    assert (answer.status, answer.body, limits.buffered) == (200, BODY, 0)


@pytest.mark.parametrize("more", [0, 1])
def test_its_plain_bytes_are_counted(more: int) -> None:
    answer = ask(limited(Echo()), [gzip.compress(bytes(LIMIT + more))], content_encoding="gzip")
    assert answer.status == (413 if more else 200)


def test_a_bomb_is_given_up_at_the_limit() -> None:
    """A gigabyte in a megabyte; no more of it is made than may be."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    limits, app = limited(Echo()), Echo()
    answer = ask(limits, [bomb], content_encoding="deflate")
    assert (answer.status, answer.error["code"], limits.buffered) == (413, "body_too_large", 0)
    assert app.bodies == []
    assert max(map(len, Inflater("deflate").pieces(bomb))) <= PIECE


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "is not gzip"),
        (gzip.compress(BODY)[:-9], "breaks off"),
        (b"", "breaks off"),
        (gzip.compress(BODY) + b"x", "after the end"),
        (gzip.compress(BODY)[:-8] + bytes(8), "is not gzip"),
    ],
)
def test_what_is_no_gzip_is_refused(body: bytes, words: str) -> None:
    app = Echo()
    answer = ask(limited(app), [body], content_encoding="gzip")
    assert (answer.status, app.bodies) == (400, [])
    assert words in answer.error["message"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip,gzip"])
def test_other_encodings_are_refused_before_anything_is_read(encoding: str) -> None:
    answer = ask(limited(Echo()), [], ends=False, stalls=True, content_encoding=encoding)
    assert answer.status == 415
    assert "wanted gzip, deflate" in answer.error["message"]


def test_others_are_answered_while_a_large_one_is_unpacked() -> None:
    limits = limited(Echo())
    limits.settings = type(limits.settings)(max_body_bytes=1 << 26)
    order: list[str] = []

    async def both() -> None:
        async def one(name: str, body: bytes, **headers: str) -> None:
            await ask_soon(limits, [body], **headers)
            order.append(name)

        large = asyncio.create_task(one("large", gzip.compress(bytes(1 << 24)), content_encoding="gzip"))
        await asyncio.sleep(0)
        await asyncio.gather(large, one("small", b"x"))

    asyncio.run(both())
    assert order == ["small", "large"]


def test_a_question_in_gzip_is_answered(server: Running) -> None:
    body = gzip.compress(json.dumps(chat()).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with server.http() as http:
        answer = http.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 200
    wanted = server.post(chat()).json()["choices"][0]["message"]["content"]
    assert answer.json()["choices"][0]["message"]["content"] == wanted


def test_the_inflater_ends_where_its_stream_does() -> None:
    inflater = Inflater("gzip")
    assert b"".join(inflater.pieces(gzip.compress(BODY))) == BODY
    inflater.check_whole()
    with pytest.raises(Problem, match="after the end"):
        list(inflater.pieces(b"more"))
