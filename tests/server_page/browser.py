"""The browser that the page is tested in: whichever Chromium this machine has, kept from all other hosts."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "found no Chromium to test the page in; install one (Debian: apt-get install -y --no-install-recommends "
    "chromium), or name it in $CHROMIUM"
)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def chromium() -> str:
    """The path of the browser's program. Fails with what to install where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    assert found is not None, MISSING
    return found
