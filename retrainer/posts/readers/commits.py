"""Read the output of `git log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.posts.git_log import COLUMNS, parse_git_log
from retrainer.posts.readers.text import Lines, find_encoding
from retrainer.posts.records import PostsTable, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.limits import LimitedFile
    from retrainer.posts.readers.options import ReadOptions


def read(file: LimitedFile, options: ReadOptions) -> PostsTable:
    """Read the output of `git log` as a table of its commits."""
    encoding, detected = find_encoding(file, options.encoding)

    def counted_lines() -> Iterator[str]:
        lines = Lines(file, encoding)
        for number, line in enumerate(lines.start(1), 1):
            lines.row = number
            yield line

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        file.restart()
        for line, commit in parse_git_log(counted_lines()):
            file.count_row()
            yield line, [None if name is None else commit.get(name) for name in columns]

    return PostsTable(file.name, list(COLUMNS), rows, "line", detected)
