"""The log file: rotated by size, and shared by several processes.

Separate from `logs` because its imports are slow and most commands write no log file.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.files import open_output, open_regular
from retrainer.logs import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from retrainer.logs import LogFormat

MAX_BYTES = 5 * 1024 * 1024
BACKUPS = 5
# How a line of a log starts, as text and as JSON.
_LOG_LINE = re.compile(rb'(\{"time": ")?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z \S+ +\S|\.\d{3}Z", "level": ")')


class _FileHandler(RotatingFileHandler):
    """Warns once if the file cannot be written, and goes on.

    When another process has rotated the file, this one continues in the new file. Only logs are rotated: a file that
    does not begin with a line of a log is somebody else's, and is neither renamed nor deleted.
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
        if self.stream is None or not os.fstat(self.stream.fileno()).st_size:  # a line may be longer than a whole file
            return
        held = os.dup(self.stream.fileno())  # keeps the lock while the stream is closed
        try:
            with suppress(OSError):  # locked by another process, or a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(held) and self._may_rotate():
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

    def _may_rotate(self) -> bool:
        """Whether all files that would be renamed or deleted are logs; if not, this process stops rotating."""
        names = [self.baseFilename, *(f"{self.baseFilename}.{number}" for number in range(1, self.backupCount + 1))]
        foreign = next((name for name in names if os.path.lexists(name) and not _is_log(Path(name))), None)
        if foreign is not None:
            self.maxBytes = 0
            if self._warn is not None:
                self._warn(f"the log file '{self.baseFilename}' is not rotated: '{foreign}' is not a log. Move it away")
        return foreign is None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name in logging
        """Warn once that lines are lost."""
        del record
        if self._warn is not None:
            warn, self._warn = self._warn, None
            warn(f"cannot write the log file '{self.baseFilename}'; further log lines are lost")


def _is_log(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return _LOG_LINE.match(file.read(100)) is not None
    except OSError:
        return False


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
