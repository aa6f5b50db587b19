"""Import posts from a file: find its columns, validate its rows, and add the new ones.

An invalid value rejects its row, with a line and a reason. A problem with the file as a whole is a PostsError.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from retrainer.config import PostsLimits
from retrainer.errors import PostsError, UsageError, did_you_mean
from retrainer.posts.readers import find_posts_files, limit_error, quote_names
from retrainer.posts.records import RejectedRow, Row
from retrainer.posts.store import COUNT_COLUMNS
from retrainer.posts.texts import clean_text
from retrainer.posts.times import TimeColumn
from retrainer.posts.validation import (
    EPOCH,
    MICROSECOND,
    InvalidValueError,
    parse_count,
    parse_id,
    quote,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from retrainer.posts.store import PostStore

# The columns of posts in order, each with the names recognised in a file, the likeliest first.
COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "post_id": ("post_id", "id"),
    "created_at": ("created_at", "timestamp", "date"),
    "content": ("content", "text", "body"),
    **{name: (name,) for name in COUNT_COLUMNS},
}
REQUIRED_COLUMNS = ("post_id", "created_at")
MISSING_COUNT = -1
DEFAULT_LIMITS = PostsLimits()


@dataclass(frozen=True)
class PostsFile:
    """The content of a posts file.

    Attributes:
        posts: the accepted posts in the order of the file: post_id (str), created_at (datetime64[us, UTC]), content
            (object: str, or None if missing), and replies_count, reblogs_count, favourites_count (Int64, may be
            missing).
        mapping: column of posts -> column of the file, in our order, without columns that the file lacks.
        rejected: the rejected rows, in the order of the file.
        rows: the number of rows, without blank lines and the header.
        repeated: the number of rows dropped because they repeat an earlier one (same id, time and text).
    """

    posts: pd.DataFrame
    mapping: dict[str, str]
    rejected: list[RejectedRow]
    rows: int
    repeated: int


@dataclass(frozen=True)
class ImportResult:
    """The result of an import.

    Attributes:
        file: the content of the file.
        added: the number of new posts.
    """

    file: PostsFile
    added: int


def import_posts(
    store: PostStore, path: Path, columns: Mapping[str, str], now: datetime, *, strict: bool = False
) -> ImportResult:
    """Read a file and add its posts in one transaction. Posts whose id exists already are left unchanged.

    Args:
        store: where to add the posts.
        path: the file.
        columns: see `read_posts_file`.
        now: the time of the import.
        strict: refuse the whole file if any row is rejected.

    Raises:
        UsageError: `columns` names an unknown column, or one that is not in the file.
        PostsError: the file cannot be read or is refused, or the posts are in a foreign table.
    """
    store.require_writable()
    file = read_posts_file(path, columns=columns, now=now, limits=store.limits)
    if file.rejected and (strict or file.posts.empty):
        first = file.rejected[0]
        number = f"{len(file.rejected)} of {file.rows}" if strict else f"all {file.rows}"
        hint = "Fix them, or omit --strict" if strict else "Check the columns used, or choose others with --column"
        raise PostsError(
            f"cannot import '{path}': {number} rows are rejected, the first at {first.line}: {first.reason}", hint=hint
        )
    return ImportResult(file, store.add(file.posts, now))


def parse_columns(options: Iterable[str]) -> dict[str, str]:
    """Parse the `column=name` values of --column.

    Raises:
        UsageError: one has another form.
    """
    columns = {}
    for option in options:
        column, equals, name = option.partition("=")
        if not (column and equals and name):
            raise UsageError(f"--column: '{option}' is not of the form COLUMN=NAME", hint="Example: content=message")
        columns[column] = name
    return columns


def read_posts_file(
    path: Path, *, columns: Mapping[str, str], now: datetime, limits: PostsLimits = DEFAULT_LIMITS
) -> PostsFile:
    """Read a posts file by its suffix: .csv, .tsv, .json, .jsonl, .ndjson (each also with .gz), .parquet.

    Ids are kept as written, and rejected if they are floating-point numbers. Times are ISO-8601 to the day or finer,
    with a T or a space after the date, or numbers since 1970: seconds from 1e9 to below 1e11, milliseconds from 1e12 to
    below 1e14; other numbers are rejected. Times without a zone are UTC; digits beyond microseconds are cut off. Texts
    that are empty or white space are missing; NUL and lone surrogates become U+FFFD. Of rows with the same id the first
    counts: a later one with another time or text is rejected, any other is dropped as a repetition.

    Args:
        path: the file, in UTF-8 if it is text.
        columns: column of posts -> column of the file, for files whose columns are not recognised by name.
        now: aware; later posts are rejected.
        limits: the limits of the file.

    Raises:
        UsageError: `columns` names an unknown column, or one that is not in the file.
        PostsError: the file is missing, unreadable, damaged, exceeds a limit, or has no id or time column.
    """
    for column in columns:
        if column not in COLUMN_ALIASES:
            hint = f"{did_you_mean(column, COLUMN_ALIASES)} Posts have {quote_names(list(COLUMN_ALIASES))}"
            raise UsageError(f"'{shorten(column)}' is not a column of posts", hint=hint)
    [file] = find_posts_files([path], limits)
    with file.open() as table:
        mapping = _map_columns(table.columns, columns, path) if table.columns else {}
        collector = _RowCollector(table.row_unit, (now - EPOCH) // MICROSECOND)
        rejected, max_rejected = collector.rejected, limits.rejected_rows
        for row in table.rows([mapping.get(column) for column in COLUMN_ALIASES]):
            collector.add(row)
            if len(rejected) > max_rejected:
                first = rejected[0]
                problem = f"has more than {{}} rejected rows, the first at {first.line}: {first.reason}"
                raise limit_error(path, limits, problem, "rejected_rows")
    return PostsFile(collector.posts(), mapping, collector.rejected, collector.rows, collector.repeated)


def _map_columns(names: list[str], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return column of posts -> column of the file."""
    mapping: dict[str, str] = {}
    for column, aliases in COLUMN_ALIASES.items():
        name = columns[column] if column in columns else _recognise(names, aliases)
        if name is None:
            continue
        if name not in names:
            hint = f"{did_you_mean(name, names)} Its columns are {quote_names(names)}"
            raise UsageError(f"'{path}' has no column '{shorten(name)}'", hint=hint)
        if names.count(name) > 1:
            problem = f"{names.count(name)} columns named '{shorten(name)}'"
            raise PostsError(f"'{path}' has {problem}", hint="Rename all but one")
        mapping[column] = name
    for column in REQUIRED_COLUMNS:
        if column not in mapping:
            problem = f"no column for {column}: its columns are {quote_names(names)}"
            raise PostsError(f"'{path}' has {problem}", hint=f"Choose one with --column {column}=NAME")
    return mapping


