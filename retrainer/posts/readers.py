"""Readers of posts files: each format yields its rows as plain values."""

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
from retrainer.files import open_regular
from retrainer.posts.validation import quote, shorten

if TYPE_CHECKING:
    from pathlib import Path

MAX_SHOWN_COLUMNS = 20  # in a message


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
_Binary = gzip.GzipFile | io.BufferedReader


@dataclass(frozen=True)
class PostsTable:
    """An open posts file.

    Attributes:
        columns: the names of its columns; empty if no record could be read.
        rows: takes the wanted columns (None for an absent one) and yields the rows: (line, values) or rejected.
        row_unit: what `line` counts, for a reader.
    """

    columns: list[str]
    rows: Callable[[Sequence[str | None]], Iterator[Row]]
    row_unit: str


@contextmanager
def open_posts_file(path: Path) -> Iterator[PostsTable]:
    """Open a posts file by its suffix.

    Raises:
        PostsError: the file is missing, unreadable, damaged, or in an unknown format; also while rows are read.
    """
    with _translate_errors(path):
        if stat.S_ISDIR(path.stat().st_mode):
            raise PostsError(f"'{path}' is a folder", hint="Choose a file of posts")
        open_regular(path).close()  # readers would wait for a pipe
        reader = _FORMATS.get(_suffix(path).removesuffix(".gz"))
        if reader is None or _suffix(path) == ".parquet.gz":
            hint = f"Supported are {', '.join(_FORMATS)}; all but .parquet also with .gz"
            raise PostsError(f"cannot read '{path}': its suffix is '{_suffix(path)}'", hint=hint)
        with _open_binary(path) as binary:
            yield reader(binary, path)


def quote_names(names: Sequence[str]) -> str:
    """Return names in quotes for a message; the first 20 if there are more."""
    shown = ", ".join(quote(name) for name in names[:MAX_SHOWN_COLUMNS])
    return f"{shown} and {len(names) - MAX_SHOWN_COLUMNS} more" if len(names) > MAX_SHOWN_COLUMNS else shown


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def _open_binary(path: Path) -> _Binary:
    return gzip.open(path, "rb") if _suffix(path).endswith(".gz") else path.open("rb")


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Translate errors of the file as a whole into a PostsError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PostsError(f"'{path}' is not a complete gzip file", hint="Download or compress it again") from error
    except pa.ArrowException as error:
        raise _parquet_error(path, error) from error
    except UnicodeDecodeError as error:
        if _suffix(path) == ".parquet":
            raise _parquet_error(path, error) from error
        raise _not_utf8(path, _find_undecodable_line(path)) from error
    except FileNotFoundError as error:
        raise PostsError(f"there is no file '{path}'", hint="Check the path") from error
    except OSError as error:
        if error.errno is None:  # an error of Arrow about the content; those of the system have a number
            raise _parquet_error(path, error) from error
        hint = "Check the path and its permissions"
        raise PostsError(f"cannot read '{path}': {error.strerror}", hint=hint) from error


def _parquet_error(path: Path, error: Exception) -> PostsError:
    return PostsError(f"cannot read '{path}' as Parquet: {shorten(str(error), 200)}", hint="Write it again")


def _not_utf8(path: Path, line: int) -> PostsError:
    return PostsError(f"'{path}' is not UTF-8 text: line {line} cannot be decoded", hint="Save it as UTF-8")


def _empty(path: Path) -> PostsError:
    return PostsError(f"'{path}' is empty", hint="Choose a file with at least a header or a record")


def _find_undecodable_line(path: Path) -> int:
    with _translate_errors(path), _open_binary(path) as binary:
        for line, raw in enumerate(binary, 1):
            try:
                raw.decode()
            except UnicodeDecodeError:
                return line
    return 1


def _open_text(binary: _Binary, path: Path) -> io.TextIOWrapper:
    """Open as UTF-8 text without translating line ends; a byte order mark is skipped."""
    head = binary.read(4)
    binary.seek(0)
    if b"\0" in head:  # UTF-16 or UTF-32; without a mark, ASCII letters would pass as UTF-8
        raise _not_utf8(path, 1)
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")


def _read_csv(binary: _Binary, path: Path, delimiter: str = ",") -> PostsTable:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is too small for some posts
    # Strict, so that an unclosed quote is an error instead of silently swallowing the following rows.
    reader = csv.reader(_open_text(binary, path), delimiter=delimiter, strict=True)
    try:
        header = next((fields for fields in reader if fields), None)
    except csv.Error as error:
        hint = "Fix its first line"
        raise PostsError(f"cannot read the header of '{path}': its quotes do not match", hint=hint) from error
    if header is None:
        raise _empty(path)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        indices = [None if name is None else header.index(name) for name in columns]
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                unclosed = "a quote is never closed, so that the rest of the file belongs to it"
                yield RejectedRow(line, unclosed if "end of data" in str(error) else "its quotes do not match")
                continue
            if len(fields) == len(header):
                yield line, [None if i is None else fields[i] for i in indices]
            elif fields:
                yield RejectedRow(line, f"{len(fields)} fields where the header has {len(header)}")

    return PostsTable(header, rows, "line")


