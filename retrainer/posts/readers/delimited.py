"""Read rows of fields between separators: CSV and its kin."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from retrainer.errors import PostsError
from retrainer.posts.readers.text import empty_error, open_text
from retrainer.posts.records import PostsTable, RejectedRow, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.limits import LimitedFile
    from retrainer.posts.readers.options import ReadOptions


def read(file: LimitedFile, options: ReadOptions) -> PostsTable:
    """Read rows of fields."""
    delimiter = options.delimiter or ("\t" if ".tsv" in file.name else ",")
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is too small for some posts; rows have a limit of their own
    # Strict, so that an unclosed quote is an error instead of silently swallowing the following rows.
    reader = csv.reader(open_text(file), delimiter=delimiter, strict=True)
    try:
        while not (header := next(reader)):
            file.count_row()
    except StopIteration:
        raise empty_error(file.name) from None
    except csv.Error as error:
        hint = "Fix its first line"
        raise PostsError(f"cannot read the header of '{file.name}': its quotes do not match", hint=hint) from error

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

    return PostsTable(file.name, header, rows, "line")
