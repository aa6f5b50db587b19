"""Read JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from retrainer.errors import PostsError
from retrainer.posts.readers.limits import quote_names
from retrainer.posts.readers.text import empty_error, not_utf8, open_text
from retrainer.posts.records import PostsTable, RejectedRow, Row
from retrainer.posts.validation import quote

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.limits import LimitedFile
    from retrainer.posts.readers.options import ReadOptions

MAX_COLUMNS = 100_000


def read(file: LimitedFile, _options: ReadOptions) -> PostsTable:
    """Read JSON."""
    return _read_json_lines(file) if "l" in file.name.split(".js")[-1] or "nd" in file.name else _read_json(file)


def _read_json(file: LimitedFile) -> PostsTable:
    name = file.name
    data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(name, 1 + data.count(b"\n", 0, error.start)) from error
    if "\0" in text[:4]:  # UTF-16 or UTF-32 in ASCII letters
        raise not_utf8(name, 1)
    del data
    if not text.strip():
        raise empty_error(name)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "Rename it to .jsonl if it has one object per line" if error.msg == "Extra data" else "Fix the file"
        raise PostsError(f"'{name}' is not JSON: {error.msg} at line {error.lineno}", hint=hint) from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or thousands of brackets
        raise PostsError(f"cannot read '{name}' as JSON: {error}", hint="Fix the file") from error
    del text
    records = _find_records(document, name)
    file.check_rows(len(records))
    names = dict.fromkeys(name for record in records if isinstance(record, dict) for name in record)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        for number, record in enumerate(records, 1):
            yield _select(number, record, columns)

    return PostsTable(name, list(names), rows, "record")


def _find_records(document: object, name: str) -> list[object]:
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
    raise PostsError(f"'{name}' contains {content}", hint=hint)


def _read_json_lines(file: LimitedFile) -> PostsTable:
    text = open_text(file)
    names: dict[str, None] = {}
    isempty_error = True
    # The columns must be known before the first row; the file is read twice to save memory.
    for _, record in _parse_lines(text, file):
        isempty_error = False
        if isinstance(record, dict):
            names.update(dict.fromkeys(record))
        if len(names) > MAX_COLUMNS:
            raise PostsError(f"'{file.name}' has more than {MAX_COLUMNS:,} columns", hint="Check that it holds posts")
    if isempty_error:
        raise empty_error(file.name)

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        text.seek(0)
        file.restart()
        for line, record in _parse_lines(text, file):
            yield record if isinstance(record, RejectedRow) else _select(line, record, columns)

    return PostsTable(file.name, list(names), rows, "line")


def _parse_lines(text: io.TextIOWrapper, file: LimitedFile) -> Iterator[tuple[int, object]]:
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
