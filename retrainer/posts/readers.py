"""Readers of posts files: each format yields its rows as plain values.

A file of a few kilobytes may expand to gigabytes. Every reader stops at the limits of the settings, with memory in
proportion to them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from retrainer.errors import PostsError
from retrainer.files import open_regular
from retrainer.posts.records import PostsTable, RejectedRow, Row
from retrainer.posts.validation import quote, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from retrainer.config import PostsLimits

MAX_SHOWN_COLUMNS = 20  # in a message
MAX_COLUMNS = 100_000  # of JSON Lines: all names are in memory

_MEGABYTE = 2**20
_BUFFER_BYTES = 2**17
_JSON_VALUE_BYTES = 80  # of memory that an empty object and its place in an array take
_BATCH_ROWS = 65_536  # of a Parquet file in memory at once
_BATCH_BYTES = 2**27  # likewise, where one stored value may be repeated in every row
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def limit_error(path: Path, limits: PostsLimits, problem: str, setting: str) -> PostsError:
    """Return the error for a file that exceeds a limit; the first `{}` in the problem stands for its value."""
    problem = problem.replace("{}", f"{getattr(limits, setting):,}", 1)
    return PostsError(f"'{path}' {problem}", hint=f"Raise posts.limits.{setting} to import it")


class _LimitedFile(io.RawIOBase):
    """The content of a file, decompressed. Reading more than a limit allows is a PostsError."""

    def __init__(self, binary: BinaryIO | gzip.GzipFile, path: Path, limits: PostsLimits) -> None:
        self.binary = binary
        self.path = path
        self.limits = limits
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
        self.count_bytes(len(data))
        self._row_bytes += len(data)
        self.check_row(self._row_bytes)
        return len(data)

    def check_row(self, size: int) -> None:
        """Check the size of a row in bytes."""
        if size > self.limits.row_megabytes * _MEGABYTE:
            problem = f"has a row of more than {{}} MB, after {self._rows:,} others"
            raise limit_error(self.path, self.limits, problem, "row_megabytes")

    def count_row(self) -> None:
        """Count a row that has been read. Until the next call, only one more may be read."""
        self._row_bytes = 0
        self._rows += 1
        if self._rows > self._max_rows:
            self.check_rows(self._rows)

    def check_rows(self, rows: int) -> None:
        """Check the number of rows."""
        if rows > self.limits.rows:
            raise limit_error(self.path, self.limits, "has more than {} rows, blank ones included", "rows")

    def count_bytes(self, count: int) -> None:
        """Count what was decompressed or decoded."""
        self._bytes += count
        if self._bytes > self.limits.file_megabytes * _MEGABYTE:
            raise limit_error(self.path, self.limits, "expands to more than {} MB", "file_megabytes")

    def read_json(self) -> bytearray:
        """Return all of a JSON document, whose bytes, characters and values must not take too much memory."""
        data = bytearray()
        values, is_ascii = 0, True
        while chunk := self.read(_BUFFER_BYTES):
            data += chunk
            values += sum(map(chunk.count, (b",", b"[", b"{")))
            is_ascii = is_ascii and chunk.isascii()
            memory = len(data) * (3 if is_ascii else 6) + values * _JSON_VALUE_BYTES
            if memory > self.limits.json_megabytes * _MEGABYTE:
                problem = "needs more than {} MB of memory as JSON, which is read as a whole, unlike JSON Lines"
                raise limit_error(self.path, self.limits, problem, "json_megabytes")
            self._row_bytes = 0
        return data


@contextmanager
def open_posts_file(path: Path, limits: PostsLimits) -> Iterator[PostsTable]:
    """Open a posts file by its suffix.

    Raises:
        PostsError: the file is missing, unreadable, damaged, in an unknown format, or exceeds a limit; also while rows
            are read.
    """
    with _translate_errors(path, limits):
        if stat.S_ISDIR(path.stat().st_mode):
            raise PostsError(f"'{path}' is a folder", hint="Choose a file of posts")
        reader = _FORMATS.get(_suffix(path).removesuffix(".gz"))
        if reader is None or _suffix(path) == ".parquet.gz":
            hint = f"Supported are {', '.join(_FORMATS)}; all but .parquet also with .gz"
            raise PostsError(f"cannot read '{path}': its suffix is '{_suffix(path)}'", hint=hint)
        with _open_binary(path) as binary:
            yield reader(_LimitedFile(binary, path, limits))


def quote_names(names: Sequence[str]) -> str:
    """Return names in quotes for a message; the first 20 if there are more."""
    shown = ", ".join(quote(name) for name in names[:MAX_SHOWN_COLUMNS])
    return f"{shown} and {len(names) - MAX_SHOWN_COLUMNS} more" if len(names) > MAX_SHOWN_COLUMNS else shown


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


@contextmanager
def _open_binary(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with open_regular(path) as binary:
        yield gzip.GzipFile(fileobj=binary) if _suffix(path).endswith(".gz") else binary


@contextmanager
def _translate_errors(path: Path, limits: PostsLimits) -> Iterator[None]:
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
        raise _not_utf8(path, _find_undecodable_line(path, limits)) from error
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


def _find_undecodable_line(path: Path, limits: PostsLimits) -> int:
    with _translate_errors(path, limits), _open_binary(path) as binary:
        file = _LimitedFile(binary, path, limits)
        for line, raw in enumerate(io.BufferedReader(file, _BUFFER_BYTES), 1):
            file.count_row()
            try:
                raw.decode()
            except UnicodeDecodeError:
                return line
    return 1


def _open_text(file: _LimitedFile) -> io.TextIOWrapper:
    """Open as UTF-8 text without translating line ends; a byte order mark is skipped."""
    binary = io.BufferedReader(file, _BUFFER_BYTES)
    if b"\0" in binary.peek(4)[:4]:  # UTF-16 or UTF-32; without a mark, ASCII letters would pass as UTF-8
        raise _not_utf8(file.path, 1)
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")


def _read_csv(file: _LimitedFile, delimiter: str = ",") -> PostsTable:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is too small for some posts; rows have a limit of their own
    # Strict, so that an unclosed quote is an error instead of silently swallowing the following rows.
    reader = csv.reader(_open_text(file), delimiter=delimiter, strict=True)
    try:
        while not (header := next(reader)):
            file.count_row()
    except StopIteration:
        raise _empty(file.path) from None
    except csv.Error as error:
        hint = "Fix its first line"
        raise PostsError(f"cannot read the header of '{file.path}': its quotes do not match", hint=hint) from error

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        indices = [None if name is None else header.index(name) for name in columns]
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                file.count_row()
                unclosed = "a quote is never closed, so that the rest of the file belongs to it"
                yield RejectedRow(line, unclosed if "end of data" in str(error) else "its quotes do not match")
                continue
            file.count_row()
            if len(fields) == len(header):
                yield line, [None if i is None else fields[i] for i in indices]
            elif fields:
                yield RejectedRow(line, f"{len(fields)} fields where the header has {len(header)}")

    return PostsTable(str(file.path), header, rows, "line")


def _read_json(file: _LimitedFile) -> PostsTable:
    path = file.path
    data = file.read_json()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, 1 + data.count(b"\n", 0, error.start)) from error
    if "\0" in text[:4]:  # UTF-16 or UTF-32 in ASCII letters
        raise _not_utf8(path, 1)
    del data
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
    file.check_rows(len(records))
    names = dict.fromkeys(name for record in records if isinstance(record, dict) for name in record)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        for number, record in enumerate(records, 1):
            yield _select(number, record, columns)

    return PostsTable(str(path), list(names), rows, "record")


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


def _read_json_lines(file: _LimitedFile) -> PostsTable:
    text = _open_text(file)
    names: dict[str, None] = {}
    is_empty = True
    # The columns must be known before the first row; the file is read twice to save memory.
    for _, record in _parse_lines(text, file):
        is_empty = False
        if isinstance(record, dict):
            names.update(dict.fromkeys(record))
        if len(names) > MAX_COLUMNS:
            raise PostsError(f"'{file.path}' has more than {MAX_COLUMNS:,} columns", hint="Check that it holds posts")
    if is_empty:
        raise _empty(file.path)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        text.seek(0)
        file.restart()
        for line, record in _parse_lines(text, file):
            yield record if isinstance(record, RejectedRow) else _select(line, record, columns)

    return PostsTable(str(file.path), list(names), rows, "line")


def _parse_lines(text: io.TextIOWrapper, file: _LimitedFile) -> Iterator[tuple[int, object]]:
    """Yield the number and the value, or a RejectedRow, of each line that is not blank."""
    for line, content in enumerate(text, 1):
        file.count_row()
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


def _read_parquet(file: _LimitedFile) -> PostsTable:
    if not file.binary.read(1):
        raise _empty(file.path)
    file.binary.seek(0)
    parquet = pq.ParquetFile(file.binary)
    schema = parquet.schema_arrow
    file.check_rows(parquet.metadata.num_rows)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        number = 0
        wanted = sorted({name for name in columns if name is not None})
        for name in wanted:
            _require_plain(schema.field(name), file.path)
        for batch in _read_batches(file, parquet.metadata, wanted):
            for column in batch.columns:
                lengths = _text_lengths(column)
                file.count_bytes(pc.sum(lengths).as_py() or 0)
                file.check_row(pc.max(lengths).as_py() or 0)
            values = {name: _to_python(batch.column(name)) for name in batch.schema.names}
            absent: list[object] = [None] * batch.num_rows
            for row in zip(*(absent if name is None else values[name] for name in columns), strict=True):
                number += 1
                yield number, row

    return PostsTable(str(file.path), schema.names, rows, "record")


def _require_plain(field: Any, path: Path) -> None:
    """Refuse types that no column of posts can have; a value of them may take any amount of memory."""
    arrow_type = getattr(field.type, "storage_type", field.type)  # of an extension type
    if pa.types.is_nested(arrow_type) or pa.types.is_fixed_size_binary(arrow_type):
        problem = f"cannot read '{path}': the type of its column {quote(field.name)} is {quote(field.type)}"
        raise PostsError(problem, hint="Choose a column of text, numbers or times with --column")


def _read_batches(file: _LimitedFile, metadata: Any, wanted: list[str]) -> Iterator[Any]:
    """Yield the rows of a Parquet file in batches, none of which takes much more memory than the file itself.

    A file may store one long value, or the beginning of many, once. Texts are therefore read as dictionaries, which
    repeat nothing. Where that is not possible, a batch is so small that it may repeat the largest value.
    """
    chunks = []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = [chunk for chunk in map(group.column, range(group.num_columns)) if chunk.path_in_schema in wanted]
        if sum(chunk.total_uncompressed_size for chunk in columns) > file.limits.row_group_megabytes * _MEGABYTE:
            problem = "has a row group of more than {} MB"
            raise limit_error(file.path, file.limits, problem, "row_group_megabytes")
        chunks += columns
    repeating = [chunk for chunk in chunks if any(encoding.startswith("DELTA") for encoding in chunk.encodings)]
    largest = max((chunk.total_uncompressed_size for chunk in repeating), default=1)
    dictionaries = sorted(set(wanted) - {chunk.path_in_schema for chunk in repeating})
    parquet = pq.ParquetFile(file.binary, metadata=metadata, read_dictionary=dictionaries)
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))
    yield from parquet.iter_batches(batch_size=rows, columns=wanted)


def _text_lengths(column: Any) -> Any:
    """Return the bytes of each text of an Arrow array; an empty array if it holds none."""
    if pa.types.is_dictionary(column.type):
        lengths = _text_lengths(column.dictionary)
        return lengths.take(column.indices) if len(lengths) else lengths
    if any(is_text(column.type) for is_text in _TEXT_TYPES):
        return pc.binary_length(column)
    return pa.array([], pa.int32())


def _to_python(column: Any) -> list[object]:
    """Convert an Arrow array to what validation accepts: numpy times, and text for whole decimals and bytes."""
    if pa.types.is_dictionary(column.type):
        if (pc.sum(_text_lengths(column)).as_py() or 0) > 2 * column.dictionary.nbytes:  # rows share their texts
            used = column.indices.unique()
            values = dict(zip(used.to_pylist(), _to_python(column.dictionary.take(used)), strict=True))
            return [values[index] for index in column.indices.to_pylist()]
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


_FORMATS: dict[str, Callable[[_LimitedFile], PostsTable]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