def _read_json(binary: _Binary, path: Path) -> PostsTable:
    with _open_text(binary, path) as stream:
        text = stream.read()
    if not text.strip():
        raise _empty(path)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "Rename it to .jsonl if it has one object per line" if error.msg == "Extra data" else "Fix the file"
        raise PostsError(f"'{path}' is not JSON: {error.msg} at line {error.lineno}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or thousands of brackets
        raise PostsError(f"cannot read '{path}' as JSON: {error}", hint="Fix the file") from error
    del text
    records = _find_records(document, path)
    names = dict.fromkeys(name for record in records if isinstance(record, dict) for name in record)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        for number, record in enumerate(records, 1):
            yield _select(number, record, columns)

    return PostsTable(list(names), rows, "record")


def _find_records(document: object, path: Path) -> list[object]:
    """Return the array that the document is, or the only array of objects in it."""
    if isinstance(document, list):
        return document
    document = document if isinstance(document, dict) else {}
    arrays = {name: value for name, value in document.items() if isinstance(value, list)}
    filled = {name: value for name, value in arrays.items() if any(isinstance(post, dict) for post in value)}
    found = filled or {name: value for name, value in arrays.items() if not value}
    if len(found) == 1:
        return next(iter(found.values()))
    content = f"{len(found)} arrays of objects: {quote_names(list(found))}" if found else "no array of objects"
    hint = "Write an array of objects, or an object with one such array"
    raise PostsError(f"'{path}' contains {content}", hint=hint)


def _read_json_lines(binary: _Binary, path: Path) -> PostsTable:
    text = _open_text(binary, path)
    names: dict[str, None] = {}
    is_empty = True
    # The columns must be known before the first row; the file is read twice to save memory.
    for _, record in _parse_lines(text):
        is_empty = False
        if isinstance(record, dict):
            names.update(dict.fromkeys(record))
    if is_empty:
        raise _empty(path)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        text.seek(0)
        for line, record in _parse_lines(text):
            yield record if isinstance(record, RejectedRow) else _select(line, record, columns)

    return PostsTable(list(names), rows, "line")


def _parse_lines(text: io.TextIOWrapper) -> Iterator[tuple[int, object]]:
    """Yield the number and the value, or a RejectedRow, of each line that is not blank."""
    for line, content in enumerate(text, 1):
        if content.isspace():
            continue
        try:
            yield line, json.loads(content.rstrip("\r\n"))  # or an error at the end would refer to the next line
        except json.JSONDecodeError as error:
            yield line, RejectedRow(line, f"not JSON: {error.msg} at character {error.colno}")
        except (ValueError, RecursionError) as error:  # a number with thousands of digits, or thousands of brackets
            yield line, RejectedRow(line, f"not readable as JSON: {error}")


def _select(line: int, record: object, columns: Sequence[str | None]) -> Row:
    if isinstance(record, dict):
        return line, [None if name is None else record.get(name) for name in columns]
    return RejectedRow(line, f"{quote(record)} is not an object")


def _read_parquet(binary: _Binary, path: Path) -> PostsTable:
    if not binary.read(1):
        raise _empty(path)
    binary.seek(0)
    file = pq.ParquetFile(binary)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        number = 0
        for batch in file.iter_batches(columns=sorted({name for name in columns if name is not None})):
            values = {name: _to_python(batch.column(name)) for name in batch.schema.names}
            absent: list[object] = [None] * batch.num_rows
            for row in zip(*(absent if name is None else values[name] for name in columns), strict=True):
                number += 1
                yield number, row

    return PostsTable(file.schema_arrow.names, rows, "record")


def _to_python(column: Any) -> list[object]:
    """Convert an Arrow array to what validation accepts: numpy times, and text for whole decimals and bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    arrow_type = column.type
    if pa.types.is_timestamp(arrow_type) or pa.types.is_date(arrow_type):
        # A zone only labels a UTC time; nothing is shifted. Only nanoseconds lose digits.
        exact = not (pa.types.is_timestamp(arrow_type) and arrow_type.unit == "ns")
        micros = column.cast(pa.timestamp("us", getattr(arrow_type, "tz", None)), safe=exact)
        return list(micros.to_numpy(zero_copy_only=False))
    is_bytes = pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)
    if is_bytes or (pa.types.is_decimal(arrow_type) and arrow_type.scale == 0):
        column = column.cast(pa.string())
    return list(column.to_pylist())


_FORMATS: dict[str, Callable[[_Binary, Path], PostsTable]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
