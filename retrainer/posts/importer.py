"""Import posts from a file: find its columns, check its rows, add what is new.

What is wrong with one row rejects that row, with its line and a reason; what is wrong with the file is a
PostsError.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from retrainer.errors import PostsError, UsageError, did_you_mean
from retrainer.posts.readers import RejectedRow, Row, open_posts_file, quote_names
from retrainer.posts.store import COUNT_COLUMNS
from retrainer.posts.validation import (
    EPOCH,
    MICROSECOND,
    MISSING_COUNT,
    InvalidValueError,
    parse_count,
    parse_id,
    parse_text,
    parse_time,
    quote,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from retrainer.posts.store import PostStore

# Our columns in order, each with the names that are recognised without being told, the likeliest first.
COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "post_id": ("post_id", "id"),
    "created_at": ("created_at", "timestamp", "date"),
    "content": ("content", "text", "body"),
    **{name: (name,) for name in COUNT_COLUMNS},
}
REQUIRED_COLUMNS = ("post_id", "created_at")


@dataclass(frozen=True)
class PostsFile:
    """What a file of posts holds.

    Attributes:
        posts: the accepted posts in the file's order: post_id (str), created_at (datetime64[us, UTC]),
            content (object: str, or None where missing), and replies_count, reblogs_count, favourites_count
            (Int64, may be missing).
        mapping: our column -> the file's column, in our order; columns that the file lacks are absent.
        rejected: the rows left out, in the file's order.
        rows: all rows read, accepted or not; blank lines and the header are none.
        repeated: rows that say again what an earlier one says (same id, time and text) and were dropped.
    """

    posts: pd.DataFrame
    mapping: dict[str, str]
    rejected: list[RejectedRow]
    rows: int
    repeated: int


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        file: what the file holds.
        added: how many posts were not there yet.
    """

    file: PostsFile
    added: int


def import_posts(
    store: PostStore, path: Path, columns: Mapping[str, str], now: datetime, *, strict: bool = False
) -> ImportResult:
    """Read a file and add its posts in one transaction; a post whose id is there already is left as it is.

    Args:
        columns: see `read_posts_file`.
        strict: refuse the file as a whole if any row of it is rejected.

    Raises:
        UsageError: `columns` names a column that is not ours or not in the file.
        PostsError: the file cannot be read, or is refused, or the posts are in a foreign table.
    """
    store.require_writable()
    file = read_posts_file(path, columns=columns, now=now)
    if strict and file.rejected:
        first = file.rejected[0]
        raise PostsError(
            f"refused '{path}': {len(file.rejected)} of {file.rows} rows are rejected, the first at {first.line}: "
            f"{first.reason}",
            hint="Mend them, or import the others without --strict",
        )
    if file.rejected and file.posts.empty:
        first = file.rejected[0]
        raise PostsError(
            f"no post in '{path}' can be used: all {file.rows} rows are rejected, the first at {first.line}: "
            f"{first.reason}",
            hint="Look at the columns used, or name others with --column",
        )
    return ImportResult(file, store.add(file.posts, now))


def parse_columns(given: Iterable[str]) -> dict[str, str]:
    """Parse `ours=theirs`, as given to --column.

    Raises:
        UsageError: one is not of that form.
    """
    columns = {}
    for pair in given:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise UsageError(f"--column: '{pair}' is not of the form OURS=THEIRS", hint="Write it like content=message")
        columns[ours] = theirs
    return columns


