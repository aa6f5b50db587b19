"""What a Parquet file says of its column chunks, and the headers of their pages, which say how large they really are.

The sizes and encodings in the footer need not be true: no reader depends on them. A page is decompressed into as many
bytes as its header says, or not at all. The footer is read here too, since Arrow ends the process where parts of it are
damaged that nobody needs. See https://parquet.apache.org/docs/file-format/ and, for how headers and footer are encoded,
the compact protocol of Apache Thrift.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER_BYTES = 2**16
_MAX_HEADER_BYTES = 2**24
_MAX_FOOTER_BYTES = 2**26
_TAIL_BYTES = 8  # the length of the footer, and PAR1
_DELTA_ENCODINGS = (5, 6, 7)
# Fields of the footer, of a row group in it, of a column chunk in that, and of what is said of the chunk.
_ROW_GROUPS, _CHUNKS, _META_DATA = 4, 1, 3
_PATH, _VALUES, _CHUNK_SIZE, _DATA_OFFSET, _DICTIONARY_OFFSET = 3, 5, 7, 9, 11
# Fields of a page header, and of what is in it for a data page of version 1, a dictionary, a data page of version 2.
_UNCOMPRESSED_SIZE, _COMPRESSED_SIZE = 2, 3
_ENCODING_FIELDS = {5: 2, 7: 2, 8: 4}
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS = (4, 5, 6)
_LISTS = (9, 10)
_LONG_LIST = 15
_MAX_DEPTH = 12


class Chunk(NamedTuple):
    """A column chunk: its column, where its pages start and end, and the number of its values."""

    column: str
    start: int
    end: int
    values: int


class Page(NamedTuple):
    """A page.

    Attributes:
        size: bytes, decompressed.
        repeats: whether it may store the beginning of many texts once.
    """

    size: int
    repeats: bool


def read_row_groups(binary: IO[bytes]) -> Iterator[list[Chunk]]:
    """Yield the column chunks of each row group.

    Raises:
        ValueError: the footer cannot be read.
    """
    binary.seek(-_TAIL_BYTES, io.SEEK_END)
    length = int.from_bytes(binary.read(4), "little")
    if length > _MAX_FOOTER_BYTES:
        raise ValueError("its footer is too large")
    binary.seek(-_TAIL_BYTES - length, io.SEEK_END)
    try:
        footer, _ = _read_struct(binary.read(length), 0, 0)
        for group in footer.get(_ROW_GROUPS, ()):
            yield [_chunk(chunk[_META_DATA]) for chunk in group[_CHUNKS]]
    except (LookupError, TypeError, AttributeError) as error:  # a value is of another type
        raise ValueError("its footer is damaged") from error


def _chunk(meta: dict[int, Any]) -> Chunk:
    start = meta[_DATA_OFFSET]
    if meta.get(_DICTIONARY_OFFSET):
        start = min(start, meta[_DICTIONARY_OFFSET])
    column = ".".join(name.decode() for name in meta[_PATH])
    return Chunk(column, start, start + meta[_CHUNK_SIZE], meta[_VALUES])


def read_pages(binary: IO[bytes], chunk: Chunk) -> Iterator[Page]:
    """Yield the pages of a column chunk.

    Raises:
        ValueError: a header cannot be read.
    """
    position = chunk.start
    end = chunk.end if chunk.values else position  # without values, no page is read
    while position < end:
        header, length = _read_header(binary, position)
        size, compressed = header.get(_UNCOMPRESSED_SIZE), header.get(_COMPRESSED_SIZE)
        if not (isinstance(size, int) and isinstance(compressed, int) and size >= 0 and compressed >= 0):
            raise ValueError("a page has no size")
        inner = ((header.get(field), encoding) for field, encoding in _ENCODING_FIELDS.items())
        encodings = [fields.get(encoding) for fields, encoding in inner if isinstance(fields, dict)]
        yield Page(size, any(encoding in _DELTA_ENCODINGS for encoding in encodings))
        position += length + compressed


def _read_header(binary: IO[bytes], position: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a header by their numbers, and its length."""
    count = _HEADER_BYTES
    while True:
        binary.seek(position)
        data = binary.read(count)
        try:
            return _read_struct(data, 0, 0)
        except IndexError as error:
            if len(data) < count or count >= _MAX_HEADER_BYTES:
                raise ValueError("the header of a page is not complete") from error
            count *= 16


def _read_struct(data: bytes, position: int, depth: int) -> tuple[dict[int, Any], int]:
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while True:
        start = data[position]
        position += 1
        if start == 0:
            return fields, position
        if start >> 4:
            number += start >> 4
        else:
            number, position = _read_integer(data, position)
        fields[number], position = _read_value(start & 15, data, position, depth)


def _read_value(kind: int, data: bytes, position: int, depth: int) -> tuple[Any, int]:
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, position
    if kind in _INTEGERS:
        return _read_integer(data, position)
    if kind == _STRUCT:
        return _read_struct(data, position, depth + 1)
    if kind in _LISTS:
        return _read_list(data, position, depth)
    if kind == _BYTE:
        length = 1
    elif kind == _DOUBLE:
        length = 8
    elif kind == _BINARY:
        length, position = _read_varint(data, position)
    else:
        raise ValueError("it has a header of an unknown type")
    if position + length > len(data):
        raise IndexError
    return data[position : position + length], position + length


def _read_list(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    kind, count = data[position] & 15, data[position] >> 4
    position += 1
    if count == _LONG_LIST:
        count, position = _read_varint(data, position)
    if depth > _MAX_DEPTH or count > len(data):
        raise ValueError("it has a list that is too long or too deep")
    values = []
    for _ in range(count):
        # As an element, a truth value takes a byte; as a field, none.
        value, position = _read_value(_BYTE if kind in {_TRUE, _FALSE} else kind, data, position, depth + 1)
        values.append(value)
    return values, position


def _read_integer(data: bytes, position: int) -> tuple[int, int]:
    value, position = _read_varint(data, position)
    return (value >> 1) ^ -(value & 1), position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:  # noqa: PLR2004  the highest bit says that more follow
            return value, position
        if shift > 63:  # noqa: PLR2004  bits of the largest integer
            raise ValueError("it has too large a number")
