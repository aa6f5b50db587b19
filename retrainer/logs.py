"""Log lines: whose run they belong to, how they look, and the log file.

`output` configures logging and owns what goes to stderr; this module has the parts that do not print.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import sys
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST_BYTES = 10_000_000  # of a log file, before it is put aside
KEPT_FILES = 5  # put aside
RECENT_LINES = 50
_HIDDEN = "***"

_state: dict[str, str | None] = {"run_id": None}  # one run at a time in a process; its threads belong to it too
_secrets: set[str] = set()
_recent: deque[str] = deque(maxlen=RECENT_LINES)


@contextmanager
def one_run() -> Iterator[None]:
    """Let the log lines of the block carry the id of the run that begins in it, and none afterwards."""
    before = _state["run_id"]
    try:
        yield
    finally:
        _state["run_id"] = before


def belong_to(run_id: str) -> None:
    """Let the log lines carry a run's id from now on, those of its threads too."""
    _state["run_id"] = run_id


def hide(secret: str) -> None:
    """Keep a secret out of every log line from now on, also out of those of libraries."""
    if secret.strip():
        _secrets.add(secret)


def without_secrets(text: str) -> str:
    """Return a text with asterisks in the place of every secret that was hidden."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def recent_lines() -> list[str]:
    """Return the last log lines of this process, the oldest first."""
    return list(_recent)


def is_ours(record: logging.LogRecord) -> bool:
    """Whether a line is to be kept: one of the program or its plugins, or a warning of a library."""
    return record.name.startswith("retrainer") or record.levelno >= logging.WARNING


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, run_id, message, and traceback where there is one and it is wanted.

    Attributes:
        tracebacks: whether they are wanted.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self.tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        content = {
            "time": f"{_moment(record):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "run_id": _state["run_id"],
            "message": without_secrets(record.getMessage()),
        }
        if self.tracebacks and record.exc_info:
            content["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(content, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """A line of the log file: time (UTC), level, run, message. Further lines of a message are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        start = f"{_moment(record):%Y-%m-%dT%H:%M:%SZ} {record.levelname:<7} {_state['run_id'] or '-'} "
        return without_secrets(start + message.replace("\n", "\n    "))


class RecentLines(logging.Handler):
    """Remembers the last lines, for whoever is told of the run's end."""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line."""
        _recent.append(self.format(record))


class LogFile(logging.Handler):
    """Appends lines to a file, whole, so that several processes can share it; a large one is put aside.

    A line that cannot be written, as on a full disk, is told once, by `warn`, and is no error: the next may be written.
    """

    def __init__(self, path: Path, warn: Callable[[str], None], most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self._path = path
        self._warn = warn
        self._told = False
        self._most_bytes = most_bytes
        self._file: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            file = self._opened()
            while data:
                data = data[os.write(file, data) :]
        except Exception:  # noqa: BLE001  logging never ends the work; handleError tells of it
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  the name is logging's
        """Tell once that the file cannot be written."""
        if not self._told:
            self._told = True
            problem = sys.exception()
            why = problem.strerror if isinstance(problem, OSError) else problem
            self._warn(f"cannot write the log file '{self._path}': {why}. The work goes on without it")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        super().close()

    def _opened(self) -> int:
        """Return the file, opened anew where another process put it aside, and put aside first where it is large."""
        file = self._file
        if file is None or not self._is_current(file):
            file = self._open()
        state = os.fstat(file)
        if stat.S_ISREG(state.st_mode) and state.st_size >= self._most_bytes:
            fcntl.flock(file, fcntl.LOCK_EX)  # of two processes, one does it
            if self._is_current(file):
                self._put_aside()
            file = self._open()
        return file

    def _open(self) -> int:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        return self._file

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _put_aside(self) -> None:
        for number in range(KEPT_FILES - 1, 0, -1):
            older = self._aside(number)
            if older.exists():
                older.replace(self._aside(number + 1))
        self._path.replace(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)
