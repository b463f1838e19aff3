"""Keeps the build libraries' known chatter off standard error, and their errors to a few words.

Errors and unknown warnings still come through. Knows names of loggers and messages, not what is being done.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

CHATTY_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "transformers")
KNOWN_WARNINGS: tuple[tuple[type[Warning], str], ...] = (
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),
    (UserWarning, r"# The axis name: .* will not be used"),
)
REASON_LENGTH = 200


def reason(error: BaseException) -> str:
    """What a library's error says, on one line and no longer than fits in a sentence of ours."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= REASON_LENGTH else f"{words[:REASON_LENGTH]} …"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch.onnx and transformers say about a build that goes well."""
    with _quiet_loggers(), _no_progress_bars(), warnings.catch_warnings():
        for category, message in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    bars: Any = transformers_logging
    enabled = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            bars.enable_progress_bar()
