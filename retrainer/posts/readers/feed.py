"""Read RSS and Atom feeds, and WordPress exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import PostsError
from retrainer.posts.feeds import parse_feed
from retrainer.posts.readers.limits import MEGABYTE
from retrainer.posts.records import NoRecordsError, PostsTable, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.limits import LimitedFile
    from retrainer.posts.readers.options import ReadOptions

MAX_MEGABYTES = 100  # read as a whole

_BUFFER_BYTES = 2**17


def read(file: LimitedFile, _options: ReadOptions) -> PostsTable:
    """Read a feed as a table of its entries."""
    data = bytearray()
    while chunk := file.read(_BUFFER_BYTES):
        data += chunk
        if len(data) > MAX_MEGABYTES * MEGABYTE:
            raise PostsError(f"'{file.name}' has more than {MAX_MEGABYTES} MB of XML", hint="Split it")
    entries = parse_feed(bytes(data))
    if not entries:
        raise NoRecordsError(f"'{file.name}' has no entries of an RSS or Atom feed", hint="Choose a file with entries")

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        file.rows = 0
        for number, entry in enumerate(entries, 1):
            file.count_row()
            yield number, [None if name is None else entry.get(name) for name in columns]

    return PostsTable(file.name, list(dict.fromkeys(name for entry in entries for name in entry)), rows, "entry")
