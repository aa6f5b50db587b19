"""The log file: rotated by size, and shared by several processes.

Separate from `logs` because its imports are slow and most commands write no log file.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.files import open_output
from retrainer.logs import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from retrainer.logs import LogFormat

MAX_BYTES = 5 * 1024 * 1024
BACKUPS = 5


class _FileHandler(RotatingFileHandler):
    """Warns once if the file cannot be written, and goes on.

    When another process has rotated the file, this one continues in the new file.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8")
        self._warn: Callable[[str], None] | None = warn

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open_output(Path(self.baseFilename), append=True), encoding=self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line to the current file."""
        if self.stream is not None and not self._is_current(self.stream.fileno()):
            self.stream.close()
            self.stream = None  # reopened for the line
        super().emit(record)

    def doRollover(self) -> None:  # noqa: N802  the name in logging
        """Rotate the file, unless another process is doing so.

        The lock is not waited for: any user who can read the file can hold it, and logging must not block.
        """
        if self.stream is None:
            return
        held = os.dup(self.stream.fileno())  # keeps the lock while the stream is closed
        try:
            with suppress(OSError):  # locked by another process, or a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(held):
                    super().doRollover()
        finally:
            os.close(held)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), Path(self.baseFilename).stat())
        except FileNotFoundError:
            return False
        except OSError:  # stay with the open file
            return True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name in logging
        """Warn once that lines are lost."""
        del record
        if self._warn is not None:
            warn, self._warn = self._warn, None
            warn(f"cannot write the log file '{self.baseFilename}'; further log lines are lost")


def file_handler(path: Path, log_format: LogFormat, warn: Callable[[str], None]) -> logging.Handler:
    """Return a handler that appends to a file and rotates it at 5 MiB, keeping five old files.

    Args:
        path: the file; its folder is created if it is missing.
        log_format: the format of the lines.
        warn: called once if the file cannot be written any more.

    Raises:
        UsageError: the file cannot be opened.
    """
    try:
        path.parent.mkdir(exist_ok=True)  # without parents: a longer missing path is likely a typo
        handler = _FileHandler(path, warn)
    except OSError as error:
        raise UsageError(
            f"--log-file: cannot write '{path}': {error.strerror}", hint="Choose a writable path"
        ) from error
    handler.setFormatter((JsonFormatter if log_format == "json" else TextFormatter)(tracebacks=True))
    return handler
