"""The log file: kept to a size, and written as long as it can be.

Apart from `logs`, since what it needs is slow to import, and most commands write none.
"""

from __future__ import annotations

from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.logs import JsonFormatter, TextFormatter, mark_run

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from retrainer.logs import LogFormat

LARGEST_FILE = 5 * 1024 * 1024
OLD_FILES = 5


class _FileHandler(RotatingFileHandler):
    """Writes to a file as long as it can; the first failure is told, the work goes on."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=LARGEST_FILE, backupCount=OLD_FILES, encoding="utf-8", delay=False)
        self._warn: Callable[[str], None] | None = warn

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
