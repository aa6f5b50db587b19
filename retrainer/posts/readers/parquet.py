"""Read Parquet files, in batches whose memory does not depend on what the file says of itself."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from retrainer.errors import PostsError
from retrainer.posts.readers.limits import MEGABYTE, LimitedFile, limit_error
from retrainer.posts.readers.parquet_pages import read_pages, read_row_groups
from retrainer.posts.records import PostsTable, Row
from retrainer.posts.times import MAX_TIME, MIN_TIME
from retrainer.posts.validation import EPOCH, MICROSECOND, quote, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.options import ReadOptions

_BATCH_ROWS = 65_536  # in memory at once
_BATCH_BYTES = 2**27  # likewise, where one stored value may be repeated in every row
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def read(file: LimitedFile, _options: ReadOptions) -> PostsTable:
    """Open a Parquet file. The number of a row is that of its record."""
    with _translate_errors(file.name):
        parquet = pq.ParquetFile(file.binary)
    schema = parquet.schema_arrow
    if parquet.metadata.num_rows > file.limits.rows:
        raise file.rows_error()

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        file.restart()
        with _translate_errors(file.name):
            yield from select(columns)

    def select(columns: Sequence[str | None]) -> Iterator[Row]:
        number = 1
        wanted = sorted(name for name in set(schema.names) if name in columns)
        for name in wanted:
            _require_plain(schema.field(name), file.name)
        for batch in _read_batches(file, parquet.metadata, wanted):
            for column in batch.columns:
                lengths = _text_lengths(column)
                file.count_bytes(pc.sum(lengths).as_py() or 0)
                if (pc.max(lengths).as_py() or 0) > file.max_row_bytes:
                    raise file.row_error()
            values = {name: _to_python(batch.column(name)) for name in batch.schema.names}
            absent: list[object] = [None] * batch.num_rows
            selected = zip(*(values.get(name, absent) for name in columns), strict=True)
            yield from enumerate(selected, number)
            number += batch.num_rows

    return PostsTable(file.name, schema.names, rows, "record")


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Translate what Arrow raises about a damaged file; an OSError of the system has a number."""
    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = f"cannot read '{name}' as Parquet: {shorten(str(error), 200)}"
        raise PostsError(problem, hint="Write it again") from error


def _require_plain(field: Any, name: str) -> None:
    """Refuse types that no column of posts can have; a value of them may take any amount of memory."""
    arrow_type = getattr(field.type, "storage_type", field.type)  # of an extension type
    if pa.types.is_nested(arrow_type) or pa.types.is_fixed_size_binary(arrow_type):
        problem = f"cannot read '{name}': the type of its column {quote(field.name)} is {quote(field.type)}"
        raise PostsError(problem, hint="Choose a column of text, numbers or times with --column")


def _read_batches(file: LimitedFile, metadata: Any, wanted: list[str]) -> Iterator[Any]:
    """Yield the rows of a Parquet file in batches, none of which takes much more memory than the file itself.

    A file may store one long value, or the beginning of many, once. Texts are therefore read as dictionaries, which
    repeat nothing. Where that is not possible, a batch is so small that it may repeat the largest value.
    """
    repeating: set[str] = set()
    largest = 1
    for group in read_row_groups(file.binary):
        left = file.limits.row_group_megabytes * MEGABYTE
        for chunk in group:
            if chunk.column not in wanted:
                continue
            size = 0
            for page in read_pages(file.binary, chunk):
                size += page.size
                if page.repeats:
                    repeating.add(chunk.column)
            left -= size
            if left < 0:
                problem = "has a row group of more than {} MB"
                raise limit_error(file.name, file.limits, problem, "row_group_megabytes")
            if chunk.column in repeating:
                largest = max(largest, size)
    dictionaries = sorted(set(wanted) - repeating)
    parquet = pq.ParquetFile(file.binary, metadata=metadata, read_dictionary=dictionaries)
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // largest))
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
    """Convert an Arrow array to what validation accepts: text for whole decimals and bytes, and times.

    Local times are numpy's, since those know no zone, and all others Python's.
    """
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
        zone = getattr(arrow_type, "tz", None)
        micros = column.cast(pa.timestamp("us", zone), safe=exact)
        if zone is not None:
            return _aware_times(micros.cast(pa.int64()))
        return list(micros.to_numpy(zero_copy_only=False))
    is_bytes = pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)
    if is_bytes or (pa.types.is_decimal(arrow_type) and arrow_type.scale == 0):
        column = column.cast(pa.string())
    return list(column.to_pylist())


def _aware_times(micros: Any) -> list[object]:
    """Return times; one that Python cannot hold stays one of numpy."""
    first, last = pc.min(micros).as_py(), pc.max(micros).as_py()
    if first is not None and not micros.null_count and first >= MIN_TIME and last <= MAX_TIME:
        return list(map(EPOCH.__add__, micros.to_numpy().view("timedelta64[us]").tolist()))
    return [
        value
        if value is None
        else EPOCH + value * MICROSECOND
        if MIN_TIME <= value <= MAX_TIME
        else np.datetime64(value, "us")
        for value in micros.to_pylist()
    ]
