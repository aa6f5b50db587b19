"""The log file: kept to a size, and written as long as it can be.

Apart from `logs`, since what it needs is slow to import, and most commands write none.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.logs import JsonFormatter, TextFormatter, apply_log_context

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from retrainer.logs import LogFormat

LARGEST_FILE = 5 * 1024 * 1024
OLD_FILES = 5


class _FileHandler(RotatingFileHandler):
    """Writes to a file as long as it can; the first failure is told, the work goes on.

    Several processes may write to one file; where another has begun a new one, they go on in that.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=LARGEST_FILE, backupCount=OLD_FILES, encoding="utf-8", delay=False)
        self._warn: Callable[[str], None] | None = warn

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line to the file that has the name now."""
        if self.stream is not None and not self._is_current(self.stream.fileno()):
            self.stream.close()
            self.stream = None  # opened again for the line
        super().emit(record)

    def doRollover(self) -> None:  # noqa: N802  logging's own name
        """Begin a new file, unless another process is about to.

        It is not waited for: whoever may read the file may hold its lock, and a log must not stop the work.
        """
        if self.stream is None:
            return
        held = os.dup(self.stream.fileno())  # the lock outlasts the stream, which is closed meanwhile
        try:
            with suppress(OSError):  # a lock that is held, or a file system without them
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(held):
                    super().doRollover()
        finally:
            os.close(held)

    def _is_current(self, opened: int) -> bool:
        try:
            return os.path.samestat(os.fstat(opened), Path(self.baseFilename).stat())
        except FileNotFoundError:
            return False
        except OSError:  # it cannot be looked at: then what is open is used
            return True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say once that lines are lost."""
        del record
        if self._warn is not None:
            warn, self._warn = self._warn, None
            warn(f"the log file '{self.baseFilename}' cannot be written: log lines are lost from here on")


def file_handler(path: Path, kind: LogFormat, warn: Callable[[str], None]) -> logging.Handler:
    """Return a handler that appends to a file, and begins a new one at 5 MiB; five old ones are kept.

    Args:
        path: of the file; its folder is made where it is missing.
        kind: of the lines.
        warn: told, once, when the file cannot be written any more.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        path.parent.mkdir(exist_ok=True)  # the last one only: a longer path that is missing is a slip
        handler = _FileHandler(path, warn)
    except OSError as error:
        raise UsageError(
            f"--log-file: '{path}' cannot be written: {error.strerror}", hint="Name a file in a folder of yours"
        ) from error
    handler.setFormatter(JsonFormatter(tracebacks=True) if kind == "json" else TextFormatter(tracebacks=True))
    handler.addFilter(apply_log_context)
    return handler
