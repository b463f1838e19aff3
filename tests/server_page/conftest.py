"""A server of the embedded engine, and a browser whose pages are watched for what they ask and report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.server.running import MODEL, Running, serving
from tests.server_page.browser import ARGUMENTS, chromium
from vicrop_engine import ViCropEngine
from vicrop_engine.serving.scheduler import Scheduler

DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}
REFUSED = re.compile(  # what Chromium says of every request that is answered with an error, or not at all
    r"Failed to load resource: (the server responded with a status of 4\d\d |net::ERR_FAILED$)"
)


@dataclass
class Watched:
    """What the pages of a test asked for and what went wrong on them."""

    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """Hear everything of this page."""
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not REFUSED.match(message.text):
            self.complaints.append(message.text)


class Open(Protocol):
    """Open the page of a server, the shared one when None, in a browser window of this size."""

    def __call__(self, server: Running | None = None, **context: Any) -> Page: ...


@pytest.fixture(scope="session")
def engine() -> ViCropEngine:
    """The embedded engine."""
    return ViCropEngine.load(MODEL)


@pytest.fixture(scope="session")
def server(engine: ViCropEngine) -> Iterator[Running]:
    """The real application over it."""
    with Scheduler(engine) as scheduler, serving(scheduler) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, started once; not for longer, for its event loop keeps other tests from running theirs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, server: Running) -> Iterator[Open]:
    """Opens pages; at the end none has asked another host for anything, nor complained on its console."""
    watched = Watched()
    servers = {server.url}

    with ExitStack() as stack:

        def opened(other: Running | None = None, **context: Any) -> Page:
            running = other or server
            servers.add(running.url)
            window = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce"} | context)
            stack.callback(window.close)
            page = window.new_page()
            watched.listen(page)
            page.goto(running.url)
            return page

        yield opened
    assert watched.complaints == []
    outside = [url for url in watched.urls if not url.startswith((*servers, "blob:", "data:"))]
    assert outside == []
    assert watched.urls
