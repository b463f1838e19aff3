"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(find: Callable[[], Found]) -> Found:
    """What is found as soon as it is there; Ray takes some seconds to replace a replica."""
    for _ in range(600):
        if found := find():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come within a minute")
