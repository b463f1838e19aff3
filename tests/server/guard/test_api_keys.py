"""Keys: who is let in, who is not, and how they are compared."""

from __future__ import annotations

import asyncio
import hmac
from pathlib import Path

import pytest
from starlette.types import Message

from tests.server.asking import Echo, ask
from vicrop_engine.errors import SettingError
from vicrop_engine.server.guard.api_keys import ApiKeys
from vicrop_engine.server.key_file import keys_in
from vicrop_engine.server.settings import ServerSettings

KEYS = ("first-key-of-two", "second-key-of-two")


def guarded(*keys: str) -> tuple[ApiKeys, Echo]:
    app = Echo()
    return ApiKeys(app, ServerSettings(api_keys=keys)), app


@pytest.mark.parametrize("header", [f"Bearer {KEYS[0]}", f"bearer {KEYS[1]}", f"BEARER  {KEYS[1]} "])
def test_each_key_opens(header: str) -> None:
    assert ask(guarded(*KEYS)[0], authorization=header).status == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEYS[0]}",
        KEYS[0],
        f"Bearer {KEYS[0]}x",
        f"Bearer {KEYS[0][:-1]}",
        "Bearer " + "k" * 10000,
        f"Bearer {KEYS[0]},{KEYS[1]}",
        "Bearer ÿþ",
    ],
)
def test_everything_else_is_told_how(header: str) -> None:
    keys, app = guarded(*KEYS)
    answer = ask(keys, [b"secret"], authorization=header)
    assert (answer.status, answer.error["type"]) == (401, "authentication_error")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert app.bodies == []
    assert not any(key in str(answer) for key in KEYS)


def test_without_a_header_the_answer_is_another() -> None:
    assert ask(guarded(*KEYS)[0]).error["code"] == "missing_api_key"
    assert ask(guarded(*KEYS)[0], authorization="Bearer x").error["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/", 200), ("/metrics", 401), ("/health/", 401)]
)
def test_health_and_page_are_open(path: str, status: int) -> None:
    assert ask(guarded(*KEYS)[0], path=path).status == status


def test_without_keys_everything_is() -> None:
    assert ask(guarded()[0]).status == 200


def test_every_key_is_compared_as_a_digest_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: seen.append((a, b)) or compare(a, b))
    keys = guarded(*KEYS)[0]
    assert ask(keys, authorization=f"Bearer {KEYS[0]}").status == 200
    assert [len(side) for pair in seen for side in pair] == [32] * 4
    assert not any(key in repr(vars(keys)) for key in KEYS)


def test_websockets_are_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    asyncio.run(guarded(*KEYS)[0]({"type": "websocket", "path": "/v1/models", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_keys_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of today\n{KEYS[0]}\n\n  {KEYS[1]}\n")
    assert keys_in(path) == KEYS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"# none\n", "holds no key"),
        (b"sh~rt\n", "line 1"),
        (b"a key with spaces\n", "line 1"),
        ("schlüssel-mit-ü\n".encode(), "line 1"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
def test_files_without_keys(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=words) as caught:
        keys_in(path)
    assert content.decode("latin-1").strip() not in str(caught.value)
    with pytest.raises(SettingError, match="cannot be read"):
        keys_in(tmp_path / "none")
