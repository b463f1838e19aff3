"""A running server as what is measured, asked as any client would: streamed chat completions."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

from vicrop_engine.errors import SettingError, WorkFailedError
from vicrop_engine.measure.bench.outcome import REUSES, Outcome, Said
from vicrop_engine.measure.bench.workload import Query
from vicrop_engine.vicrop.params import AskParams

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
TIMEOUT = 300.0
Document = dict[str, Any]


class Server:
    """The server at `url`, asked with these settings, else its own. One connection for each thread.

    `close` it, or use it in a `with`.
    """

    def __init__(self, url: str, api_key: str | None = None, params: AskParams | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(f"got {url!r}, wanted the address of a server, such as http://127.0.0.1:8000")
        self._parts = parts
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        params = params or AskParams()
        self._fields = {"stream": True, "max_tokens": params.max_new_tokens}
        self._vicrop = {**vicrop_keys(params), "stream_first_answer": True}
        self._held = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections, which nobody may be using."""
        for connection in self._opened:
            connection.close()

    def model(self) -> str:
        """The name of the model it serves. Raises WorkFailedError when it does not say."""
        try:
            response = self._request("GET", MODELS)
            document = json.loads(response.read())
            if response.status != http.client.OK:
                raise WorkFailedError(
                    f"status {response.status} from the server: {document['error']['message']}"
                )
            return str(document["data"][0]["id"])
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise WorkFailedError(
                f"no list of models came from the server ({type(error).__name__}: {error}); see that it "
                "runs, and that the address and --api-key are right"
            ) from error

    def ask(self, query: Query, start: float | None = None) -> Outcome:
        """One streamed request."""
        body = self._body(query)
        start = time.monotonic() if start is None else start
        first: float | None = None
        told: Document = {}
        error = None
        try:
            response = self._request("POST", CHAT, body)
            if response.status != http.client.OK:
                response.read()
                return Outcome(query, start, None, time.monotonic(), error=f"status {response.status}")
            for chunk in _chunks(response):
                error = chunk["error"]["type"] if "error" in chunk else error
                if first is None and _has_text(chunk):
                    first = time.monotonic()
                told = chunk.get("vicrop") or told
        except (OSError, http.client.HTTPException, ValueError) as failure:
            self._held.connection.close()  # opens again at the next request
            return Outcome(query, start, None, time.monotonic(), error=type(failure).__name__)
        end = time.monotonic()
        if error is not None or "answer" not in told:
            return Outcome(query, start, first, end, error=error or "no answer")
        return Outcome(query, start, first, end, _said(told), None, None, _reused(told))

    def processor_seconds(self) -> None:
        """Nobody knows from here."""
        return

    def _body(self, query: Query) -> bytes:
        kind = "webp" if query.image[8:12] == b"WEBP" else "png" if query.image[:4] == b"\x89PNG" else "jpeg"
        url = f"data:image/{kind};base64,{base64.b64encode(query.image).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": query.question}]
        document = {**self._fields, "messages": [{"role": "user", "content": content}]}
        return json.dumps({**document, "vicrop": {**self._vicrop, "high_res": query.high_res}}).encode()

    def _request(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        is_kept = hasattr(self._held, "connection")
        if not is_kept:
            self._held.connection = self._connect()
        try:
            return self._send(method, path, body)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not is_kept:
                raise
            self._held.connection.close()  # the server has, for nobody used it for a while
            return self._send(method, path, body)

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=TIMEOUT)
        self._opened.append(connection)
        return connection

    def _send(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        connection: http.client.HTTPConnection = self._held.connection
        connection.request(method, self._parts.path.rstrip("/") + path, body, self._headers)
        return connection.getresponse()


def _chunks(response: http.client.HTTPResponse) -> Iterator[Document]:
    """The documents of an event stream, read to its end."""
    for line in response:
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data and data != b"[DONE]":
            yield json.loads(data)


def _has_text(chunk: Document) -> bool:
    said = [choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())]
    vicrop = chunk.get("vicrop") or {}
    return any(said) or bool(vicrop.get("answer_without_crop") or vicrop.get("answer"))


def _said(told: Document) -> Said:
    box = told["crop_box"]
    return Said(told["answer"], told["answer_without_crop"], None if box is None else tuple(box))


def _reused(told: Document) -> tuple[str, ...]:
    return tuple(name for name in REUSES if told.get("reused", {}).get(name))


def vicrop_keys(params: AskParams) -> dict[str, Any]:
    """The keys of a request's `vicrop` field; tiles are each query's, what is OpenAI's has its own keys."""
    own = {field.name: getattr(params, field.name) for field in fields(params)}
    apart = ("max_new_tokens", "high_res", "history", "form")
    return {name: value for name, value in own.items() if value is not None and name not in apart}
