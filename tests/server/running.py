"""A server of this process on 127.0.0.1, in a thread of its own, and requests to it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from openai import OpenAI
from PIL import Image
from starlette.applications import Starlette

from vicrop_engine.examples import demo_question
from vicrop_engine.server.app import create_app
from vicrop_engine.server.ops.traces import Traces
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.server.uvicorn_server import Server, listen, url_of
from vicrop_engine.serving.scheduler import Scheduler

MODEL = "llava-signs"
SECONDS = 30.0  # a test that waits longer than this has failed


@dataclass(frozen=True)
class Running:
    """A running server: its address, application and scheduler."""

    url: str
    app: Starlette
    scheduler: Scheduler

    def client(self) -> OpenAI:
        """OpenAI's client of it; close it."""
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=SECONDS)

    def http(self) -> httpx.Client:
        """A plain client of it; close it."""
        return httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False)

    def post(self, document: Any, **headers: str) -> httpx.Response:
        """Send one chat request."""
        headers = {"Content-Type": "application/json", **headers}
        with self.http() as http:
            return http.post("/v1/chat/completions", content=json.dumps(document), headers=headers)


@contextlib.contextmanager
def serving(
    scheduler: Any, settings: ServerSettings | None = None, traces: Traces | None = None
) -> Iterator[Running]:
    """A server over this scheduler until the end of the block."""
    settings = settings or ServerSettings()
    app = create_app(scheduler, settings, traces)
    server, listener = Server(app, settings), listen("127.0.0.1", 0)
    url = url_of(listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield Running(url, app, scheduler)
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


def wait_until(true: Any, what: str = "it") -> None:
    """Until the function says so. Fails after SECONDS."""
    pause = threading.Event()
    for _ in range(int(SECONDS / 0.01)):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError(f"{what} did not happen within {SECONDS:g} seconds")


def demo_picture() -> bytes:
    """The embedded picture's file."""
    return demo_question()[0].read_bytes()


def demo_text() -> str:
    """Its question."""
    return demo_question()[1]["question"]


def small_picture() -> bytes:
    """A PNG of a few colours, too small for a crop window."""
    values = np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="PNG")
    return file.getvalue()


def data_url(picture: bytes) -> str:
    """As a data: URL."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def chat(text: Any = None, picture: bytes | None = None, **more: Any) -> dict[str, Any]:
    """A chat request's document, by default with the embedded picture and question."""
    url = {"url": data_url(demo_picture() if picture is None else picture)}
    parts = [
        {"type": "text", "text": demo_text() if text is None else text},
        {"type": "image_url", "image_url": url},
    ]
    return {"model": MODEL, "messages": [{"role": "user", "content": parts}], **more}
