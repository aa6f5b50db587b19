"""The headers of the pages of a Parquet file, which say how large it really is.

The sizes and encodings in the footer need not be true: no reader depends on them. A page is decompressed into as many
bytes as its header says, or not at all. See https://parquet.apache.org/docs/file-format/data-pages/ and, for the format
of headers, the compact protocol of Apache Thrift.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER_BYTES = 2**16
_MAX_HEADER_BYTES = 2**24
_DELTA_ENCODINGS = (5, 6, 7)
# Fields of a page header, and of what is in it for a data page of version 1, a dictionary, a data page of version 2.
_UNCOMPRESSED_SIZE, _COMPRESSED_SIZE = 2, 3
_ENCODING_FIELDS = {5: 2, 7: 2, 8: 4}
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS = (4, 5, 6)
_MAX_DEPTH = 8


class Page(NamedTuple):
    """A page.

    Attributes:
        size: bytes, decompressed.
        repeats: whether it may store the beginning of many texts once.
    """

    size: int
    repeats: bool


def read_pages(binary: IO[bytes], chunk: Any) -> Iterator[Page]:
    """Yield the pages of a column chunk.

    Args:
        binary: the file.
        chunk: what the footer says of the chunk.

    Raises:
        ValueError: a header cannot be read.
    """
    if not chunk.num_values:  # no page of it is read
        return
    position = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        position = min(position, chunk.dictionary_page_offset)
    end = position + chunk.total_compressed_size
    while position < end:
        header, length = _read_header(binary, position)
        size, compressed = header.get(_UNCOMPRESSED_SIZE), header.get(_COMPRESSED_SIZE)
        if not (isinstance(size, int) and isinstance(compressed, int) and size >= 0 and compressed >= 0):
            raise ValueError("a page has no size")
        parts = ((header.get(field), encoding) for field, encoding in _ENCODING_FIELDS.items())
        encodings = [part.get(encoding) for part, encoding in parts if isinstance(part, dict)]
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
        raise ValueError("the header of a page is nested too deeply")
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
    if kind == _BYTE:
        length = 1
    elif kind == _DOUBLE:
        length = 8
    elif kind == _BINARY:
        length, position = _read_varint(data, position)
    else:  # no header has lists, sets or maps
        raise ValueError("the header of a page has a field of an unknown type")
    if position + length > len(data):
        raise IndexError
    return None, position + length


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
            raise ValueError("the header of a page has too large a number")
