"""How log lines are written: for people, or one JSON object a line; with the run that each belongs to.

`output` writes them to stderr; a file of them, kept to a size, is written beside it.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from retrainer.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

LogFormat = Literal["text", "json"]

RECENT_LINES = 50
_HIDDEN = "***"

_secrets: set[str] = set()
_recent: deque[str] = deque(maxlen=RECENT_LINES)
_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)


@contextmanager
def run_log_context(run_id: str | None) -> Iterator[None]:
    """Mark the log lines of the block with the run that they belong to; None for no run."""
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


def add_run_id(record: logging.LogRecord) -> bool:
    """Note on a record which run it belongs to; a logging filter that lets everything through."""
    record.run_id = _run_id.get()
    return True


def hide(secret: str) -> None:
    """Keep a secret out of every log line from now on, also out of those of libraries."""
    if secret.strip():
        _secrets.add(secret)


def redact(text: str) -> str:
    """Return a text with asterisks in the place of every secret that was hidden."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def recent_lines() -> list[str]:
    """Return the last log lines of this process, the oldest first."""
    return list(_recent)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, run_id; the traceback where there is one."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run_id": getattr(record, "run_id", None),
        }
        if record.exc_info and self._tracebacks:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """A line of a log file: time (UTC), level, run, message; below it the traceback where there is one."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        run = getattr(record, "run_id", None)
        time = datetime.fromtimestamp(record.created, UTC)
        line = f"{format_timestamp(time)} {record.levelname:7} {run or '-'} {record.getMessage()}"
        if record.exc_info and self._tracebacks:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


class RecentLines(logging.Handler):
    """Remembers the last lines, for whoever is told of the run's end."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter(tracebacks=False))

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line."""
        _recent.append(self.format(record))
