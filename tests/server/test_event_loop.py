"""The event loop only passes things on: whatever takes the processor's time runs on other threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.server.fake_scheduler import FakeScheduler, an_answer
from tests.server.running import chat, serving, small_picture
from vicrop_engine.server import routes as routes
from vicrop_engine.server.openai import sse as streaming


@pytest.mark.parametrize("stream", [False, True])
def test_work_is_done_elsewhere(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, threading.Thread] = {}

    def watched(name: str, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            threads[name] = threading.current_thread()
            return function(*arguments, **keywords)

        return call

    scheduler = FakeScheduler()
    scheduler.answer = an_answer()
    monkeypatch.setattr(routes, "decode", watched("decode", routes.decode))
    monkeypatch.setattr(routes, "read_chat", watched("read", routes.read_chat))
    monkeypatch.setattr(routes, "vicrop_field", watched("document", routes.vicrop_field))
    module = streaming if stream else routes
    monkeypatch.setattr(module, "encode", watched("encode", module.encode))
    scheduler.submit = watched("submit", scheduler.submit)  # type: ignore[method-assign]
    with serving(scheduler) as server:
        monkeypatch.setattr(routes, "_json", watched("small", routes._json))
        assert server.post(chat("What?", small_picture(), stream=stream)).status_code == 200
        used = dict(threads)
        with server.http() as http:
            assert http.get("/health").status_code == 200
    assert set(used) == {"decode", "read", "document", "encode", "submit"}
    assert threads["small"] not in used.values(), "a fixed answer is made where it is sent"
