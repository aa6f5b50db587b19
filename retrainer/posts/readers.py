"""The formats of a file of posts: each gives its rows as plain values, one after the other."""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from retrainer.errors import PostsError
from retrainer.posts.validation import quote, shorten

if TYPE_CHECKING:
    from pathlib import Path

MAX_SHOWN_COLUMNS = 20  # of a file in an error


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


Row = tuple[int, Sequence[object]] | RejectedRow
_Binary = gzip.GzipFile | io.BufferedReader


@dataclass(frozen=True)
class PostsTable:
    """A file that was opened.

    Attributes:
        names: its columns; none at all where no record could be read.
        rows: given the file's columns in our order (None where absent), its rows: (line, values) or rejected.
        row_unit: what `line` counts, for a reader.
    """

    names: list[str]
    rows: Callable[[Sequence[str | None]], Iterator[Row]]
    row_unit: str


@contextmanager
def open_posts_file(path: Path) -> Iterator[PostsTable]:
    """Open a file of posts by its suffix.

    Raises:
        PostsError: the file is missing, unreadable, broken, or of a kind that is not known; also while rows are read.
    """
    with _explained(path), _decoded(path):
        if stat.S_ISDIR(path.stat().st_mode):
            raise PostsError(f"'{path}' is a folder", hint="Give a file of posts")
        opener = _FORMATS.get(_suffix(path).removesuffix(".gz"))
        if opener is None or _suffix(path) == ".parquet.gz":
            known = ", ".join(_FORMATS)
            hint = f"Posts are read from {known}; all but .parquet also with .gz after it"
            raise PostsError(f"cannot read '{path}': its suffix is '{_suffix(path)}'", hint=hint)
        with _open(path) as binary:
            yield opener(binary, path)


def quote_names(names: Sequence[str]) -> str:
    """Return names in quotes for a message, not too many of them."""
    shown = ", ".join(quote(name) for name in names[:MAX_SHOWN_COLUMNS])
    return f"{shown} and {len(names) - MAX_SHOWN_COLUMNS} more" if len(names) > MAX_SHOWN_COLUMNS else shown


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
    return PostsError(f"cannot read '{path}' as Parquet: {shorten(str(error), 200)}", hint="Write it again")


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


def _csv(binary: _Binary, path: Path, delimiter: str = ",") -> PostsTable:
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

    def rows(chosen: Sequence[str | None]) -> Iterator[Row]:
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

    return PostsTable(header, rows, "line")


def _quotes_reason(error: csv.Error) -> str:
    if str(error) == "unexpected end of data":
        return "a quote is opened and never closed, so that the rest of the file belongs to it"
    return "its quotes do not match"


def _json(binary: _Binary, path: Path) -> PostsTable:
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

    def rows(chosen: Sequence[str | None]) -> Iterator[Row]:
        for number, record in enumerate(records, 1):
            yield _picked(number, record, chosen)

    return PostsTable(list(names), rows, "record")


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
    said = f"{len(found)} arrays of objects: {quote_names(list(found))}" if found else "no array of objects"
    hint = "Give an array of objects, or an object with one such array"
    raise PostsError(f"'{path}' holds {said}", hint=hint)


def _json_lines(binary: _Binary, path: Path) -> PostsTable:
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

    def rows(chosen: Sequence[str | None]) -> Iterator[Row]:
        text.seek(0)
        for line, record in _parsed_lines(text):
            yield record if isinstance(record, RejectedRow) else _picked(line, record, chosen)

    return PostsTable(list(names), rows, "line")


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


def _picked(line: int, record: object, chosen: Sequence[str | None]) -> Row:
    if isinstance(record, dict):
        return line, [None if name is None else record.get(name) for name in chosen]
    return RejectedRow(line, f"{quote(record)} is not an object")


def _parquet(binary: _Binary, path: Path) -> PostsTable:
    if not binary.read(1):
        raise _empty(path)
    binary.seek(0)
    file = pq.ParquetFile(binary)

    def rows(chosen: Sequence[str | None]) -> Iterator[Row]:
        number = 0
        for batch in file.iter_batches(columns=sorted({name for name in chosen if name is not None})):
            columns = {name: _values(batch.column(name)) for name in batch.schema.names}
            absent: list[object] = [None] * batch.num_rows
            for values in zip(*(absent if name is None else columns[name] for name in chosen), strict=True):
                number += 1
                yield number, values

    return PostsTable(file.schema_arrow.names, rows, "record")


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


_FORMATS: dict[str, Callable[[_Binary, Path], PostsTable]] = {
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
