"""Further cases of the kinds that clients really send: bodies, names, types and settings."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from tests.server.running import Running, chat, demo_picture
from vicrop_engine.errors import SettingError
from vicrop_engine.server.settings import SECONDS, WHOLE, ServerSettings
from vicrop_engine.serving.settings import SchedulerSettings

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("encoding", ["br", "zstd", "BR", "gzip, br"])
def test_a_body_in_an_unknown_encoding_is_told_of_it(server: Running, encoding: str) -> None:
    with server.http() as http:
        body = zlib.compress(json.dumps(chat()).encode())
        answer = http.post(
            "/v1/chat/completions", content=body, headers={**JSON, "Content-Encoding": encoding}
        )
    assert answer.status_code == 415
    assert f"Content-Encoding {encoding.lower()!r}" in answer.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_no_encoding_is_none(server: Running, encoding: str) -> None:
    assert server.post(chat(max_tokens=1), **{"Content-Encoding": encoding}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;x=y"]
)
def test_a_content_type_may_have_parameters(server: Running, kind: str) -> None:
    assert server.post(chat(max_tokens=1), **{"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        *("data:image/jpg;base64", "data:image/png;charset=utf-8;base64", "data:image/png;name=a.png;base64"),
        *("data:application/pdf;base64", "data:text/plain;base64", "data:;base64", "data:image/*;base64"),
    ],
)
def test_the_bytes_decide_what_a_picture_is(server: Running, head: str) -> None:
    document = chat(max_tokens=1)
    url = f"{head},{base64.b64encode(demo_picture()).decode()}"
    document["messages"][0]["content"][1]["image_url"]["url"] = url
    answer = server.post(document)
    assert answer.status_code == 200, answer.text


def urlsafe(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode()


@pytest.mark.parametrize(
    "text", [urlsafe(b"\xfb\xff" * 30), base64.b64encode(b"four").decode().rstrip("="), "%2B%2F"]
)
def test_base64_of_another_alphabet_is_told_of_the_right_one(strict_server: Running, text: str) -> None:
    document = chat()
    document["messages"][0]["content"][1]["image_url"]["url"] = f"data:image/png;base64,{text}"
    answer = strict_server.post(document)
    assert answer.status_code == 400
    assert "not base64; send A-Z a-z 0-9 + / with its =" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["10.0.0.7", "[fd00::7]:80", "pod-7.cluster.local", "localhost:9"])
def test_probes_ask_under_any_name(server: Running, host: str) -> None:
    with server.http() as http:
        assert http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [float("nan"), True, 1.5, 0, "8", None])
def test_bounds_of_a_server_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"got {name} .* wanted a whole number from 1 up"):
        ServerSettings(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [float("nan"), True, -1.0, "8"])
def test_times_of_a_server_are_seconds(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"got {name} .* wanted seconds above 0"):
        ServerSettings(**{name: value})


@pytest.mark.parametrize(
    "settings", [{"port": True}, {"port": 80.0}, {"port": 70000}, {"allowed_hosts": (" ",)}]
)
def test_ports_and_blanks_are_no_addresses_addresses(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="wanted"):
        ServerSettings(**settings)


@pytest.mark.parametrize(
    "settings", [{"deadline": float("nan")}, {"workers": True}, {"running": 0}, {"waiting": 2.0}]
)
def test_bounds_of_a_scheduler_are_numbers(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="wanted a"):
        SchedulerSettings(**settings)


@pytest.mark.parametrize(
    "name", ["http://a.example", "a.example:8000", "a.example/v1", "*", "a b", "*.example"]
)
def test_a_name_that_no_request_goes_by_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="no request goes by; wanted a name such as"):
        ServerSettings(allowed_hosts=("a.example", name))


@pytest.mark.parametrize("name", ["a.example", "A_b-c.example.", "10.1.2.3", "fd00::7", "[fd00::7]"])
def test_names_and_addresses_are_taken(name: str) -> None:
    assert ServerSettings(allowed_hosts=(name,)).allowed_hosts == (name,)


def test_a_model_without_a_name_is_refused() -> None:
    with pytest.raises(SettingError, match="empty name for the model"):
        ServerSettings(models=("a", " "))
