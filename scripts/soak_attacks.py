"""Requests made to harm a server, by kind, from a seed: the bytes that are sent and what may come back."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from scripts import hostile_pictures as hostile
from scripts import hostile_requests as forms

MODEL = "llava-signs"
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
WHOLE, LEAVE, STALL = "whole", "leave", "stall"
WRONG: list[Any] = [-1, 1.5, 10**25, "ü" * 50, "", [], {}, [[]], [None], {"a": 1}, True, 1e308]
KEYS = [
    *(
        "model",
        "messages",
        "stream",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
    ),
    *("ignore_eos", "top_logprobs", "min_tokens", "tool_choice", "logit_bias", "reasoning_effort"),
    *(
        "seed",
        "logprobs",
        "tools",
        "response_format",
        "stream_options",
        "user",
        "frequency_penalty",
        "unknown",
    ),
]
OWN_KEYS = [
    *("method", "high_res", "layers", "when", "first_answer", "localize", "box", "crop_tokens", "compat"),
    *("return_heatmap", "stream_first_answer", "unknown"),
]


@dataclass(frozen=True)
class Attack:
    """What is sent, and how: all of it (WHOLE); then gone after `sent` bytes and `seconds` (LEAVE); or held
    open with nothing more to come (STALL).

    With `may_answer` the request may be a valid one by chance; with `may_close` it is no HTTP, so that a
    closed connection is an answer too.
    """

    kind: str
    data: bytes
    manner: str = WHOLE
    may_answer: bool = False
    may_close: bool = False
    sent: int | None = None
    seconds: float = 0.0


def post(body: bytes, *headers: str, length: int | None = None, path: str = CHAT) -> bytes:
    """A request of these bytes, with further header lines before it."""
    named = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    if length is None and not any(line.startswith(("Content-Length", "Transfer")) for line in headers):
        length = len(body)
    if length is not None:
        named.append(f"Content-Length: {length}")
    return "\r\n".join([*named, "", ""]).encode() + body


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """A picture in a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def chat(url: str, question: str = "What is on the sign?", **more: Any) -> dict[str, Any]:
    """A chat request's document."""
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": parts}], **more}


def valid(chance: random.Random, **more: Any) -> dict[str, Any]:
    """A small request that is answered."""
    return chat(data_url(hostile.noise(chance)), vicrop={"method": "none"}, **more)


def encoded(document: object) -> bytes:
    """As JSON; half surrogate pairs and all."""
    return json.dumps(document).encode()


def picture(kind: str, data: bytes, media_type: str = "image/png", *, may_answer: bool = False) -> Attack:
    """A request whose picture is the attack."""
    return Attack(kind, post(encoded(chat(data_url(data, media_type)))), may_answer=may_answer)


