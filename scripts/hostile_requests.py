"""Parts of requests made to harm a lenient server: conversations, forms of answers, compressed bodies."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any

WRONG: list[Any] = [-1, 1.5, 10**25, "ü" * 50, "", [], {}, [[]], [None], {"a": 1}, True, 1e308, None]
ROLES = ("user", "assistant", "system", "developer", "tool", "function", "usr", 5, None)
SCHEMAS: list[Any] = [
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    {"type": "string", "pattern": "^(a|b|ab)*c(a|b){0,200}$"},
    {"type": "string", "pattern": "(((a{1,50}){1,50}){1,50})"},
    {"type": "string", "pattern": "^(?=a)b"},
    {"type": "string", "pattern": ".*a.{200}"},
    {"type": "string", "minLength": 10**6},
    {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
    {"enum": [f"x{number}" for number in range(3000)]},
    {"type": "object", "properties": {f"a{number}": {"type": "string"} for number in range(1500)}},
    {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "integer"}]}}, "$ref": "#/$defs/a"},
    {"$ref": "http://127.0.0.1:1/schema"},
    {"$ref": "file:///etc/passwd"},
    {"not": {"type": "string"}},
    {"type": "frob"},
    {"type": "object", "x-guidance": {"whitespace_pattern": ".*", "unknown": 1}},
    {},
]


def parts(chance: random.Random, url: str) -> Any:
    """A message's content."""
    kinds: list[Any] = [
        {"type": "text", "text": chance.choice(["What is it?", "", " ", "<image>", "\ud800", "x" * 5000])},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": chance.choice([url, *WRONG])},
        {"type": "image", "source": {"type": "base64", "data": chance.choice(["AAAA", *WRONG])}},
        {"type": chance.choice(["input_audio", "file", "video_url", *WRONG])},
        chance.choice(WRONG),
    ]
    return chance.choice([chance.choices(kinds, [6, 6, 3, 1, 1, 1, 1], k=chance.randint(0, 6)), *WRONG, "Hi"])


def messages(chance: random.Random, url: str) -> list[Any]:
    """A conversation, which may be far longer than any context."""
    number = chance.choice([1, 2, 5, 300])
    made: list[Any] = []
    for _ in range(number):
        role = chance.choices(ROLES, [12, 8, 2, 2, 2, 1, 1, 1, 1])[0] if number < 9 else "assistant"
        content = parts(chance, url) if number < 9 else "word " * chance.randint(1, 60)
        made.append(
            {"role": role, "content": content, **chance.choice([{}, {}, {"name": chance.choice(WRONG)}])}
        )
    question = {"role": "user", "content": [{"type": "text", "text": "What?"}, parts(chance, url)]}
    plain = {"role": "user", "content": "What is on the sign?"}
    return [*made, chance.choice([question, plain, plain])]


def form(chance: random.Random) -> dict[str, Any]:
    """Keys that say how an answer is to look."""
    schema = chance.choice([*SCHEMAS * 3, *WRONG])
    named = {
        "type": "json_schema",
        "json_schema": chance.choice([{"name": "a", "schema": schema}] * 9 + WRONG),
    }
    every: dict[str, list[Any]] = {
        "response_format": [named, named, named, {"type": "json_object"}, {"type": "xml"}, *WRONG],
        "stop": ["a", ["a", "b"], ["x"] * 100, "x" * 10**5, ["\ud800"], *WRONG],
        "logprobs": [True, False, *WRONG],
        "top_logprobs": [0, 5, 20, 21, 10**9, *WRONG],
        "n": [1, 2, 3, 10**9, *WRONG],
        "ignore_eos": [True, False, *WRONG],
        "stream": [False, False, True],
    }
    chosen = chance.sample(sorted(every), chance.randint(1, 3))
    made = {key: chance.choice(every[key]) for key in chosen}
    return (
        made if chance.random() < 0.5 else {key: value for key, value in made.items() if value not in WRONG}
    )


def response(chance: random.Random, url: str) -> dict[str, Any]:
    """A request by `/v1/responses`, with a key or two of a wrong kind."""
    items: list[Any] = [
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "?"}],
        },
        {"type": "function_call_output", "output": chance.choice(["a", *WRONG])},
        {"type": chance.choice(["reasoning", "item_reference", *WRONG])},
        *messages(chance, url)[:3],
    ]
    document: dict[str, Any] = {
        "model": "llava-signs",
        "input": chance.choice([chance.sample(items, chance.randint(1, len(items))), "Hi", *WRONG]),
        "max_output_tokens": 3,
        "vicrop": {"method": "none"},
    }
    schema = {"type": "json_schema", "name": "a", "schema": chance.choice([*SCHEMAS, *WRONG])}
    wrong = {
        "instructions": [*WRONG, "Be brief."],
        "text": [{"format": schema}, {"format": {"type": "text"}}, {"verbosity": "low"}, *WRONG],
        "include": [["message.output_text.logprobs"], *WRONG],
        "store": WRONG,
        "reasoning": WRONG,
        "tools": WRONG,
        "tool_choice": WRONG,
        "stream": [True, *WRONG],
        "previous_response_id": WRONG,
        "max_output_tokens": WRONG,
    }
    for key in chance.sample(sorted(wrong), chance.randint(0, 2)):
        document[key] = chance.choice(wrong[key])
    return document


def packed(chance: random.Random, body: bytes) -> tuple[bytes, str]:
    """A body and what its header says of it: whole, cut, wrong, or far larger inside than outside."""
    whole = gzip.compress(body)
    return chance.choice(
        [
            (whole, "gzip"),
            (zlib.compress(body), "deflate"),
            (whole[: chance.randrange(len(whole))], "gzip"),
            (whole, "deflate"),
            (whole + b"more", "gzip"),
            (whole, chance.choice(["br", "zstd", "gzip, gzip", "\t", "x" * 500])),
            (BOMB, "gzip"),
            (gzip.compress(json.dumps({"messages": "x" * 3_000_000}).encode()), "gzip"),
        ]
    )


BOMB = gzip.compress(bytes(100_000_000))
