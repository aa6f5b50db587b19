"""JSON text that is read piece by piece."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from retrainer.errors import PostsError
from retrainer.posts.readers.nesting import Merged
from retrainer.posts.readers.text import RowTooLargeError, decode, memory, width

if TYPE_CHECKING:
    from retrainer.posts.readers.limits import LimitedFile

_MAX_DIGITS = 4_000  # of a whole number; one with more is read as text
_VALUE_BYTES = 80  # of memory that an empty object and its place in an array take
_SLACK = 16  # characters; a literal that the end of the text cuts is shorter
_SPACE = re.compile(r"[ \t\r\n]*")
_BETWEEN_DOCUMENTS = re.compile("[ \t\r\n,;)\x1e]*")  # the last starts a document of RFC 7464
_BEFORE_DOCUMENT = re.compile(
    r"""\s*(?:/\*.*?\*/\s*)?          # a comment
    (?:(?:(?:var|let|const)\s+)?[A-Za-z_$][\w$.\[\]"']*\s*=  # an assignment: window.YTD.tweets.part0 =
    |[A-Za-z_$][\w$.]*\()\s*          # or a call
    (?=[\[{])""",
    re.DOTALL | re.VERBOSE,
)


class Twice:
    """Stands for the values of a key that an object has twice."""

    def __repr__(self) -> str:
        return "two values"


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _merge(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; the arrays or objects of a key that it has twice become one array."""
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key in merged and merged[key] != value:
            both = [merged[key], value]
            if not all(isinstance(one, dict | list) for one in both):
                merged[key] = Twice()
                continue
            merged[key] = Merged(element for one in both for element in (one if isinstance(one, list) else [one]))
        else:
            merged[key] = value
    return merged


def _fraction(text: str) -> Decimal | float:
    try:
        return Decimal(text)
    except InvalidOperation:
        return float(text)  # infinity or 0


_DECODER = json.JSONDecoder(parse_float=Decimal)
_CAREFUL_DECODER = json.JSONDecoder(parse_float=_fraction, parse_int=_whole_number)
_MERGING_DECODER = json.JSONDecoder(parse_float=_fraction, parse_int=_whole_number, object_pairs_hook=_merge)


def decode_value(text: str, start: int, *, merge: bool = False) -> tuple[Any, int]:
    """Return the value that starts at a position, and the position of its end. Fractions are exact decimals.

    Raises:
        json.JSONDecodeError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    if merge:
        return _MERGING_DECODER.raw_decode(text, start)
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except (ValueError, InvalidOperation):  # a number of thousands of digits, or an exponent of many
        return _CAREFUL_DECODER.raw_decode(text, start)


def takes_too_much(text: str, file: LimitedFile, start: int = 0) -> bool:
    """Whether the values of a long text may take far more memory than a row may."""
    length = len(text) - start
    if length * _VALUE_BYTES <= file.max_row_bytes:
        return False
    values = sum(text.count(mark, start) for mark in ",[{")
    return length * width(text) > file.max_row_bytes or length + values * _VALUE_BYTES > 4 * file.max_row_bytes


class JsonText:
    """The text of a file, of which one value at a time is in memory.

    Attributes:
        keys: the number of keys that the value read last seems to have.
    """

    def __init__(self, file: LimitedFile, encoding: str) -> None:
        file.restart()
        self.keys = 0
        self._file = file
        self._pieces = decode(file, encoding)
        self._text = ""
        self._position = self._start = 0
        self._lines = 1  # the number of the first line in memory
        self._fill()
        if match := _BEFORE_DOCUMENT.match(self._text):
            self._position = match.end()

    def next_document(self) -> bool:
        """Move to the next document; return False at the end."""
        return bool(self._skip(_BETWEEN_DOCUMENTS))

    def peek(self) -> str:
        """Skip white space; return the next character, empty at the end."""
        return self._skip(_SPACE)

    def take(self, character: str) -> bool:
        """Skip white space and this character; return False if another is next.

        Raises:
            PostsError: the text is at its end.
        """
        found = self.peek()
        if not found:
            raise self._error("Unexpected end", self._position)
        if found == character:
            self._position += 1
        return found == character

    def expect(self, *characters: str) -> str:
        """Skip white space and one of these characters; return it.

        Raises:
            PostsError: another is next.
        """
        for character in characters:
            if self.take(character):
                return character
        raise self._error(f"Expecting '{characters[0]}'", self._position)

    def value(self, *, merge: bool = False) -> Any:
        """Read a value.

        Raises:
            PostsError: it is not JSON.
            RowTooLargeError: it exceeds the limit of a row. It may be read in parts.
        """
        self.peek()
        while True:
            start = self._position
            try:
                value, end = decode_value(self._text, start, merge=merge)
            except json.JSONDecodeError as error:
                is_cut = error.pos >= len(self._text) - _SLACK or error.msg.startswith("Unterminated string")
                problem = self._error(error.msg, error.pos)
                if not (is_cut and self._fill()):
                    raise problem from error
            except RecursionError as error:
                raise self._error("it is nested too deeply", start) from error
            else:
                # More digits may follow a number.
                if end < len(self._text) or self._text[start] in '{["' or not self._fill():
                    if 4 * (end - start) > self._file.max_row_bytes and memory([self._text[start:end]]) > (
                        self._file.max_row_bytes
                    ):
                        raise RowTooLargeError
                    self._start, self._position = start, end
                    self.keys = self._text.count('":', start, end)
                    return value

    def merged_value(self) -> Any:
        """Return the value read last, with what stands under keys that an object has twice."""
        return decode_value(self._text, self._start, merge=True)[0]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        while True:
            match = pattern.match(self._text, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Read on, at least as much as is in memory; return False at the end."""
        if takes_too_much(self._text, self._file, self._position):
            raise RowTooLargeError
        self._lines += _count_lines(self._text, self._position)
        rest = self._text[self._position :]
        pieces = [rest]
        wanted = max(1, len(rest))
        while wanted > 0 and (piece := next(self._pieces, "")):
            pieces.append(piece)
            wanted -= len(piece)
        self._text = "".join(pieces)
        self._position = self._start = 0
        return len(pieces) > 1

    def _error(self, message: str, position: int) -> PostsError:
        line = self._lines + _count_lines(self._text, position)
        return PostsError(f"'{self._file.name}' is not JSON: {message} at line {line}", hint="Fix the file")


def _count_lines(text: str, end: int) -> int:
    return text.count("\n", 0, end) or text.count("\r", 0, end)
