"""What is logged of a request, and what is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from tests.server.running import Running, chat, small_picture, wait_until
from vicrop_engine.errors import SettingError
from vicrop_engine.server.ops.logs import FACTS, JsonLines, TextLines, log_to_stderr

SECRET = "Where is the treasure?"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged during the test."""
    with caplog.at_level(logging.INFO, "vicrop_engine"):
        yield caplog


def line_of(log: pytest.LogCaptureFixture) -> dict[str, object]:
    """The one request's line as JSON."""
    wait_until(lambda: "request" in log.messages, "the line")  # which comes after the answer
    (record,) = [record for record in log.records if record.getMessage() == "request"]
    return json.loads(JsonLines().format(record))


def test_a_request_is_one_line_without_what_was_asked(server: Running, log: pytest.LogCaptureFixture) -> None:
    response = server.post(chat(SECRET, small_picture()), **{"X-Request-Id": "trace-7"})
    assert response.headers["X-Request-Id"] == "trace-7"
    line = line_of(log)
    wanted = {"level": "info", "event": "request", "request_id": "trace-7", "method": "POST", "status": 200}
    assert {key: line[key] for key in wanted} == wanted
    assert (line["path"], line["stream"], line["shared"]) == ("/v1/chat/completions", False, False)
    assert line["tokens"] == response.json()["vicrop"]["tokens"]
    assert line["seconds"] > 0
    text = json.dumps(line)
    assert SECRET not in text
    assert "base64" not in text


def test_a_refusal_is_logged_by_its_key_alone(server: Running, log: pytest.LogCaptureFixture) -> None:
    response = server.post({"messages": [{"role": "user", "content": {"text": SECRET}}]})
    assert SECRET in response.json()["error"]["message"]
    line = line_of(log)
    assert (line["status"], line["param"]) == (400, "messages[0]")
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "a\u00e9".encode().decode("latin-1")])
def test_an_id_that_is_none_is_replaced(server: Running, given: str) -> None:
    with server.http() as http:
        headers = {"X-Request-Id": given.encode("latin-1")}
        first, second = (http.get("/health", headers=headers).headers["X-Request-Id"] for _ in range(2))
    assert first != second
    assert len(first) == 32


def test_formats() -> None:
    record = logging.LogRecord("vicrop_engine", logging.INFO, "", 0, "request", None, None)
    setattr(record, FACTS, {"status": 200})
    assert TextLines().format(record).endswith("INFO request status=200")
    assert json.loads(JsonLines().format(record))["status"] == 200
    try:
        raise ValueError("broken\nline")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "\n" not in JsonLines().format(record)
    assert "broken" in json.loads(JsonLines().format(record))["exception"]
    assert "ValueError" in TextLines().format(record)


def test_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("json")
    logging.getLogger("vicrop_engine.server").info("listening", extra={FACTS: {"url": "there"}})
    logging.getLogger("uvicorn.error").info("not this")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["url"] == "there"
    with pytest.raises(SettingError, match="did you mean 'json'"):
        log_to_stderr("jsn")
