"""A file of posts, read into a checked table: CSV, TSV, JSON, JSON Lines or Parquet.

What is wrong with one row rejects that row, with its line and a reason; what is wrong with the file is a
PostsError. Each format gives its rows as plain values, one after the other, so a rule holds in all of them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import stat
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from retrainer.errors import PostsError, UsageError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = ("replies_count", "reblogs_count", "favourites_count")
# Our columns in order, each with the names that are recognised without being told, the likeliest first.
ALIASES: dict[str, tuple[str, ...]] = {
    "post_id": ("post_id", "id"),
    "created_at": ("created_at", "timestamp", "date"),
    "content": ("content", "text", "body"),
    **{name: (name,) for name in COUNTS},
}
REQUIRED = ("post_id", "created_at")

SHOWN_CHARACTERS = 60  # of a value in a reason
SHOWN_COLUMNS = 20  # of a file in an error

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRST_MOMENT = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MISSING_COUNT = -1
LARGEST_COUNT = 2**63 - 1

_CLOCK = r"[Tt ](?:[01]\d|2[0-3])"
_ZONE = r"(?: ?(?:[Zz]|[+-]\d\d(?::?\d\d)?))?"
_ISO_8601 = re.compile(
    rf"\d{{4}}-\d\d-\d\d(?:{_CLOCK}(?::\d\d(?::\d\d(?:[.,]\d+)?)?)?{_ZONE})?"
    rf"|\d{{8}}(?:{_CLOCK}(?:\d\d(?:\d\d(?:[.,]\d+)?)?)?{_ZONE})?",
    re.ASCII,
)
_PLAIN_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_WHOLE_NUMBER = re.compile(r"0*(\d{1,19})(?:\.0*)?", re.ASCII)
# What spreadsheets and data frames make of a long id: the digits after the sixteenth are gone.
_ROUNDED_ID = re.compile(r"\d(?:\.\d+)?[eE]\+\d+", re.ASCII)
# Neither can be stored as text in a database.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class RejectedRow:
    """A row that was left out.

    Attributes:
        line: where the row begins: the line of the file, its header being line 1 (CSV, TSV, JSON Lines), or
            the number of the record, counted from 1 (JSON, Parquet).
        reason: one short clause, the value in quotes.
    """

    line: int
    reason: str


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


class _RefusedError(ValueError):
    """A value that rejects its row; the message is the reason."""


_Row = tuple[int, Sequence[object]] | RejectedRow
_Binary = gzip.GzipFile | io.BufferedReader


@dataclass(frozen=True)
class _Table:
    """A file that was opened.

    Attributes:
        names: its columns; none at all where no record could be read.
        rows: given the file's columns in our order (None where absent), its rows: (line, values) or rejected.
        place: what `line` counts, for a reader.
    """

    names: list[str]
    rows: Callable[[Sequence[str | None]], Iterator[_Row]]
    place: str


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
    with _explained(path), _decoded(path):
        if stat.S_ISDIR(path.stat().st_mode):
            raise PostsError(f"'{path}' is a folder", hint="Give a file of posts")
        opener = _FORMATS.get(_suffix(path).removesuffix(".gz"))
        if opener is None or _suffix(path) == ".parquet.gz":
            known = ", ".join(_FORMATS)
            hint = f"Posts are read from {known}; all but .parquet also with .gz after it"
            raise PostsError(f"cannot read '{path}': its suffix is '{_suffix(path)}'", hint=hint)
        with _open(path) as binary:
            table = opener(binary, path)
            mapping = _mapping(table.names, columns, path) if table.names else {}
            checked = _Checked(table.place, (now - EPOCH) // MICROSECOND)
            for row in table.rows([mapping.get(ours) for ours in ALIASES]):
                checked.add(row)
    return PostsFile(checked.posts(), mapping, checked.rejected, checked.rows, checked.repeated)


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def _open(path: Path) -> _Binary:
    return gzip.open(path, "rb") if _suffix(path).endswith(".gz") else path.open("rb")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file as a whole into a PostsError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PostsError(f"'{path}' is not a whole gzip file", hint="Fetch or pack it again") from error
    except pa.ArrowException as error:
        raise _broken_parquet(path, error) from error
    except FileNotFoundError as error:
        raise PostsError(f"there is no file '{path}'", hint="Check the path") from error
    except OSError as error:
        if error.errno is None:  # Arrow's own, about the bytes; the system's errors carry a number
            raise _broken_parquet(path, error) from error
        hint = "Check the path and its permissions"
        raise PostsError(f"cannot read '{path}': {error.strerror}", hint=hint) from error


@contextmanager
def _decoded(path: Path) -> Iterator[None]:
    """Turn bytes that are not UTF-8 into a PostsError that says where they are."""
    try:
        yield
    except UnicodeDecodeError as error:
        if _suffix(path) == ".parquet":
            raise _broken_parquet(path, error) from error
        raise _not_utf8(path, _undecodable_line(path)) from error


def _broken_parquet(path: Path, error: Exception) -> PostsError:
    return PostsError(f"cannot read '{path}' as Parquet: {_cut(str(error), 200)}", hint="Write it again")


def _not_utf8(path: Path, line: int) -> PostsError:
    return PostsError(f"'{path}' is not UTF-8 text: line {line} cannot be decoded", hint="Save it as UTF-8")


def _empty(path: Path) -> PostsError:
    return PostsError(f"'{path}' is empty", hint="Give a file with at least a header or a record")


def _undecodable_line(path: Path) -> int:
    with _open(path) as binary:
        for line, raw in enumerate(binary, 1):
            try:
                raw.decode()
            except UnicodeDecodeError:
                return line
    return 1


def _text(binary: _Binary, path: Path) -> io.TextIOWrapper:
    """Open as UTF-8 text whose lines keep their ends; a byte order mark is skipped."""
    head = binary.read(4)
    binary.seek(0)
    if b"\0" in head:  # UTF-16 or UTF-32: without a mark, plain letters would pass as UTF-8
        raise _not_utf8(path, 1)
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")


def _csv(binary: _Binary, path: Path, delimiter: str = ",") -> _Table:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is less than some posts
    # Strict, so that a quote never closed is found and does not swallow the rows after it in silence.
    reader = csv.reader(_text(binary, path), delimiter=delimiter, strict=True)
    try:
        header = next((fields for fields in reader if fields), None)
    except csv.Error as error:
        hint = "Mend its first line"
        raise PostsError(f"cannot read the header of '{path}': its quotes do not match", hint=hint) from error
    if header is None:
        raise _empty(path)

    def rows(chosen: Sequence[str | None]) -> Iterator[_Row]:
        at = [None if name is None else header.index(name) for name in chosen]
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield RejectedRow(line, _quotes_reason(error))
                continue
            if len(fields) == len(header):
                yield line, [None if i is None else fields[i] for i in at]
            elif fields:
                yield RejectedRow(line, f"{len(fields)} fields where the header has {len(header)}")

    return _Table(header, rows, "line")


def _quotes_reason(error: csv.Error) -> str:
    if str(error) == "unexpected end of data":
        return "a quote is opened and never closed, so that the rest of the file belongs to it"
    return "its quotes do not match"


def _json(binary: _Binary, path: Path) -> _Table:
    with _text(binary, path) as stream:
        text = stream.read()
    if not text.strip():
        raise _empty(path)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "A file with one object a line is named .jsonl" if error.msg == "Extra data" else "Mend it"
        raise PostsError(f"'{path}' is not JSON: {error.msg} at line {error.lineno}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets as deep
        raise PostsError(f"cannot read '{path}' as JSON: {error}", hint="Mend it") from error
    del text
    records = _records(document, path)
    names = dict.fromkeys(name for record in records if isinstance(record, dict) for name in record)

    def rows(chosen: Sequence[str | None]) -> Iterator[_Row]:
        for number, record in enumerate(records, 1):
            yield _picked(number, record, chosen)

    return _Table(list(names), rows, "record")


def _records(document: object, path: Path) -> list[object]:
    """Return the array that the document is, or the one array of objects in it."""
    if isinstance(document, list):
        return document
    document = document if isinstance(document, dict) else {}
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    filled = {name: value for name, value in lists.items() if any(isinstance(post, dict) for post in value)}
    found = filled or {name: value for name, value in lists.items() if not value}
    if len(found) == 1:
        return next(iter(found.values()))
    said = f"{len(found)} arrays of objects: {_listed(list(found))}" if found else "no array of objects"
    hint = "Give an array of objects, or an object with one such array"
    raise PostsError(f"'{path}' holds {said}", hint=hint)


def _json_lines(binary: _Binary, path: Path) -> _Table:
    text = _text(binary, path)
    names: dict[str, None] = {}
    blank = True
    # The columns must be known before the first row is judged, so the file is read twice rather than held.
    for _, record in _parsed_lines(text):
        blank = False
        if isinstance(record, dict):
            names.update(dict.fromkeys(record))
    if blank:
        raise _empty(path)

    def rows(chosen: Sequence[str | None]) -> Iterator[_Row]:
        text.seek(0)
        for line, record in _parsed_lines(text):
            yield record if isinstance(record, RejectedRow) else _picked(line, record, chosen)

    return _Table(list(names), rows, "line")


def _parsed_lines(text: io.TextIOWrapper) -> Iterator[tuple[int, object]]:
    """Give each line that is not blank, with its value, or a RejectedRow where it has none."""
    for line, written in enumerate(text, 1):
        if not written.isspace():
            yield line, _parsed(line, written)


def _parsed(line: int, written: str) -> object:
    try:
        return json.loads(written.rstrip("\r\n"))  # or an error at the end would count from the next line
    except json.JSONDecodeError as error:
        return RejectedRow(line, f"not JSON: {error.msg} at character {error.colno}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets as deep
        return RejectedRow(line, f"not JSON that can be read: {error}")


def _picked(line: int, record: object, chosen: Sequence[str | None]) -> _Row:
    if isinstance(record, dict):
        return line, [None if name is None else record.get(name) for name in chosen]
    return RejectedRow(line, f"{_quoted(record)} is not an object")


def _parquet(binary: _Binary, path: Path) -> _Table:
    if not binary.read(1):
        raise _empty(path)
    binary.seek(0)
    file = pq.ParquetFile(binary)

    def rows(chosen: Sequence[str | None]) -> Iterator[_Row]:
        number = 0
        for batch in file.iter_batches(columns=sorted({name for name in chosen if name is not None})):
            columns = {name: _values(batch.column(name)) for name in batch.schema.names}
            absent: list[object] = [None] * batch.num_rows
            for values in zip(*(absent if name is None else columns[name] for name in chosen), strict=True):
                number += 1
                yield number, values

    return _Table(file.schema_arrow.names, rows, "record")


def _values(column: Any) -> list[object]:
    """Return an Arrow array as what the checks know: numpy's times, whole decimals and bytes as text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        # A zone is a label on a count from 1970 in UTC: no clock is moved. Only nanoseconds lose digits.
        exact = not (pa.types.is_timestamp(kind) and kind.unit == "ns")
        micros = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=exact)
        return list(micros.to_numpy(zero_copy_only=False))
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if is_bytes or (pa.types.is_decimal(kind) and kind.scale == 0):
        column = column.cast(pa.string())
    return list(column.to_pylist())