def changed_json(chance: random.Random) -> Attack:
    body = bytearray(encoded(valid(chance)))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(body))
        body[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
    return Attack("JSON with bytes changed", post(bytes(body)), may_answer=True)


def wrong_types(chance: random.Random) -> Attack:
    document = valid(chance)
    key, own = chance.choice(KEYS), chance.choice(OWN_KEYS)
    value = chance.choice(WRONG)
    where = chance.randrange(4)
    if where == 0:
        document[key] = value
    elif where == 1:
        document["vicrop"][own] = value
    elif where == 2:
        document["messages"][0][chance.choice(["role", "content", "name", "unknown"])] = value
    else:
        part = document["messages"][0]["content"][chance.randrange(2)]
        part[chance.choice(["type", "text", "image_url", "unknown"])] = value
    return Attack("wrong types", post(encoded(document)), may_answer=True)


def no_json(chance: random.Random) -> Attack:
    depth = chance.choice([50, 500, 5_000, 50_000])
    body = chance.choice(
        [
            *(b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth),
            *(b'{"max_tokens": ' + b"9" * chance.randint(31, 100_000) + b"}", b'{"n": 1e99999}', b"[NaN]"),
            *(b'{"model": "\xff\xfe"}', b'"\xed\xa0\x80"', b"", b"null", b"[]", b'"a"', b"\0" * 100),
            *(b'{"model": "a", "model": "b"}', b'{"model": "\\ud800"}', b"[" + b"0," * 200_000 + b"0]"),
        ]
    )
    return Attack("no JSON, deep, huge numbers", post(body, path=chance.choice([CHAT, RESPONSES])))


def truncated_picture(chance: random.Random) -> Attack:
    kind = chance.choice(hostile.KINDS)
    return picture("truncated pictures", hostile.truncated(chance, kind), f"image/{kind.lower()}")


def changed_picture(chance: random.Random) -> Attack:
    kind = chance.choice(hostile.KINDS)
    data = hostile.mutated(chance, kind)
    return picture("pictures with bytes changed", data, f"image/{kind.lower()}", may_answer=True)


FLOODS = {name: make() for name, make in hostile.FLOODS.items()}
_FLOOD_TYPES = {"segments": "jpeg", "scans": "jpeg", "junk": "jpeg", "blocks": "gif", "moving gif": "gif"}


def flood(chance: random.Random) -> Attack:
    name = chance.choice(sorted(FLOODS))
    media = "webp" if name == "moving webp" else _FLOOD_TYPES.get(name, "png")
    moves = name.startswith("moving")  # and is looked at as it begins
    return picture("bombs and floods", FLOODS[name], f"image/{media}", may_answer=moves)


def other_picture(chance: random.Random) -> Attack:
    """A picture in one of the formats that fewer clients send: whole, cut, or with bytes changed."""
    kind = chance.choice(hostile.OTHER_KINDS)
    make = chance.choice([hostile.noise, hostile.truncated, hostile.mutated])
    return picture("other formats", make(chance, kind), "image/png", may_answer=True)


def conversation(chance: random.Random) -> Attack:
    """Messages of all roles, with parts of all kinds; some of it can be made sense of."""
    document = {**valid(chance), "messages": forms.messages(chance, data_url(hostile.noise(chance)))}
    return Attack("conversations", post(encoded(document)), may_answer=True)


def formed(chance: random.Random) -> Attack:
    """Stop texts, schemas, log probabilities and numbers of answers as nobody should ask for them."""
    document = valid(chance, **forms.form(chance))
    document["max_tokens"] = chance.choice([3, 40, -1, 10**6])
    return Attack("forms of answers", post(encoded(document)), may_answer=True)


def response(chance: random.Random) -> Attack:
    """The same by the other API."""
    document = forms.response(chance, data_url(hostile.noise(chance)))
    return Attack("responses", post(encoded(document), path=RESPONSES), may_answer=True)


def packed(chance: random.Random) -> Attack:
    """Bodies that say they are compressed."""
    data, encoding = forms.packed(chance, encoded(valid(chance)))
    return Attack("compressed bodies", post(data, f"Content-Encoding: {encoding}"), may_answer=True)


def huge(chance: random.Random) -> Attack:
    kind = chance.choice(hostile.KINDS)
    width, height = (chance.randint(9_000, hostile.HUGE) for _ in range(2))
    return picture("huge dimensions", hostile.declaring(kind, width, height), f"image/{kind.lower()}")


def flat(chance: random.Random) -> Attack:
    kind = chance.choice(hostile.KINDS)
    return picture("no height", hostile.flat(kind), f"image/{kind.lower()}")


def wrong_url(chance: random.Random) -> Attack:
    data = hostile.noise(chance)
    text = base64.b64encode(data).decode()
    at = chance.randrange(len(text))
    url = chance.choice(
        [
            *(
                f"data:image/png;base64,{text[:at]}{sign}{text[at:]}"
                for sign in ("!", "\n", "=", "%2B", "é", "_")
            ),
            *(f"data:image/{kind};base64,{text}" for kind in ("jpeg", "webp", "gif", "svg+xml", "tiff", "")),
            *(
                f"data:text/html;base64,{text}",
                f"data:image/png,{text}",
                "data:image/png;base64,",
                "",
                "data:",
            ),
            *(
                "http://127.0.0.1:1/a.png",
                "https://169.254.169.254/",
                "file:///etc/passwd",
                "//a/b.png",
                "x" * 5000,
            ),
        ]
    )
    whole = url.replace("\n", "").endswith(f";base64,{text}")  # a picture, whatever type it is said to be
    sloppy = any(f"{text[:at]}{sign}{text[at:]}" in url for sign in ("=", "%2B", "_"))  # may still be one
    return Attack("wrong base64, media types, URLs", post(encoded(chat(url))), may_answer=whole or sloppy)


def wrong_address(chance: random.Random) -> Attack:
    method = chance.choice(["GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "post"])
    path = chance.choice([CHAT, "/v1/models/../../etc/passwd", "/%2e%2e/%00", "/v1/none", "/" + "a" * 3000])
    line = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    return Attack("wrong methods and paths", line.encode())


def wrong_headers(chance: random.Random) -> Attack:
    body = encoded(valid(chance))
    data = chance.choice(
        [
            post(body).replace(b"Host: 127.0.0.1", b"Host: evil.example"),
            post(body, "Origin: https://evil.example"),
            post(body).replace(b"application/json", b"text/plain"),
            post(body, "X-Request-Timeout: -1"),
            post(body, "Transfer-Encoding: chunked", length=len(body)),
            post(body, "X-Long: " + "a" * 20_000),
            post(body, *(f"X-{number}: a" for number in range(2_000))),
        ]
    )
    return Attack("wrong headers", data, may_close=True)


def no_http(chance: random.Random) -> Attack:
    data = chance.choice(
        [
            *(chance.randbytes(chance.randint(1, 4000)) + b"\r\n\r\n", b"\r\n\r\n\0\r\n\r\n", b"GET\r\n\r\n"),
            *(
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ),
            *(
                b"GET / HTTP/9.9\r\n\r\n",
                b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            ),
            post(b"ZZ\r\nhello\r\n", "Transfer-Encoding: chunked"),
            post(b"ffffffffffffffffffff\r\n", "Transfer-Encoding: chunked"),
        ]
    )
    return Attack("no HTTP", data, may_close=True)


def oversized(chance: random.Random) -> Attack:
    if chance.random() < 0.8:
        return Attack("oversized bodies", post(b"x" * 1000, length=chance.choice([10**8, 10**12, 10**30])))
    part = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
    return Attack("oversized bodies", post(part * 5, "Transfer-Encoding: chunked"))


def slow(chance: random.Random) -> Attack:
    whole = post(encoded(valid(chance)))
    head = whole.index(b"\r\n\r\n")
    at = chance.choice([0, chance.randrange(1, head), chance.randrange(head + 4, len(whole))])
    return Attack("slow headers and bodies", whole[:at], STALL, may_close=True)


def left(chance: random.Random) -> Attack:
    stream = chance.random() < 0.5
    document = chat(data_url(hostile.noise(chance)), stream=stream)
    whole = post(encoded(document))
    sent = chance.choice([len(whole), len(whole), chance.randrange(len(whole))])
    attack = Attack("gone in the middle", whole, LEAVE, sent=sent)
    return replace(attack, seconds=chance.choice([0.0, 0.002, 0.02, 0.1, 0.3]))


MAKERS: list[tuple[int, Callable[[random.Random], Attack]]] = [
    (12, changed_json),
    (14, wrong_types),
    (8, no_json),
    (12, truncated_picture),
    (6, changed_picture),
    (6, flood),
    (6, huge),
    (2, flat),
    (8, wrong_url),
    (4, wrong_address),
    (5, wrong_headers),
    (5, no_http),
    (2, oversized),
    (4, slow),
    (6, left),
    (6, other_picture),
    (8, conversation),
    (10, formed),
    (6, response),
    (4, packed),
]


def attacks(seed: int, count: int) -> list[Callable[[], Attack]]:
    """So many attacks of all kinds, each made when it is called."""
    chance = random.Random(seed)
    weights = [weight for weight, _ in MAKERS]
    makers = chance.choices([make for _, make in MAKERS], weights, k=count)
    seeds = [chance.getrandbits(64) for _ in makers]
    return [partial(_make, make, own) for make, own in zip(makers, seeds, strict=True)]


def _make(make: Callable[[random.Random], Attack], own: int) -> Attack:
    return make(random.Random(own))
