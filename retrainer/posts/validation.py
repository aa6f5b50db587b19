"""The ids and counts of posts, from whatever file or table they come, and what is said of invalid values."""

from __future__ import annotations

import hashlib
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from retrainer.streams import check_stream_name

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MAX_SHOWN_CHARACTERS = 60  # of a value in a message
MAX_COUNT = 2**63 - 1
INEXACT = "is a floating-point number, whose last digits are lost"  # an id

_EXACT_FLOATS = 2**53  # from here on, floating-point numbers skip whole numbers
_WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0*", re.ASCII)
# What spreadsheets write a long number as, and what keeps them from doing so: '101, ="101".
_ROUNDED_ID = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+[0-9]+", re.ASCII)
_MARKED_ID = re.compile(r"""'([0-9]+)'?|=?"([0-9]+)\"""", re.ASCII)
_WHOLE_NUMBER = re.compile(r"0*([0-9]{1,19})(?:\.0*)?", re.ASCII)
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[\s'\u2019][0-9]{3})+|[0-9]{1,3}(?:\.[0-9]{3}){2,}")
_SHORTENED = re.compile(r"([0-9]{1,9}(?:[.,][0-9]{1,2})?)\s?([kmb])", re.IGNORECASE | re.ASCII)
_NO_COUNTS = {"NA", "NaN", "nan", "None", "null", "NULL"}  # what programs write for a missing number
_FACTORS = {"k": 10**3, "m": 10**6, "b": 10**9}
# Databases cannot store these as text.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class InvalidValueError(ValueError):
    """An invalid value; the message is the reason."""


def is_missing(value: object) -> bool:
    """Whether a value says nothing."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and math.isnan(value))


def parse_id(value: object) -> str:
    """Return the id, in one spelling: `101` for 101, "101 ", 101.0 and '101; any other text as written.

    Raises:
        InvalidValueError: it is missing, not exact, or neither text nor a whole number.
    """
    if type(value) is str and value.isalnum() and value.isascii() and "e" not in value:
        return value  # the way of nearly all ids
    if is_missing(value):
        raise InvalidValueError("the id is missing")
    if isinstance(value, float | Decimal) and not isinstance(value, bool):
        return _whole_id(Decimal(value), value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValueError(f"the id {quote(value)} is neither text nor a whole number")
    text = str(value).strip()
    if match := _MARKED_ID.fullmatch(text):
        return match[1] or match[2]
    if match := _WHOLE_FLOAT.fullmatch(text):
        return _whole_id(Decimal(match[1]), value)
    if _ROUNDED_ID.fullmatch(text):
        raise _inexact_id(value)
    if UNSTORABLE.search(text):
        raise InvalidValueError(f"the id {quote(value)} contains a character that cannot be stored")
    return text


def _whole_id(number: Decimal, value: object) -> str:
    if not -_EXACT_FLOATS < number < _EXACT_FLOATS:
        raise _inexact_id(value)
    if number != int(number):
        raise InvalidValueError(f"the id {quote(value)} is not a whole number")
    return str(int(number))


def _inexact_id(value: object) -> InvalidValueError:
    return InvalidValueError(f"the id {quote(value)} {INEXACT}")


@lru_cache(10_000)  # files have few streams, each many times
def _check_stream(name: str) -> str:
    try:
        return check_stream_name(name)
    except ValueError as error:
        raise InvalidValueError(f"the stream {quote(name)} {error}") from None


def parse_stream(value: object) -> str:
    """Return the name of a stream, exactly as written; of a whole number, its digits.

    Raises:
        InvalidValueError: it is missing or no valid name.
    """
    if is_missing(value):
        raise InvalidValueError("the stream is missing")
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValueError(f"the stream {quote(value)} is neither text nor a whole number")
    return _check_stream(str(value))


def make_id(time: int, text: str | None) -> str:
    """Return an id for a post that has none; always the same for the same time and text.

    Args:
        time: microseconds since 1970, UTC.
        text: its text; None if it has none.
    """
    written = f"{time}\n{text or ''}"
    return f"made-{hashlib.sha256(written.encode()).hexdigest()[:20]}"


def parse_count(value: object) -> int | None:
    """Return the count; None if it is missing. Digits may be grouped, as in 1,234, or shortened, as in 1.2K.

    Raises:
        InvalidValueError: it cannot be read. The post is worth keeping without it.
    """
    if is_missing(value):
        return None
    text = str(value).strip()
    if text in _NO_COUNTS:
        return None
    if _GROUPED.fullmatch(text):
        text = re.sub(r"[^0-9]", "", text)
    elif match := _SHORTENED.fullmatch(text):
        text = str(int(Decimal(match[1].replace(",", ".")) * _FACTORS[match[2].lower()]))
    match = _WHOLE_NUMBER.fullmatch(text)
    if match is None or int(match[1]) > MAX_COUNT:
        raise InvalidValueError(f"{quote(value)} is not a whole number of 0 or more")
    return int(match[1])


def quote(value: object) -> str:
    """Return a value in quotes, shortened, for a message."""
    return f"'{shorten(str(value))}'"


def number(count: int, noun: str) -> str:
    """Return a number with its noun, which gets an `s` unless there is one of it."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shorten(text: str, max_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return the text on one line, printable, in at most `max_characters`."""
    shown = "".join(c if c.isprintable() else " " for c in text[: max_characters + 1])
    return shown if len(shown) <= max_characters else f"{shown[: max_characters - 1]}…"
