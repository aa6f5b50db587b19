"""The limits of a file that is read: a file of a few kilobytes may expand to gigabytes."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from retrainer.errors import PostsError
from retrainer.posts.validation import quote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePath

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


class LimitedFile:
    """The content of a file, decompressed. What exceeds a limit is a PostsError.

    Attributes:
        binary: the content without limits; it can be read again from position 0.
        name: the file, for messages.
        path: its path, or that in an archive.
        limits: the limits.
        is_compressed: whether the content may be larger than what is on disk.
        rows: the number of rows so far, blank ones included.
    """

    def __init__(
        self, binary: IO[bytes], name: str, path: PurePath, limits: PostsLimits, *, is_compressed: bool
    ) -> None:
        self.binary = binary
        self.name = name
        self.path = path
        self.limits = limits
        self.is_compressed = is_compressed
        self.max_row_bytes = limits.row_megabytes * MEGABYTE
        self.restart()

    def restart(self) -> None:
        """Read from the start, and count from 0 again."""
        self.binary.seek(0)
        self.rows = self._bytes = 0

    def read(self, count: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        data = self.binary.read(count)
        if self.is_compressed:
            self.count_bytes(len(data))
        return data

    def count_row(self) -> None:
        self.rows += 1
        if self.rows > self.limits.rows:
            raise self.rows_error()

    def rows_error(self) -> PostsError:
        """Return the error for too many rows."""
        return limit_error(self.name, self.limits, "has more than {} rows, blank ones included", "rows")

    def row_error(self) -> PostsError:
        """Return the error for a row, record or text that is too large."""
        problem = f"has a row of more than {{}} MB, after {self.rows:,} others"
        return limit_error(self.name, self.limits, problem, "row_megabytes")

    def count_bytes(self, count: int) -> None:
        """Count what was decompressed or decoded."""
        self._bytes += count
        if self._bytes > self.limits.file_megabytes * MEGABYTE:
            raise limit_error(self.name, self.limits, "expands to more than {} MB", "file_megabytes")
