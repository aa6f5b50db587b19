"""The limits of a file that is read: a file of a few kilobytes may expand to gigabytes."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any

from retrainer.errors import PostsError
from retrainer.posts.validation import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.config import PostsLimits

MEGABYTE = 2**20
MAX_SHOWN_NAMES = 20  # in a message


def limit_error(name: object, limits: PostsLimits, problem: str, setting: str) -> PostsError:
    """Return the error for a file that exceeds a limit; the first `{}` in the problem stands for its value."""
    problem = problem.replace("{}", f"{getattr(limits, setting):,}", 1)
    return PostsError(f"'{name}' {problem}", hint=f"Raise posts.limits.{setting} to import it")


def quote_names(names: Sequence[str]) -> str:
    """Return names in quotes for a message; the first 20 if there are more."""
    shown = ", ".join(quote(name) for name in names[:MAX_SHOWN_NAMES])
    return f"{shown} and {len(names) - MAX_SHOWN_NAMES} more" if len(names) > MAX_SHOWN_NAMES else shown


class LimitedFile(io.RawIOBase):
    """The content of a file, decompressed. Reading more than a limit allows is a PostsError.

    Attributes:
        binary: the content without limits; it can be read again from position 0.
        name: the file, for messages.
        limits: the limits.
        is_compressed: whether the content may be larger than what is on disk.
    """

    def __init__(self, binary: IO[bytes], name: str, limits: PostsLimits, *, is_compressed: bool) -> None:
        self.binary = binary
        self.name = name
        self.limits = limits
        self.is_compressed = is_compressed
        self._max_rows = limits.rows
        self.restart()

    def restart(self) -> None:
        """Count from 0 again."""
        self._bytes = self._row_bytes = self._rows = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.binary.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        data = self.binary.read(len(buffer))
        buffer[: len(data)] = data
        if self.is_compressed:
            self.count_bytes(len(data))
        self._row_bytes += len(data)
        self.check_row(self._row_bytes)
        return len(data)

    def check_row(self, size: int) -> None:
        """Check the size of a row in bytes."""
        if size > self.limits.row_megabytes * MEGABYTE:
            problem = f"has a row of more than {{}} MB, after {self._rows:,} others"
            raise limit_error(self.name, self.limits, problem, "row_megabytes")

    def count_row(self) -> None:
        """Count a row that has been read. Until the next call, only one more may be read."""
        self._row_bytes = 0
        self._rows += 1
        if self._rows > self._max_rows:
            self.check_rows(self._rows)

    def check_rows(self, rows: int) -> None:
        """Check the number of rows."""
        if rows > self.limits.rows:
            raise limit_error(self.name, self.limits, "has more than {} rows, blank ones included", "rows")

    def count_bytes(self, count: int) -> None:
        """Count what was decompressed or decoded."""
        self._bytes += count
        if self._bytes > self.limits.file_megabytes * MEGABYTE:
            raise limit_error(self.name, self.limits, "expands to more than {} MB", "file_megabytes")
