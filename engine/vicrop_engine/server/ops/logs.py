"""Log records as lines on standard error: JSON for programs or text for people, with a record's own facts."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from vicrop_engine.errors import SettingError, one_of

LOGGERS = ("vicrop_engine", "uvicorn")
FACTS = "facts"  # the record's attribute with its named values


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and the record's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        document |= getattr(record, FACTS, {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextLines(logging.Formatter):
    """Time, level, event, then `name=value` for the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the traceback where there is one."""
        facts: dict[str, Any] = getattr(record, FACTS, {})
        pairs = [f"{name}={value}" for name, value in facts.items()]
        text = " ".join([_time(record), record.levelname, record.getMessage(), *pairs])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


FORMATS: dict[str, type[logging.Formatter]] = {"json": JsonLines, "text": TextLines}


def log_to_stderr(kind: str) -> None:
    """Write the package's and the HTTP server's records in this format. Raises SettingError."""
    if kind not in FORMATS:
        raise SettingError(one_of("log format", kind, FORMATS))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[kind]())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "vicrop_engine" else logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