_FORMATS: dict[str, Callable[[_Binary, Path], _Table]] = {
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}


def _check_ours(columns: Mapping[str, str]) -> None:
    for ours in columns:
        if ours not in ALIASES:
            hint = f"{_near(ours, ALIASES)}Posts have {_listed(list(ALIASES))}"
            raise UsageError(f"'{_cut(ours)}' is not a column of posts", hint=hint)


def _mapping(names: list[str], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return which column of the file is which of ours."""
    mapping: dict[str, str] = {}
    for ours, aliases in ALIASES.items():
        theirs = columns[ours] if ours in columns else _recognised(names, aliases)
        if theirs is None:
            continue
        if theirs not in names:
            hint = f"{_near(theirs, names)}Its columns are {_listed(names)}"
            raise UsageError(f"'{path}' has no column '{_cut(theirs)}'", hint=hint)
        if names.count(theirs) > 1:
            said = f"{names.count(theirs)} columns named '{_cut(theirs)}'"
            raise PostsError(f"'{path}' has {said}", hint="Rename all but one")
        mapping[ours] = theirs
    for ours in REQUIRED:
        if ours not in mapping:
            said = f"no column for {ours}: its columns are {_listed(names)}"
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


def _near(word: str, known: Iterable[str]) -> str:
    question = did_you_mean(word, known)
    return f"{question[0].upper()}{question[1:]} " if question else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(_quoted(name) for name in names[:SHOWN_COLUMNS])
    return f"{shown} and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else shown


class _Checked:
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
        self._counts = tuple(array("q") for _ in COUNTS)

    def add(self, row: _Row) -> None:
        """Accept the row, drop it as a repetition, or reject it."""
        self.rows += 1
        if isinstance(row, RejectedRow):
            self.rejected.append(row)
            return
        line, values = row
        try:
            self._accept(line, *values)
        except _RefusedError as refusal:
            self.rejected.append(RejectedRow(line, str(refusal)))

    def _accept(self, line: int, post_id: object, time: object, content: object, *counts: object) -> None:
        checked_id = _checked_id(post_id)
        micros = _checked_time(time, self._now)
        text = _checked_text(content)
        numbers = [_checked_count(name, count) for name, count in zip(COUNTS, counts, strict=True)]
        first = self._seen.setdefault(checked_id, len(self._lines))
        if first < len(self._lines):
            self._compare(checked_id, first, micros, text)
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
            raise _RefusedError(f"the id {_quoted(post_id)} is that of {place}, with another {other}")

    def posts(self) -> pd.DataFrame:
        """Return the accepted rows as a table."""
        times = np.array(self._times, dtype=np.int64).view("datetime64[us]")
        return pd.DataFrame(
            {
                "post_id": pd.Series(list(self._seen), dtype="str"),
                "created_at": pd.Series(times).dt.tz_localize("UTC"),
                "content": pd.Series(self._texts, dtype=object),
                **{name: _counts_column(column) for name, column in zip(COUNTS, self._counts, strict=True)},
            }
        )


def _counts_column(numbers: array[int]) -> pd.api.extensions.ExtensionArray:
    values = np.array(numbers, dtype=np.int64)
    return pd.arrays.IntegerArray(values, values == MISSING_COUNT)


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _checked_id(value: object) -> str:
    """Return the id as it is written."""
    if _is_missing(value):
        raise _RefusedError("the id is missing")
    if isinstance(value, float | Decimal) or (isinstance(value, str) and _ROUNDED_ID.fullmatch(value)):
        raise _RefusedError(f"the id {_quoted(value)} is a floating-point number, whose last digits are lost")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _RefusedError(f"the id {_quoted(value)} is neither text nor a whole number")
    written = str(value)
    if _UNSTORABLE.search(written):
        raise _RefusedError(f"the id {_quoted(value)} holds a character that cannot be stored")
    return written


def _checked_time(value: object, now: int) -> int:
    """Return the time in microseconds since 1970, UTC."""
    if _is_missing(value) or (isinstance(value, np.datetime64) and np.isnat(value)):
        raise _RefusedError("the time is missing")
    try:
        micros = _micros(value)
    except ValueError as error:
        said = "is neither ISO-8601 nor seconds or milliseconds since 1970"
        raise _RefusedError(f"the time {_quoted(value)} {said}") from error
    if micros > now:
        raise _RefusedError(f"the time {_quoted(value)} lies in the future")
    if micros < FIRST_MOMENT:
        raise _RefusedError(f"the time {_quoted(value)} lies before the year 1")
    return micros


def _micros(value: object) -> int:
    """Return a time in microseconds since 1970, UTC.

    Raises:
        ValueError: it is no time.
    """
    if isinstance(value, np.datetime64):
        return int(value.astype(np.int64))
    if isinstance(value, str):
        written = value.strip()
        if _ISO_8601.fullmatch(written):
            return _iso_micros(written)
        if _PLAIN_NUMBER.fullmatch(written):
            return _epoch_micros(Decimal(written))
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _epoch_micros(Decimal(str(value)))  # as it is written: 0.1, not the binary number beside it
    raise ValueError(value)


def _iso_micros(written: str) -> int:
    # Python wants capitals and no space before a zone; it cuts a fraction after six digits by itself.
    moment = datetime.fromisoformat(written.upper().replace(" Z", "Z").replace(" +", "+").replace(" -", "-"))
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def _epoch_micros(number: Decimal) -> int:
    if 10**9 <= number < 10**11:
        return int(number * 1_000_000)
    if 10**12 <= number < 10**14:
        return int(number * 1_000)
    raise ValueError(number)


def _checked_text(value: object) -> str | None:
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise _RefusedError(f"the content {_quoted(value)} is not text")
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def _checked_count(name: str, value: object) -> int:
    """Return the count, or MISSING_COUNT."""
    if _is_missing(value):
        return MISSING_COUNT
    whole = _WHOLE_NUMBER.fullmatch(str(value).strip())
    if whole is None or int(whole[1]) > LARGEST_COUNT:
        raise _RefusedError(f"{name} {_quoted(value)} is not a whole number of 0 or more")
    return int(whole[1])


def _quoted(value: object) -> str:
    return f"'{_cut(str(value))}'"


def _cut(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """Return the text on one line, printable, no longer than `characters`."""
    shown = "".join(c if c.isprintable() else " " for c in text[: characters + 1])
    return shown if len(shown) <= characters else f"{shown[: characters - 1]}…"
