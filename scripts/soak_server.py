"""A server in a process of its own, on a free port of 127.0.0.1, and what it takes of the machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.soak_attacks import MODEL

OPTIONS = (
    *("--header-seconds", "1", "--body-seconds", "1", "--max-body-mib", "4", "--max-image-mib", "3"),
    *("--threads", "1", "--deadline", "20", "--cache-mib", "64"),
)
START_SECONDS = 60.0


@dataclass(frozen=True)
class Taken:
    """Resident memory in bytes, threads and open files of a process."""

    resident: int
    threads: int
    files: int


class ServerProcess:
    """`vicrop-engine serve llava-signs`; use it in a `with`. Its log goes to `log`.

    `under` gives the command to run instead, which ends as the server itself.
    """

    def __init__(
        self,
        log: Path,
        options: Sequence[str] = OPTIONS,
        under: Callable[[Sequence[str]], Sequence[str]] = list,
    ) -> None:
        self._log = log
        command = [sys.executable, "-m", "vicrop_engine.cli", "serve", MODEL, "--port", "0", *options]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(under(command), stderr=errors, stdout=subprocess.DEVNULL)
        self.port = 0

    def __enter__(self) -> ServerProcess:
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self.status = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.status = self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def taken(self) -> Taken:
        """What it takes now."""
        base = Path("/proc") / str(self._process.pid)
        facts = dict(re.findall(r"^(\w+):\s+(\d+)", (base / "status").read_text(), re.MULTILINE))
        files = len(list((base / "fd").iterdir()))
        return Taken(int(facts["VmRSS"]) * 1024, int(facts["Threads"]), files)

    def get(self, path: str) -> str:
        """The body of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def ask(self, document: object) -> dict[str, Any]:
        """The answer to a chat request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(document).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def load(self) -> tuple[float, float]:
        """Requests running and waiting, as `/metrics` has them."""
        page = self.get("/metrics")
        running, waiting = (
            re.search(rf"^vicrop:num_requests_{word}(?:{{.*}})? (\S+)", page, re.MULTILINE)
            for word in ("running", "waiting")
        )
        assert running is not None
        assert waiting is not None
        return float(running[1]), float(waiting[1])

    def failures(self) -> list[str]:
        """Lines of its log of level error."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if '"level": "error"' in line or "Traceback" in line]

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.is_running:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", self._log.read_text(encoding="utf-8"))
            self.port = int(found[1]) if found else 0
            try:
                if self.port and "ready" in self.get("/health"):
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"the server was not ready: {self._log.read_text(encoding='utf-8')[-2000:]}")
