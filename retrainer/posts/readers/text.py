"""Text of any encoding."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from retrainer.errors import PostsError

if TYPE_CHECKING:
    from retrainer.posts.readers.limits import LimitedFile

_BUFFER_BYTES = 2**17


def not_utf8(name: str, line: int) -> PostsError:
    return PostsError(f"'{name}' is not UTF-8 text: line {line} cannot be decoded", hint="Save it as UTF-8")


def empty_error(name: str) -> PostsError:
    return PostsError(f"'{name}' is empty", hint="Choose a file with at least a header or a record")


def open_text(file: LimitedFile) -> io.TextIOWrapper:
    """Open as UTF-8 text without translating line ends; a byte order mark is skipped."""
    binary = io.BufferedReader(file, _BUFFER_BYTES)
    if b"\0" in binary.peek(4)[:4]:  # UTF-16 or UTF-32; without a mark, ASCII letters would pass as UTF-8
        raise not_utf8(file.name, 1)
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
