"""The records of posts as they stand in a file or a source, before their values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrainer.errors import PostsError


class NoRecordsError(PostsError):
    """A file is empty, or holds no records."""


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot be imported.

    Attributes:
        line: where the row starts: the line of the file, with the header as line 1 (CSV, TSV, JSON Lines), or the
            number of the record, counted from 1 (JSON, Parquet).
        reason: a short clause, with the value in quotes.
    """

    line: int
    reason: str


Row = tuple[int, Sequence[object]] | RejectedRow


@dataclass(frozen=True)
class PostsTable:
    """An open posts file, or one file of an archive or a folder.

    Attributes:
        name: where it is, for messages: a path, or `archive.zip: data/tweets.js`.
        columns: the names of the columns of a table; of nested records, the dotted path of each value that is no
            object, in the order seen: `id`, `object.content`, `media.0.title`. Empty if no record could be read.
        rows: takes the wanted columns or paths and yields the rows, (line, values) or rejected. The values of None
            and of an absent column are None. It may be called again, to read the rows from the start.
        row_unit: what `line` counts, for a reader.
        detected: what was found out about the file, each a short clause for a reader: `separator ';'`,
            `encoding UTF-16`, `records in 'messages'`.
        records: the dotted path of the array of records in a document; None if the records stand alone.
    """

    name: str
    columns: list[str]
    rows: Callable[[Sequence[str | None]], Iterator[Row]]
    row_unit: str
    detected: tuple[str, ...] = ()
    records: str | None = None


def value_paths(record: object, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each value in a record that is no object or array."""
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(record, Mapping):
        parts = record.items()
    elif isinstance(record, list):
        parts = enumerate(record)
    elif prefix:
        yield prefix.removesuffix(".")
    for name, value in parts:
        yield from value_paths(value, f"{prefix}{name}.")


def find_value(record: Any, path: str) -> Any:
    """Return the value at a dotted path in a record or a document; None if there is none."""
    for name in path.split(".") if path else ():
        if isinstance(record, Mapping):
            record = record.get(name)
        elif isinstance(record, list) and name.isdigit() and int(name) < len(record):
            record = record[int(name)]
        else:
            return None
    return record