def _recognise(names: list[str], aliases: tuple[str, ...]) -> str | None:
    for alias in aliases:
        if alias in names:
            return alias
        for name in names:
            if name.strip().casefold() == alias:
                return name
    return None


class _RowCollector:
    """The rows so far: the accepted ones, column by column, and the rejected ones."""

    def __init__(self, row_unit: str, now: int) -> None:
        self.rejected: list[RejectedRow] = []
        self.rows = 0
        self.repeated = 0
        self._row_unit = row_unit
        self._read_time = TimeColumn(now=now).reader("created_at")
        self._index: dict[str, int] = {}  # by id, in the columns below
        self._lines = array("q")
        self._times = array("q")
        self._texts: list[str | None] = []
        self._counts = tuple(array("q") for _ in COUNT_COLUMNS)

    def add(self, row: Row) -> None:
        """Accept the row, drop it as a repetition, or reject it."""
        self.rows += 1
        if isinstance(row, RejectedRow):
            self.rejected.append(row)
            return
        line, values = row
        try:
            self._accept(line, *values)
        except InvalidValueError as error:
            self.rejected.append(RejectedRow(line, str(error)))

    def _accept(self, line: int, raw_id: object, raw_time: object, content: object, *raw_counts: object) -> None:
        post_id = parse_id(raw_id)
        time = self._read_time(raw_time)
        text = clean_text(content)
        counts = [_count_or_missing(count) for count in raw_counts]
        first = self._index.setdefault(post_id, len(self._lines))
        if first < len(self._lines):
            self._require_same(post_id, first, time, text)
            self.repeated += 1
            return
        self._lines.append(line)
        self._times.append(time)
        self._texts.append(text)
        for column, count in zip(self._counts, counts, strict=True):
            column.append(count)

    def _require_same(self, post_id: str, first: int, time: int, text: str | None) -> None:
        """Reject a row whose id belongs to another post."""
        same = {"time": self._times[first] == time, "text": self._texts[first] == text}
        if not all(same.values()):
            different = " and ".join(name for name, is_same in same.items() if not is_same)
            owner = f"{self._row_unit} {self._lines[first]}"
            raise InvalidValueError(f"the id {quote(post_id)} is also that of {owner}, with another {different}")

    def posts(self) -> pd.DataFrame:
        """Return the accepted rows as a table."""
        times = np.array(self._times, dtype=np.int64).view("datetime64[us]")
        return pd.DataFrame(
            {
                "post_id": pd.Series(list(self._index), dtype="str"),
                "created_at": pd.Series(times).dt.tz_localize("UTC"),
                "content": pd.Series(self._texts, dtype=object),
                **{name: _count_column(counts) for name, counts in zip(COUNT_COLUMNS, self._counts, strict=True)},
            }
        )


def _count_or_missing(value: object) -> int:
    try:
        count = parse_count(value)
    except InvalidValueError:
        return MISSING_COUNT
    return MISSING_COUNT if count is None else count


def _count_column(counts: array[int]) -> pd.api.extensions.ExtensionArray:
    values = np.array(counts, dtype=np.int64)
    return pd.arrays.IntegerArray(values, values == MISSING_COUNT)
