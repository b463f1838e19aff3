"""The command `serve` as a process: ready, asked, and stopped by a signal in the middle of its work."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.server.running import MODEL, SECONDS, chat, demo_text, wait_until
from vicrop_engine import cli
from vicrop_engine.errors import SettingError
from vicrop_engine.server import run as running
from vicrop_engine.server.key_file import read_keys
from vicrop_engine.server.settings import ServerSettings
from vicrop_engine.serving.settings import SchedulerSettings


@dataclass
class Served:
    """The process and the lines of its log so far."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        """Keep the log's lines until it ends."""
        assert self.process.stderr is not None
        self.lines.extend(json.loads(line) for line in self.process.stderr)

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def url(self) -> str:
        return next(line["url"] for line in self.lines if line["event"] == "listening")


@contextlib.contextmanager
def serve(*options: str) -> Iterator[Served]:
    """`vicrop-engine serve` on a free port, ready; killed at the end if it is still there."""
    command = [sys.executable, "-m", "vicrop_engine.cli", "serve", MODEL, "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes) as process:
        served = Served(process)
        reader = threading.Thread(target=served.read)
        reader.start()
        try:
            wait_until(lambda: "ready" in served.events() or process.poll() is not None, "readiness")
            yield served
        finally:
            process.kill()
            reader.join(SECONDS)


def post(served: Served, document: dict[str, Any]) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=SECONDS) as http:
        return http.post(f"{served.url()}/v1/chat/completions", json=document)


def under_way(http: httpx.Client) -> float:
    """Requests accepted and not answered."""
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("vicrop:num_requests"))


def test_a_signal_lets_what_was_accepted_finish(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.radial_gradient("L").resize((3000, 3000)).save(large)
    picture, high_res = large.read_bytes(), {"high_res": "on"}
    slow = [chat(f"What is number {number}?", picture, vicrop=high_res) for number in range(6)]
    with serve("--threads", "1", "--waiting", "16") as served, ThreadPoolExecutor(6) as pool:
        with httpx.Client(base_url=served.url(), trust_env=False) as http:
            assert http.get("/health").json() == {"status": "ready"}
            assert post(served, chat(demo_text())).json()["choices"][0]["message"]["content"] == "1"
            asked = [pool.submit(post, served, document) for document in slow]
            wait_until(lambda: under_way(http) == 6, "the load")
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in served.events(), "the drain")
        with pytest.raises(httpx.ConnectError):
            post(served, slow[0])
        assert [answer.result().status_code for answer in asked] == [200] * 6
        assert served.process.wait(SECONDS) == 0
        assert served.process.stdout is not None
        assert served.process.stdout.read() == ""
        wait_until(lambda: "stopped" in served.events())
    events = served.events()
    assert events[:2] == ["listening", "ready"]
    assert events[events.index("draining") :].count("request") >= 4, "answered while it drained"


def test_ctrl_c_ends_it_as_well() -> None:
    with serve() as served:
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(SECONDS) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which the command refuses."""
    status = cli.main(["serve", *arguments])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_an_address_in_use_is_refused_before_the_engine_is_opened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, "no-such-engine", "--port", str(port))
    assert f"cannot listen on 127.0.0.1 port {port}" in said
    assert "give another --host or --port" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "70000"), "got port 70000, wanted one from 0"),
        (("--when", "somtimes"), "unknown when 'somtimes'"),
        (("--log-format", "jsn"), "did you mean 'json'?"),
        (("--deadline", "0"), "got deadline 0"),
        (("--running", "0"), "got running 0"),
        (("--max-image-mib", "0"), "got max_image_bytes 0"),
        (("--api-key-file", "nowhere"), "nowhere"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    status = cli.main(["serve", MODEL, *options])
    assert status in (1, 2)
    assert words in capsys.readouterr().err


def test_a_missing_extra_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", MODEL]) == 1
    said = capsys.readouterr().err
    assert said == (
        "error: serving needs uvicorn, which is not installed; run pip install 'vicrop-engine[serve]'\n"
    )


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nalpha-of-two\n\n  beta-of-two \n", encoding="utf-8")
    monkeypatch.setenv("VICROP_API_KEYS", "gamma, delta,")
    assert read_keys(file) == ("alpha-of-two", "beta-of-two")
    assert read_keys(None) == ("gamma", "delta")
    monkeypatch.delenv("VICROP_API_KEYS")
    assert read_keys(None) == ()
    file.write_text("# none\n", encoding="utf-8")
    with pytest.raises(SettingError, match="holds no key"):
        read_keys(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match="not UTF-8"):
        read_keys(file)


@pytest.mark.parametrize(
    ("host", "keys", "is_open"),
    [
        ("127.0.0.1", (), False),
        ("127.8.9.1", (), False),
        ("::1", (), False),
        ("localhost", (), False),
        ("0.0.0.0", (), True),
        ("example.org", (), True),
        ("0.0.0.0", ("key",), False),
    ],
)
def test_a_server_open_to_all_says_so(
    host: str,
    keys: tuple[str, ...],
    is_open: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Opened(Exception):
        """The engine would be opened now."""

    def open_engine() -> Any:
        raise Opened

    monkeypatch.setattr(running, "listen", lambda *_: contextlib.nullcontext())
    with pytest.raises(Opened):
        running.run(open_engine, SchedulerSettings(), ServerSettings(host=host, port=0, api_keys=keys))
    assert ("no API keys are set" in caplog.text) == is_open
