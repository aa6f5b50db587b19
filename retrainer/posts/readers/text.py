"""Text of any encoding, in lines."""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from retrainer.errors import PostsError, UsageError
from retrainer.posts.readers.compression import peek
from retrainer.posts.records import NoRecordsError
from retrainer.posts.validation import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.limits import LimitedFile

_BLOCK_BYTES = 2**15  # small enough for the caches of a processor
_FOR_WORDS = {"idna", "punycode", "undefined"}
_LINE_BYTES = 64  # of memory that a line takes, beside its characters
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NAMES = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "mac_roman": "Mac Roman",
}
_UTF8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
_LATIN = ("cp1252", "mac_roman", "cp1250")  # the last is that of Central Europe
_LEAST_GAIN = 4
_LONGEST_RUN = 2  # of letters beyond ASCII in Latin words, as in "ação"
# What does not follow a small letter: a capital or a symbol, as in "donÕt", which is "don't" of a Mac.
_ODD = re.compile(
    "(?<=[a-z])[^\x00-\x7f\xa0\xaa\xab\xae\xb0\xb4\xb7\xba\xbb\xdf-\xf6\xf8-\u017f\u2013\u2014\u2018-\u201d\u2026\u20ac\u2122]"
)
_NOT_LATIN = ("cp1251", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949")


class RowTooLargeError(Exception):
    """The lines of one row exceed its limit."""


class _Block(NamedTuple):
    first: int  # the number of its first line
    lines: list[str]
    text: str  # all of them


class Lines:
    r"""The lines of a text with their ends: `\n`, `\r\n` or `\r`. Those of the row being read can be read again.

    Attributes:
        row: the number of the first line of the row being read; the reader of rows sets it.
    """

    def __init__(self, file: LimitedFile, encoding: str) -> None:
        self.row = 1
        self._file = file
        self._encoding = encoding
        self._kept: deque[_Block] = deque()
        self._blocks = self._read_blocks()

    def first(self) -> list[str]:
        """Return some lines from the start."""
        return next(self._lists(1), [])

    def start(self, line: int) -> Iterator[str]:
        """Yield the lines from a number on, which is that of the row being read or greater.

        Raises:
            PostsError: a line cannot be decoded, or exceeds a limit.
            RowTooLargeError: the lines from `row` on exceed the limit of a row.
        """
        return chain.from_iterable(self._lists(line))

    def _lists(self, line: int) -> Iterator[list[str]]:
        for block in list(self._kept):
            if block.first + len(block.lines) > line:
                yield block.lines[max(0, line - block.first) :]
        for block in self._blocks:
            kept = self._kept
            while kept and kept[0].first + len(kept[0].lines) <= self.row:
                kept.popleft()
            kept.append(block)
            if len(kept) > 1 and self._memory_of(kept) > self._file.max_row_bytes:
                raise RowTooLargeError
            if block.first + len(block.lines) > line:
                yield block.lines[max(0, line - block.first) :]

    @staticmethod
    def _memory_of(blocks: Sequence[_Block]) -> int:
        return memory([block.text for block in blocks]) + _LINE_BYTES * sum(len(block.lines) for block in blocks)

    def _read_blocks(self) -> Iterator[_Block]:
        """Yield the text in blocks of whole lines."""
        number = 1
        begun: list[str] = []  # of a line whose end has not been read
        for text in decode(self._file, self._encoding):
            # A \r at the end may be half of \r\n.
            end = 1 + max(text.rfind("\n"), text.rfind("\r", 0, -1))
            if begun and memory([*begun, text]) > self._file.max_row_bytes:
                raise self._file.row_error()
            if end:
                block = self._block(number, [*begun, text[:end]])
                yield block
                number += len(block.lines)
                begun = []
            if end < len(text):
                begun.append(text[end:])
        if begun:
            yield self._block(number, begun)

    def _block(self, number: int, texts: list[str]) -> _Block:
        text = "".join(texts)
        return _Block(number, list(io.StringIO(text, newline="")), text)


def decode(file: LimitedFile, encoding: str) -> Iterator[str]:
    """Yield the text of a file in pieces.

    Raises:
        PostsError: it cannot be decoded.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    is_end = False
    while not is_end:
        data = file.read(_BLOCK_BYTES)
        is_end = not data
        try:
            text = decoder.decode(data, is_end)
        except UnicodeError as error:
            before = ""
            if isinstance(error, UnicodeDecodeError):
                before = error.object[: error.start].decode(encoding, "ignore")
            raise not_decodable(file.name, encoding, line + _count_lines(before)) from error
        line += text.count("\n") or text.count("\r")
        if text:
            yield text


def memory(texts: Sequence[str]) -> int:
    """Return the bytes that texts take in memory when they are joined, which depends on the widest character."""
    return sum(map(len, texts)) * max(map(width, texts), default=1)


def width(text: str) -> int:
    """Return the bytes that each character of a text takes in memory: 1, 2 or 4, by the widest."""
    return 1 if text.isascii() else max(1, min(4, (sys.getsizeof(text) - 74) // len(text)))


def _count_lines(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def find_encoding(file: LimitedFile, given: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the encoding of a text, and what to say of it.

    Text is UTF-8 unless it starts with the mark of another encoding, is full of zeros, or is not UTF-8. Then it is
    Windows-1252 or, where that makes no words, another Latin one; or what charset-normalizer finds if most of its
    letters are not Latin.

    Raises:
        UsageError: the given encoding is unknown.
        PostsError: the text is empty, or UTF-8 with errors; or its encoding cannot be found.
    """
    if given is not None:
        encoding = _check_encoding(given)
        return {"utf-8": "utf-8-sig"}.get(encoding, encoding), ()
    head = peek(file.binary, 2**12)
    if not head:
        raise empty_error(file.name)
    encoding = next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), "")
    encoding = encoding or _find_zeros(head) or _check_utf8(file)
    file.restart()
    return encoding, (f"encoding {_NAMES.get(encoding, encoding)}",) if encoding != "utf-8-sig" else ()