def read_posts_file(path: Path, *, columns: Mapping[str, str], now: datetime) -> PostsFile:
    """Read a file of posts by its suffix: .csv, .tsv, .json, .jsonl, .ndjson (each also with .gz), .parquet.

    Ids are kept as they are written, and never taken from a floating-point number.
    Times are ISO-8601 to the day or finer, with a T or a space after the date, or a number since 1970: from
    1e9 to below 1e11 it counts seconds, from 1e12 to below 1e14 milliseconds; any other number is refused.
    Without a zone they are UTC. Digits beyond microseconds are cut off.
    Texts that are empty or white space are missing; NUL and lone surrogates become U+FFFD.
    Of rows with the same id the first counts: a later one with another time or text is rejected, one that
    differs in its counts alone, or not at all, is a repetition.

    Args:
        path: the file, UTF-8 where it is text.
        columns: our column -> the file's column, for files whose names are not recognised by themselves.
        now: aware; a post from later than this is rejected.

    Raises:
        UsageError: `columns` names a column that is not ours or not in the file.
        PostsError: the file is missing, unreadable, broken, or without an id or a time column.
    """
    _check_ours(columns)
    with open_posts_file(path) as table:
        mapping = _mapping(table.names, columns, path) if table.names else {}
        checked = _RowCollector(table.row_unit, (now - EPOCH) // MICROSECOND)
        for row in table.rows([mapping.get(ours) for ours in COLUMN_ALIASES]):
            checked.add(row)
    return PostsFile(checked.posts(), mapping, checked.rejected, checked.rows, checked.repeated)


def _check_ours(columns: Mapping[str, str]) -> None:
    for ours in columns:
        if ours not in COLUMN_ALIASES:
            hint = f"{did_you_mean(ours, COLUMN_ALIASES)} Posts have {quote_names(list(COLUMN_ALIASES))}"
            raise UsageError(f"'{shorten(ours)}' is not a column of posts", hint=hint)


def _mapping(names: list[str], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return which column of the file is which of ours."""
    mapping: dict[str, str] = {}
    for ours, aliases in COLUMN_ALIASES.items():
        theirs = columns[ours] if ours in columns else _recognised(names, aliases)
        if theirs is None:
            continue
        if theirs not in names:
            hint = f"{did_you_mean(theirs, names)} Its columns are {quote_names(names)}"
            raise UsageError(f"'{path}' has no column '{shorten(theirs)}'", hint=hint)
        if names.count(theirs) > 1:
            said = f"{names.count(theirs)} columns named '{shorten(theirs)}'"
            raise PostsError(f"'{path}' has {said}", hint="Rename all but one")
        mapping[ours] = theirs
    for ours in REQUIRED_COLUMNS:
        if ours not in mapping:
            said = f"no column for {ours}: its columns are {quote_names(names)}"
            raise PostsError(f"'{path}' has {said}", hint=f"Say which one it is with --column {ours}=NAME")
    return mapping


def _recognised(names: list[str], aliases: tuple[str, ...]) -> str | None:
    for alias in aliases:
        if alias in names:
            return alias
        for name in names:
            if name.strip().casefold() == alias:
                return name
    return None


class _RowCollector:
    """The rows accepted so far, column by column, and those that were not."""

    def __init__(self, place: str, now: int) -> None:
        self.rejected: list[RejectedRow] = []
        self.rows = 0
        self.repeated = 0
        self._place = place
        self._now = now  # microseconds since 1970, as all times here
        self._seen: dict[str, int] = {}  # id -> its place in the columns below
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
        except InvalidValueError as refusal:
            self.rejected.append(RejectedRow(line, str(refusal)))

    def _accept(self, line: int, post_id: object, time: object, content: object, *counts: object) -> None:
        known_id = parse_id(post_id)
        micros = parse_time(time, self._now)
        text = parse_text(content)
        numbers = [parse_count(name, count) for name, count in zip(COUNT_COLUMNS, counts, strict=True)]
        first = self._seen.setdefault(known_id, len(self._lines))
        if first < len(self._lines):
            self._compare(known_id, first, micros, text)
            self.repeated += 1
            return
        self._lines.append(line)
        self._times.append(micros)
        self._texts.append(text)
        for column, number in zip(self._counts, numbers, strict=True):
            column.append(number)

    def _compare(self, post_id: str, first: int, micros: int, text: str | None) -> None:
        """Reject a row whose id stands for another post already."""
        same = {"time": self._times[first] == micros, "text": self._texts[first] == text}
        if not all(same.values()):
            other = " and ".join(name for name, is_same in same.items() if not is_same)
            place = f"{self._place} {self._lines[first]}"
            raise InvalidValueError(f"the id {quote(post_id)} is that of {place}, with another {other}")

    def posts(self) -> pd.DataFrame:
        """Return the accepted rows as a table."""
        times = np.array(self._times, dtype=np.int64).view("datetime64[us]")
        return pd.DataFrame(
            {
                "post_id": pd.Series(list(self._seen), dtype="str"),
                "created_at": pd.Series(times).dt.tz_localize("UTC"),
                "content": pd.Series(self._texts, dtype=object),
                **{name: _counts_column(column) for name, column in zip(COUNT_COLUMNS, self._counts, strict=True)},
            }
        )


def _counts_column(numbers: array[int]) -> pd.api.extensions.ExtensionArray:
    values = np.array(numbers, dtype=np.int64)
    return pd.arrays.IntegerArray(values, values == MISSING_COUNT)
