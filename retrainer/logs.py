"""Log lines: their formats, for people or as JSON, the run that each belongs to, and the secrets kept out of them."""

from __future__ import annotations

import json
import logging
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from retrainer.escapes import visible, visible_json, visible_lines
from retrainer.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

LogFormat = Literal["text", "json"]

RECENT_LINES = 50
MAX_RECORDS = 20  # of a kind that `RateLimit` passes in LIMIT_SECONDS
LIMIT_SECONDS = 60
COMMAND_ERROR = "command_error"  # an attribute of the log record of the error that ended the command
IN_WORKER = "in_worker"  # an attribute of a log record of a fleet's worker, which stderr shows with --verbose only
WITH_TRACEBACK = "with_traceback"  # an attribute of a log record whose traceback is always shown

_recent: deque[str] = deque(maxlen=RECENT_LINES)
_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)
_muted: ContextVar[bool] = ContextVar("muted", default=False)


@contextmanager
def run_log_context(run_id: str | None) -> Iterator[None]:
    """Mark the log lines of the block with the run that they belong to; None for no run."""
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


@contextmanager
def mute_run_logs() -> Iterator[None]:
    """Drop the program's own log records in the block, such as those of the runs of a replay."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def apply_log_context(record: logging.LogRecord) -> bool:
    """Add the run ID to a record; a logging filter that drops muted records."""
    record.run_id = _run_id.get()
    return not (_muted.get() and record.name.startswith("retrainer."))


def recent_lines() -> list[str]:
    """Return the last log lines of this process, oldest first."""
    return list(_recent)


class RateLimit(logging.Filter):
    """Drops records of a kind that occurs too often, and counts them in the next one that passes.

    A kind is the attribute `kind` of the record, or else the line of code that logs it. One filter may serve several
    handlers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[object, tuple[float, int]] = {}  # when it began and the number of records, by kind

    def filter(self, record: logging.LogRecord) -> bool:
        decision = vars(record).setdefault("is_within_limit", None)
        if decision is None:
            decision = vars(record)["is_within_limit"] = self._count(record)
        return bool(decision)

    def _count(self, record: logging.LogRecord) -> bool:
        kind = getattr(record, "kind", (record.pathname, record.lineno))
        begun, count = self._windows.get(kind, (record.created, 0))
        if abs(record.created - begun) >= LIMIT_SECONDS:
            if count > MAX_RECORDS:
                record.msg = f"{record.getMessage()} (and {count - MAX_RECORDS} more like this before it)"
                record.args = ()
            begun, count = record.created, 0
        self._windows[kind] = (begun, count + 1)
        return count < MAX_RECORDS


class _Formatter(logging.Formatter):
    """Base of the formats: secrets are redacted, control characters are visible, tracebacks are optional."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def _traceback(self, record: logging.LogRecord) -> str:
        wanted = self._tracebacks or getattr(record, WITH_TRACEBACK, False)
        if not wanted:
            return ""
        if record.exc_info:
            return redact(self.formatException(record.exc_info))
        return redact(record.exc_text or "")  # of a worker, which cannot send the exception itself

    def _lines(self, start: str, record: logging.LogRecord) -> str:
        """Return the message on one line that starts like this, and the traceback below it."""
        line = visible(start + redact(record.getMessage()))
        return "\n".join(filter(None, (line, visible_lines(self._traceback(record)))))


class JsonFormatter(_Formatter):
    """One JSON object a line: time (UTC), level, logger, message, run_id, and traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            "run_id": getattr(record, "run_id", None),
        }
        if traceback := self._traceback(record):
            line["traceback"] = traceback
        return visible_json(json.dumps(line, ensure_ascii=False))


class TextFormatter(_Formatter):
    """A line of a log file: time (UTC), level, run, message; the traceback follows if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or several with a traceback."""
        run = getattr(record, "run_id", None)
        time = datetime.fromtimestamp(record.created, UTC)
        return self._lines(f"{time:%Y-%m-%dT%H:%M:%SZ} {record.levelname:7} {run or '-'} ", record)


class StderrFormatter(_Formatter):
    """A line for a person: the message, after the level if it is a warning or an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or several with a traceback."""
        prefix = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        if getattr(record, COMMAND_ERROR, False):
            prefix = "Error: "
        return self._lines(prefix, record)


class RecentLines(logging.Handler):
    """Keeps the last lines for `recent_lines`."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter(tracebacks=False))

    def emit(self, record: logging.LogRecord) -> None:
        _recent.append(self.format(record))
