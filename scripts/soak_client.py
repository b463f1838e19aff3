"""Sends attacks over sockets to 127.0.0.1 and judges what comes back."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass

from scripts.soak_attacks import LEAVE, STALL, Attack

SECONDS = 30.0  # without an answer in this time, the server hangs
CLOSED, GONE = "closed", "gone"
LEAKS = (b"Traceback", b".py", b"site-packages", b"/usr/", b"/root", b"/home", b" at 0x", b"Error:")
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n(.*)", re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """What an attack came to: a status, CLOSED or GONE; with what is wrong about it, or None."""

    kind: str
    result: str
    wrong: str | None = None


async def attack(port: int, what: Attack) -> Outcome:
    """Send it to the server at this port of 127.0.0.1 and judge the answer."""
    try:
        async with asyncio.timeout(SECONDS):
            answer = await _exchange(port, what)
    except TimeoutError:
        return Outcome(what.kind, "hang", f"no answer within {SECONDS:g} seconds")
    if what.manner == LEAVE:
        return Outcome(what.kind, GONE)
    return judge(what, answer)


def judge(what: Attack, answer: bytes) -> Outcome:
    """Whether the answer is one that this attack may get."""
    found = _HEAD.match(answer)
    if found is None:
        wrong = None if not answer and what.may_close else "the connection closed without an answer"
        return Outcome(what.kind, CLOSED, wrong)
    status, headers, body = int(found[1]), found[2].lower(), found[3]
    wrong = None
    if any(leak in answer for leak in LEAKS):
        wrong = f"the answer tells of the inside: {answer[-300:]!r}"
    elif status == 200 and what.may_answer:
        wrong = None
    elif not 400 <= status < 500:
        wrong = f"status {status}: {body[:300]!r}"
    elif b"application/json" not in headers or not is_error(body):
        wrong = f"status {status} without an error document: {body[:300]!r}"
    return Outcome(what.kind, str(status), wrong)


def is_error(body: bytes) -> bool:
    """Whether it is OpenAI's error document with a sentence."""
    try:
        error = json.loads(body)["error"]
        return bool(error["message"]) and isinstance(error["type"], str) and {"param", "code"} <= set(error)
    except (ValueError, KeyError, TypeError):
        return False


async def _exchange(port: int, what: Attack) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(what.data if what.sent is None else what.data[: what.sent])
        await writer.drain()
        if what.manner == LEAVE:
            await asyncio.sleep(what.seconds)
            return b""
        return await _read(reader, until_closed=what.manner == STALL)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, *, until_closed: bool) -> bytes:
    """The head, and as much of a body as it announces; without a length all until the end."""
    answer = b""
    while True:
        try:
            part = await reader.read(1 << 16)
        except ConnectionError:
            return answer
        answer += part
        if not part or (not until_closed and _is_whole(answer)):
            return answer


def _is_whole(answer: bytes) -> bool:
    head, ends, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(ends) and length is not None and len(body) >= int(length[1])
