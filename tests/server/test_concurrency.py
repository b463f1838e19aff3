"""Many clients at once: each gets its own answer, the same as when it asks alone."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from PIL import Image

from tests.server.running import SECONDS, Running, chat, demo_picture, demo_text, small_picture

QUESTIONS = (demo_text(), "What is written on the red square sign?", "Which colour is it?")
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"method": "none"},
    {"box": [0, 0, 15, 15]},
    {"high_res": "on", "first_answer": False},
)
CLIENTS = 32
OWN = {"timings", "tokens", "reused"}  # what depends on who asked before


def turned() -> bytes:
    """The embedded picture on its head."""
    file = io.BytesIO()
    Image.open(io.BytesIO(demo_picture())).rotate(180).save(file, format="PNG")
    return file.getvalue()


def requests() -> list[dict[str, Any]]:
    """Every picture with every question, setting and form of answer."""
    return [
        chat(question, picture, stream=stream, vicrop={"return_heatmap": True, **settings})
        for picture in (demo_picture(), turned(), small_picture())
        for question in QUESTIONS
        for settings in SETTINGS
        for stream in (False, True)
    ]


def answer(http: httpx.Client, document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The message and what `vicrop` says of it."""
    response = http.post("/v1/chat/completions", json=document)
    assert response.status_code == 200, response.text
    if document["stream"]:
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
        chunks = [json.loads(line) for line in lines]
        content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        vicrop = chunks[-1]["vicrop"]
    else:
        content, vicrop = response.json()["choices"][0]["message"]["content"], response.json()["vicrop"]
    return content, {key: value for key, value in vicrop.items() if key not in OWN}


def test_answers_under_load_are_those_given_alone(server: Running) -> None:
    asked = requests()
    limits = httpx.Limits(max_connections=CLIENTS)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=SECONDS, limits=limits) as http:
        alone = [answer(http, document) for document in asked]
        server.scheduler.forget()
        with ThreadPoolExecutor(CLIENTS) as pool:
            together = list(pool.map(lambda document: answer(http, document), reversed(asked)))
    assert together[::-1] == alone
    assert all(content == vicrop["answer"] for content, vicrop in alone)
    assert len({content for content, _ in alone}) > 3, "answers that could be mixed up"
