"""Read rows of fields between separators: CSV and its kin."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from retrainer.errors import PostsError, UsageError
from retrainer.posts.readers.text import Lines, RowTooLargeError, empty_error, find_encoding
from retrainer.posts.records import PostsTable, RejectedRow, Row
from retrainer.posts.validation import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from retrainer.posts.readers.limits import LimitedFile
    from retrainer.posts.readers.options import ReadOptions

_DELIMITERS = (",", ";", "\t", "|")
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # a first line that Excel writes and reads
_MISMATCH = "its quotes do not match"
_UNCLOSED = "a quote in it is never closed"


@dataclass(frozen=True)
class _Dialect:
    """How fields are separated and quoted."""

    delimiter: str
    quotechar: str = '"'
    has_quotes: bool = True
    escapechar: str | None = None
    skips_space: bool = False

    def reader(self, lines: Iterable[str]) -> Any:
        """Return a reader of rows; a quote in the wrong place is an error, instead of swallowing the next rows."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            quoting=csv.QUOTE_MINIMAL if self.has_quotes else csv.QUOTE_NONE,
            escapechar=self.escapechar,
            skipinitialspace=self.skips_space,
            strict=True,
        )

    def describe(self, default: str) -> tuple[str, ...]:
        """Return what differs from the usual dialect."""
        found = []
        if self.delimiter != default:
            found.append("separator tab" if self.delimiter == "\t" else f"separator '{self.delimiter}'")
        if self.quotechar != '"':
            found.append(f"quotes {self.quotechar}")
        if not self.has_quotes:
            found.append("no quotes")
        if self.escapechar:
            found.append(f"escapes with {self.escapechar}")
        return tuple(found)


def read(file: LimitedFile, options: ReadOptions) -> PostsTable:
    """Open a file of rows. The number of a row is that of its first line; the header is line 1 or later.

    Raises:
        UsageError: the delimiter or the encoding of the options cannot be used.
        PostsError: the file is empty, its header cannot be read, or it exceeds a limit; also while rows are read.
    """
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is too small for some posts; rows have a limit of their own
    encoding, detected = find_encoding(file, options.encoding)
    sample = Lines(file, encoding).first()
    first = 1
    default = "\t" if file.path.suffix.lower() == ".tsv" or ".tsv" in file.path.suffixes else ","
    if sample and (named := _NAMED_DELIMITER.fullmatch(sample[0])):
        first = 2
        dialect = _find_dialect(sample[1:], named[1], default)
    else:
        dialect = _find_dialect(sample, _check_delimiter(options.delimiter), default)
    if options.delimiter is None:
        detected += dialect.describe(default)

    def open_rows() -> tuple[Lines, list[str], int]:
        """Return the lines from the start, the header, and the number of the line after it."""
        file.restart()
        lines = Lines(file, encoding)
        reader = dialect.reader(lines.start(first))
        try:
            while not (header := next(reader)):
                file.count_row()
        except StopIteration:
            raise empty_error(file.name) from None
        except (csv.Error, RowTooLargeError) as error:
            problem = f"cannot read the header of '{file.name}': {_MISMATCH}"
            raise PostsError(problem, hint="Fix its first line") from error
        return lines, header, first + reader.line_num

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        lines, header, start = open_rows()
        indices = [header.index(name) if name in header else len(header) for name in columns]
        needed = 1 + max((index for index in indices if index < len(header)), default=0)
        return _read_rows(file, lines, start, dialect, len(header), needed, _getter(indices))

    _, header, _ = open_rows()
    return PostsTable(file.name, header, rows, "line", detected)


def _getter(indices: list[int]) -> Callable[[list[Any]], tuple[object, ...]]:
    """Return a function from the fields of a row, with a None behind them, to those with these indices."""
    if len(indices) > 1:
        return itemgetter(*indices)
    return lambda fields: tuple(fields[index] for index in indices)


def _read_rows(  # noqa: C901  one loop, for its speed
    file: LimitedFile,
    lines: Lines,
    start: int,
    dialect: _Dialect,
    width: int,
    needed: int,
    select: Callable[[list[Any]], tuple[object, ...]],
) -> Iterator[Row]:
    """Yield the rows from a line on.

    Where quotes do not match, a row may have swallowed others, so reading goes on in the line after its first. The
    lines up to the next good row belong to the bad one.
    """
    max_rows = file.limits.rows
    bad: RejectedRow | None = None
    while True:
        reader = dialect.reader(lines.start(start))
        offset = line = start
        try:
            for fields in reader:
                file.rows = number = file.rows + 1
                if number > max_rows:
                    raise file.rows_error()
                if len(fields) == width:
                    if bad is not None:
                        yield _up_to(bad, line - 1)
                        bad = None
                    fields.append(None)
                    yield line, select(fields)
                elif needed <= len(fields) < width and bad is None:  # some programs leave out the last fields if empty
                    fields.extend([None] * (width + 1 - len(fields)))
                    yield line, select(fields)
                elif fields and bad is None:
                    yield RejectedRow(line, f"{len(fields)} fields where the header has {width}")
                lines.row = line = offset + reader.line_num
        except csv.Error as error:
            reason = _UNCLOSED if "end of data" in str(error) else _MISMATCH
        except RowTooLargeError:
            reason = _UNCLOSED
        else:
            if bad is not None:
                yield _up_to(bad, line - 1)
            return
        file.count_row()
        bad = bad or RejectedRow(line, reason)
        lines.row = start = line + 1


def _up_to(bad: RejectedRow, last: int) -> RejectedRow:
    """Return a rejected row with the number of its last line."""
    return bad if last <= bad.line else replace(bad, reason=f"{bad.reason} (up to line {last})")


def _check_delimiter(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        hint = "Choose one character, such as ';', or tab"
        raise UsageError(f"invalid delimiter '{shorten(delimiter)}'", hint=hint)
    return delimiter


def _find_dialect(sample: list[str], delimiter: str | None, default: str) -> _Dialect:
    """Return the dialect in which most rows have as many fields as the header, and as many as possible."""
    delimiters = [delimiter] if delimiter else sorted(_DELIMITERS, key=lambda candidate: candidate != default)
    best = _Dialect(delimiter or default)
    best_score = (0.0, 1)
    for candidate in delimiters:
        for dialect in _variants(candidate, sample):
            score = _score(sample, dialect)
            if score[1] > 1 and score > best_score:
                best, best_score = dialect, score
    return best


def _variants(delimiter: str, sample: list[str]) -> Iterator[_Dialect]:
    """Yield the ways to quote fields that the sample may use, the usual one first."""
    usual = _Dialect(delimiter)
    header = next((line.strip() for line in sample if not line.isspace()), "")
    if header.startswith("'") and all(name[:1] == name[-1:] == "'" for name in header.split(delimiter)):
        yield replace(usual, quotechar="'")
    yield usual
    if any('\\"' in line for line in sample):
        yield replace(usual, escapechar="\\")
    if any(f'{delimiter} "' in line for line in sample):
        yield replace(usual, skips_space=True)
    if delimiter == "\t":
        yield replace(usual, has_quotes=False)


def _score(sample: list[str], dialect: _Dialect) -> tuple[float, int]:
    """Return the share of rows with as many fields as the header, and that number."""
    reader = dialect.reader(sample)
    counts: list[int] = []
    while True:
        try:
            for fields in reader:
                if fields:
                    counts.append(len(fields))  # noqa: PERF401  those before an error count
            break
        except csv.Error:
            counts.append(0)
    good = counts.count(counts[0]) if counts else 0
    return (good / len(counts) if counts else 0.0), max(counts[:1], default=0)
