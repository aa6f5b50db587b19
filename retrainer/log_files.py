"""The log file: kept to a size, and written as long as it can be.

Apart from `logs`, since what it needs is slow to import, and most commands write none.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.logs import JsonFormatter, TextFormatter, mark_run

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator

    from retrainer.logs import LogFormat

LARGEST_FILE = 5 * 1024 * 1024
OLD_FILES = 5


class _FileHandler(RotatingFileHandler):
    """Writes to a file as long as it can; the first failure is told, the work goes on.

    Several processes may write to one file: one at a time, and where another has begun a new file, to that one.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=LARGEST_FILE, backupCount=OLD_FILES, encoding="utf-8", delay=False)
        self._warn: Callable[[str], None] | None = warn

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            with self._one_at_a_time():
                super().emit(record)
        except OSError:
            self.handleError(record)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the file that has the name now: one that was renamed while we waited for it is not it."""
        while True:
            if self.stream is None:
                self.stream = self._open()
            held = self.stream.fileno()
            with suppress(OSError):  # a file system without locks: as if there were one process
                fcntl.flock(held, fcntl.LOCK_EX)
            if self._is_current(held):
                break
            self.stream.close()  # and with it the lock
            self.stream = None
        copy = os.dup(held)  # the lock outlasts the stream, which a rotation closes
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(copy, fcntl.LOCK_UN)
            os.close(copy)

    def _is_current(self, opened: int) -> bool:
        try:
            return os.path.samestat(os.fstat(opened), Path(self.baseFilename).stat())
        except FileNotFoundError:
            return False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say once that lines are lost."""
        del record
        if self._warn is not None:
            warn, self._warn = self._warn, None
            warn(f"the log file '{self.baseFilename}' cannot be written: log lines are lost from here on")


def file_handler(path: Path, kind: LogFormat, warn: Callable[[str], None]) -> logging.Handler:
    """Return a handler that appends to a file, and begins a new one at 5 MiB; five old ones are kept.

    Args:
        path: of the file; its folder is there.
        kind: of the lines.
        warn: told, once, when the file cannot be written any more.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        handler = _FileHandler(path, warn)
    except OSError as error:
        raise UsageError(
            f"--log-file: '{path}' cannot be written: {error.strerror}", hint="Name a file in a folder of yours"
        ) from error
    handler.setFormatter(JsonFormatter(tracebacks=True) if kind == "json" else TextFormatter())
    handler.addFilter(mark_run)
    return handler