def _check_encoding(name: str) -> str:
    """Return the encoding of this name.

    Raises:
        UsageError: it is none of texts. Python has others that turn bytes into bytes, or are for single words.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), name)  # refuses what is not for texts
        encoding = codecs.lookup(name).name
    except (LookupError, ValueError):
        encoding = ""
    if not encoding or encoding in _FOR_WORDS:
        raise UsageError(f"unknown encoding '{shorten(name)}'", hint="Examples: utf-8, utf-16, cp1252")
    return encoding


def _find_zeros(head: bytes) -> str:
    """Return the encoding of text whose letters are mostly ASCII and take two bytes; empty for other text."""
    pairs = len(head) // 2
    high, low = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if max(high, low) * 2 <= pairs:
        return ""
    return "utf-16-le" if low > high else "utf-16-be"


def _check_utf8(file: LimitedFile) -> str:
    """Return `utf-8-sig` if the whole file is UTF-8, else the encoding that it has."""
    is_ascii = True
    rest = b""
    while data := file.read(_BLOCK_BYTES):
        if data.isascii() and not rest:
            continue
        data = rest + data
        try:
            _, read = codecs.utf_8_decode(data, "strict", False)
            is_ascii, rest = False, data[read:]
        except UnicodeDecodeError as error:
            sample = data[error.start :] + file.read(_BLOCK_BYTES)
            others = len(sample) - len(sample.decode("ascii", "ignore"))
            is_ascii = is_ascii and data[: error.start].isascii()
            if is_ascii and 2 * sum(map(len, _UTF8_CHARACTER.findall(sample))) <= others:
                return _guess_encoding(file.name, sample)
            break
    return "utf-8-sig"  # where that is wrong, reading finds the line


def _guess_encoding(name: str, sample: bytes) -> str:
    """Return the encoding of text that is not UTF-8: a Latin one where other letters stand alone among ASCII."""
    others = _NOT_ASCII.findall(sample)
    if 2 * sum(len(run) for run in others if len(run) > _LONGEST_RUN) <= sum(map(len, others)):
        odd = {encoding: len(_ODD.findall(sample.decode(encoding, "replace"))) for encoding in _LATIN}
        latin = min(_LATIN, key=lambda encoding: odd[encoding])
        return latin if odd[latin] * _LEAST_GAIN <= odd["cp1252"] else "cp1252"
    from charset_normalizer import from_bytes  # noqa: PLC0415  slow to import, and rarely needed

    best = from_bytes(sample, cp_isolation=list(_NOT_LATIN)).best()
    if best is None:
        raise PostsError(f"cannot detect the encoding of '{name}'", hint="Save it as UTF-8, or name it with --encoding")
    return best.encoding


def not_decodable(name: str, encoding: str, line: int) -> PostsError:
    """Return the error for text that cannot be decoded."""
    shown = "UTF-8" if encoding.startswith("utf-8") else _NAMES.get(encoding, encoding)
    problem = f"'{name}' is not {shown} text: line {line} cannot be decoded"
    return PostsError(problem, hint="Save it as UTF-8, or name its encoding with --encoding")


def empty_error(name: str) -> PostsError:
    """Return the error for a file without content."""
    return NoRecordsError(f"'{name}' is empty", hint="Choose a file with at least a header or a record")
