"""A Hugging Face hub on this machine: the few endpoints a download needs, a log, and ways to fail.

One repository, one commit. What a client asked for is in `log`; `cuts`, `refusals` and `endless` spoil the
bodies of files.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote, urlsplit

HUB_ID = "some-one/some-llava"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENDLESS = 20 * 10**9
PIECE = bytes(1 << 20)
FLOWING, MOST = 40, 800  # pieces of an endless body that tell, and that fit on a disk


@dataclass(frozen=True)
class Asked:
    """One request: for a file of the repository, else `name` is the path."""

    method: str
    name: str
    range: str | None = None


@dataclass
class Hub:
    """The repository that is served, how it fails, and what it was asked."""

    directory: Path
    url: str = ""
    cuts: dict[str, int] = field(default_factory=dict)  # the first body of the file ends after so many bytes
    refusals: set[str] = field(default_factory=set)  # the body is not given
    endless: set[str] = field(default_factory=set)  # the body never ends
    flowing: Event = field(default_factory=Event)  # much of an endless body has gone out
    ended: Event = field(default_factory=Event)  # the hub is about to stop
    log: list[Asked] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Names of the files whose bodies were asked for, in order."""
        return [asked.name for asked in self.log if asked.method == "GET" and "/" not in asked.name]

    def ranges(self, name: str) -> list[str | None]:
        """The ranges that were asked for of the file's body, in order."""
        return [asked.range for asked in self.log if (asked.method, asked.name) == ("GET", name)]

    def files(self) -> dict[str, int]:
        """Sizes of all files."""
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return {path.relative_to(self.directory).as_posix(): path.stat().st_size for path in paths}


@contextmanager
def serving(directory: Path) -> Iterator[Hub]:
    """Serve the files of a directory as the repository HUB_ID."""
    hub = Hub(directory)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing; `log` has it."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = re.fullmatch(rf"/{HUB_ID}/resolve/(main|{COMMIT})/(.+)", path)
        self.served.log.append(Asked(self.command, found[2] if found else path, self.headers["Range"]))
        if found:
            self._give_file(found[2])
        elif re.fullmatch(rf"/api/models/{HUB_ID}(/revision/(main|{COMMIT}))?", path):
            siblings = [{"rfilename": name} for name in self.served.files()]
            self._give_json({"id": HUB_ID, "sha": COMMIT, "private": False, "siblings": siblings})
        elif path == f"/api/models/{HUB_ID}/tree/{COMMIT}":
            files = self.served.files().items()
            self._give_json([{"type": "file", "path": name, "size": n, "oid": name} for name, n in files])
        else:
            self._refuse(404)

    def _give_json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self._begin(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _give_file(self, name: str) -> None:
        path = self.served.directory / name
        if not path.is_file():
            self._refuse(404)
            return
        if name in self.served.refusals and self.command == "GET":
            self._refuse(500)
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        first = (
            int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if self.headers["Range"]
            else 0
        )
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        size = ENDLESS if name in self.served.endless else len(content) - first
        self._begin(206 if first else 200, {**headers, "Accept-Ranges": "bytes", "Content-Length": str(size)})
        if self.command == "GET":
            self._give_body(name, content[first:])

    def _give_body(self, name: str, body: bytes) -> None:
        if name in self.served.endless:
            self._give_endlessly()
        elif name in self.served.cuts:
            self.wfile.write(body[: self.served.cuts.pop(name)])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _give_endlessly(self) -> None:
        self.close_connection = True
        try:
            for index in range(MOST):
                self.wfile.write(PIECE)
                if index == FLOWING:
                    self.served.flowing.set()
                time.sleep(0.005)
            self.served.ended.wait()
        except OSError:  # whoever asked has gone
            return

    def _refuse(self, status: int) -> None:
        if status == 404:
            self._begin(404, {"X-Error-Code": "RepoNotFound", "Content-Length": "0"})
        else:
            self._begin(status, {"Content-Length": "0"})

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
