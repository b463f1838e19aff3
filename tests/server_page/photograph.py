"""Photographs of the page as it is, one of which is docs/page.png.

    python -m tests.server_page.photograph docs --only page

Four of them: on a desk, in the dark, on a phone, and before anything was asked. They are to be looked at.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.server.running import MODEL, serving
from tests.server_page.acting import ask, drop_example
from tests.server_page.browser import ARGUMENTS, chromium
from vicrop_engine import ViCropEngine
from vicrop_engine.serving.scheduler import Scheduler

STEP = 5  # between the levels of a colour that are kept, so that the file is small
WINDOWS: dict[str, dict[str, Any]] = {
    "page": {"viewport": {"width": 1240, "height": 860}},
    "page-dark": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "dark"},
    "page-phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True},
    "page-empty": {"viewport": {"width": 1240, "height": 860}},
}


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=WINDOWS, nargs="+", default=list(WINDOWS))
    options = parser.parse_args()
    with (
        Scheduler(ViCropEngine.load(MODEL)) as scheduler,
        serving(scheduler) as server,
        sync_playwright() as p,
    ):
        browser = p.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        for name in options.only:
            photograph(browser, server.url, name).save(options.folder / f"{name}.png", optimize=True)
        browser.close()


def photograph(browser: Browser, url: str, name: str) -> Image.Image:
    """One of WINDOWS, with the example answered except in the empty one."""
    window = browser.new_context(reduced_motion="reduce", **WINDOWS[name])
    page = window.new_page()
    page.goto(url)
    if name != "page-empty":
        drop_example(page)
        ask(page)
        ask(page)  # once more, with what was kept of the picture
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    taken = page.screenshot(full_page=True)
    window.close()
    with Image.open(io.BytesIO(taken)) as image:
        return image.convert("RGB").point(lambda level: min(255, round(level / STEP) * STEP))


if __name__ == "__main__":
    main()
