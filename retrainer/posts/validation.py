"""Validation of the values of posts, from whatever file or table they come."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

MAX_SHOWN_CHARACTERS = 60  # of a value in a message

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MIN_TIME = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MISSING_COUNT = -1
MAX_COUNT = 2**63 - 1

_CLOCK = r"[Tt ](?:[01]\d|2[0-3])"
_ZONE = r"(?: ?(?:[Zz]|[+-]\d\d(?::?\d\d)?))?"
_ISO_8601 = re.compile(
    rf"\d{{4}}-\d\d-\d\d(?:{_CLOCK}(?::\d\d(?::\d\d(?:[.,]\d+)?)?)?{_ZONE})?"
    rf"|\d{{8}}(?:{_CLOCK}(?:\d\d(?:\d\d(?:[.,]\d+)?)?)?{_ZONE})?",
    re.ASCII,
)
_PLAIN_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_WHOLE_NUMBER = re.compile(r"0*(\d{1,19})(?:\.0*)?", re.ASCII)
# What spreadsheets and data frames turn a long id into: the digits after the sixteenth are lost.
_ROUNDED_ID = re.compile(r"\d(?:\.\d+)?[eE]\+\d+", re.ASCII)
# Databases cannot store these as text.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class InvalidValueError(ValueError):
    """An invalid value, which rejects its row; the message is the reason."""


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and math.isnan(value))


def parse_id(value: object) -> str:
    """Return the id as written."""
    if _is_missing(value):
        raise InvalidValueError("the id is missing")
    if isinstance(value, float | Decimal) or (isinstance(value, str) and _ROUNDED_ID.fullmatch(value)):
        raise InvalidValueError(f"the id {quote(value)} is a floating-point number, whose last digits are lost")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValueError(f"the id {quote(value)} is neither text nor a whole number")
    text = str(value)
    if _UNSTORABLE.search(text):
        raise InvalidValueError(f"the id {quote(value)} contains a character that cannot be stored")
    return text


def parse_time(value: object, now: int) -> int:
    """Return the time in microseconds since 1970, UTC."""
    if _is_missing(value) or (isinstance(value, np.datetime64) and np.isnat(value)):
        raise InvalidValueError("the time is missing")
    try:
        micros = to_microseconds(value)
    except ValueError as error:
        problem = "is neither ISO-8601 nor seconds or milliseconds since 1970"
        raise InvalidValueError(f"the time {quote(value)} {problem}") from error
    if micros > now:
        raise InvalidValueError(f"the time {quote(value)} is in the future")
    if micros < MIN_TIME:
        raise InvalidValueError(f"the time {quote(value)} is before the year 1")
    return micros


def to_microseconds(value: object) -> int:
    """Return a time in microseconds since 1970, UTC.

    Raises:
        ValueError: it is not a time.
    """
    if isinstance(value, np.datetime64):
        return int(value.astype(np.int64))
    if isinstance(value, datetime):
        return (value.replace(tzinfo=value.tzinfo or UTC) - EPOCH) // MICROSECOND
    if isinstance(value, str):
        text = value.strip()
        if _ISO_8601.fullmatch(text):
            return _iso_micros(text)
        if _PLAIN_NUMBER.fullmatch(text):
            return _epoch_micros(Decimal(text))
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _epoch_micros(Decimal(str(value)))  # exactly as written: 0.1, not the nearest binary number
    raise ValueError(value)


def _iso_micros(text: str) -> int:
    # Python needs capitals and no space before a zone; it truncates a fraction to six digits.
    time = datetime.fromisoformat(text.upper().replace(" Z", "Z").replace(" +", "+").replace(" -", "-"))
    return (time.replace(tzinfo=time.tzinfo or UTC) - EPOCH) // MICROSECOND


def _epoch_micros(number: Decimal) -> int:
    if 10**9 <= number < 10**11:
        return int(number * 1_000_000)
    if 10**12 <= number < 10**14:
        return int(number * 1_000)
    raise ValueError(number)


def parse_text(value: object) -> str | None:
    """Return the text, with characters that cannot be stored replaced; None if it is missing."""
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise InvalidValueError(f"the content {quote(value)} is not text")
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


def parse_count(name: str, value: object) -> int:
    """Return the count, or MISSING_COUNT."""
    if _is_missing(value):
        return MISSING_COUNT
    match = _WHOLE_NUMBER.fullmatch(str(value).strip())
    if match is None or int(match[1]) > MAX_COUNT:
        raise InvalidValueError(f"{name} {quote(value)} is not a whole number of 0 or more")
    return int(match[1])


def quote(value: object) -> str:
    return f"'{shorten(str(value))}'"


def shorten(text: str, max_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return the text on one line, printable, in at most `max_characters`."""
    shown = "".join(c if c.isprintable() else " " for c in text[: max_characters + 1])
    return shown if len(shown) <= max_characters else f"{shown[: max_characters - 1]}…"
