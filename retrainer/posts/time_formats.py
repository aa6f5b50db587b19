"""How times are written: as texts, by patterns, and as numbers."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from retrainer.posts.validation import EPOCH, MICROSECOND, InvalidValueError, quote

_NOON = 12
MAX_CHARACTERS = 100  # of a time
# The time zone names that mean one offset wherever they are used. Others, such as IST, have several meanings.
_ZONE_HOURS = {
    "Z": 0, "UT": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3,
    "JST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
    "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "HST": -10,
}  # fmt: skip
_OFFSET = re.compile(r"(?:UTC|GMT|UT|Z)?\s*([+\-−])([0-9]{1,2})(?::?([0-9]{2}))?", re.IGNORECASE)
_OFFSET_AND_NAME = re.compile(r"^([+-][0-9]{2}:?[0-9]{2})\s+[A-Za-z]{1,5}$")  # as Go and Ruby write it

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_MONTH = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_NAMED_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[0-9]{4})"
_CLOCK = (
    r"(?P<hour>[0-9]{1,2})(?:(?P<colon>[:.h-])(?P<minute>[0-9]{1,2})"
    r"(?:(?P=colon)(?P<second>[0-9]{1,2})(?:[.,:](?P<fraction>[0-9]+))?)?)?(?:\s*(?P<half>[ap])\.?m\.?)?"
)
_COMPACT_CLOCK = r"(?P<hour>[0-9]{2})(?:(?P<minute>[0-9]{2})(?:(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?"
_ZONE = r"(?:\s*(?P<zone>[a-z+\-−\[(][^,;]*))?"
_DATES = (
    rf"{_YEAR}(?P<separator>[-/._:\s])(?P<month>[0-9]{{1,2}})(?P=separator)(?P<day>[0-9]{{1,2}})",
    r"(?P<first>[0-9]{1,2})(?P<separator>[-/.])(?P<second_number>[0-9]{1,2})(?P=separator)(?P<third>[0-9]{4}|[0-9]{2})",
    rf"{_WEEKDAY}{_NAMED_DAY}[\s./-]*(?:of\s+)?{_MONTH}[\s,./-]*(?P<year>[0-9]{{4}}|[0-9]{{2}}(?![0-9:]))",
    rf"{_WEEKDAY}{_MONTH}[\s.-]*{_NAMED_DAY}[\s,.-]+{_YEAR}",
    rf"{_YEAR}[\s./-]{_MONTH}[\s./-]{_NAMED_DAY}",
)
_AFTER_DATE = r"(?:[t_:@,]|,?\s+(?:at\s+)?|\s*[·|@–]\s*|\s+-\s+|-(?=[0-9]{2}[:.-][0-9]{2}[:.-][0-9]{2}))"
_BEFORE_DATE = r"(?:\s*[·|,–-]\s*|\s+(?:on\s+)?)"
_CLOCK_FIRST = rf"(?=[0-9]{{1,2}}(?::|\s?[ap])){_CLOCK}{_BEFORE_DATE}"
PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        *(rf"{a_date}(?:{_AFTER_DATE}{_CLOCK}{_ZONE})?" for a_date in _DATES),
        *(rf"{_CLOCK_FIRST}{a_date}{_ZONE}" for a_date in _DATES),
        rf"{_WEEKDAY}{_MONTH}\s+{_NAMED_DAY}\s+{_CLOCK}(?:\s+(?P<zone>[a-z+-]\S*))?\s+{_YEAR}",
        rf"{_WEEKDAY}{_MONTH}\s+{_NAMED_DAY}\s+{_CLOCK}\s+{_YEAR}{_ZONE}",
        rf"{_YEAR}(?P<month>[0-9]{{2}})(?P<day>[0-9]{{2}})[t\s_-]{_COMPACT_CLOCK}{_ZONE}",
    )
]
_DOT_NET = re.compile(r"/Date\((-?[0-9]+)(?:[+-][0-9]{4})?\)/")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]*)?(?:e\+?[0-9]{1,2})?", re.IGNORECASE)
# Numbers since 1970, by their magnitude, from 1973 on: microseconds in one of them.
_UNITS = (
    (10**8, 10**11, Decimal(1_000_000)),
    (10**11, 10**14, Decimal(1_000)),
    (10**14, 10**17, Decimal(1)),
    (10**17, 10**20, Decimal("0.001")),
)
_SECOND = 1_000_000  # microseconds
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_COMPACT_YEARS = range(1970, 2100)
SERIALS = (20_000, 80_000)  # days of a spreadsheet: 1954 to 2119
SERIAL_EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001  spreadsheets know local times only


def parse_number(value: object) -> Decimal | None:
    """Return the number that a value is, also as text and as .NET writes it; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value) if abs(value) < _UNITS[-1][1] else None
    if isinstance(value, float | Decimal):
        number = Decimal(str(value))  # exactly as written: 0.1, not the nearest binary number
        return number if number.is_finite() else None
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= MAX_CHARACTERS and _NUMBER.fullmatch(text):
            return Decimal(text.replace(",", "."))
        if match := _DOT_NET.fullmatch(text):
            return Decimal(match[1])
    return None


def read_compact(number: Decimal) -> datetime | None:
    """Read 20240105, 202401051000 or 20240105100000."""
    if not 10**7 <= number < 10**14 or number != int(number):
        return None
    digits = str(int(number))
    pattern = _COMPACT.get(len(digits))
    if pattern is None or int(digits[:4]) not in _COMPACT_YEARS:
        return None
    try:
        return datetime.strptime(digits, pattern)  # noqa: DTZ007  local
    except ValueError:
        return None


def read_epoch(number: Decimal, value: object) -> datetime:
    """Return the time that a number of seconds to nanoseconds since 1970 is, by its magnitude.

    Args:
        number: the number.
        value: as it is written.

    Raises:
        InvalidValueError: it is no such number, or a rounded one.
    """
    for low, high, micros in _UNITS:
        if low <= number < high:
            digit = micros * Decimal(10) ** int(number.as_tuple().exponent)  # the last one that is known
            if isinstance(value, str) and digit > _SECOND:
                raise InvalidValueError(f"the time {quote(value)} is rounded to {digit / _SECOND:,.0f} seconds")
            return EPOCH + int(number * micros) * MICROSECOND
    raise InvalidValueError(f"the time {quote(value)} is neither a number since 1970 nor a date")


def possible_dates(fields: dict[str, str | None], now: int) -> list[tuple[str, date]]:
    """Return the dates that these fields can be, each with its order, or one with "" if it is certain."""
    try:
        if "first" not in fields:
            year, day = str(fields["year"]), int(str(fields["day"]))
            name = fields.get("name")
            month = int(str(fields["month"])) if name is None else _MONTHS.index(name[:3].lower()) + 1
            return [("", date(_full_year(year), month, day))]
    except ValueError:
        return []
    first, second, third = (str(fields[name]) for name in ("first", "second_number", "third"))
    candidates = [("MDY", third, first, second), ("DMY", third, second, first)]
    if fields["separator"] != "." and {len(first), len(second), len(third)} == {2}:
        candidates.append(("YMD", first, second, third))
    dates = []
    for order, year, month_number, day_number in candidates:
        try:
            found = date(_full_year(year), int(month_number), int(day_number))
        except ValueError:
            continue
        if order != "YMD" or datetime.combine(found, time.min, UTC) <= EPOCH + now * MICROSECOND:
            dates.append((order, found))
    return dates


def _full_year(year: str) -> int:
    """Return the year; two digits are one from 1969 to 2068, as in POSIX."""
    number = int(year)
    if len(year) > 2:  # noqa: PLR2004  digits
        return number
    return number + (2000 if number < 69 else 1900)  # noqa: PLR2004


def parse_clock(fields: dict[str, str | None]) -> time | None:
    """Return the time of day of the fields, midnight if they have none; None if there is no such time."""
    hour_text = fields.get("hour")
    if hour_text is None:
        return time.min
    minute, second, half = fields.get("minute"), fields.get("second"), fields.get("half")
    if fields.get("colon") == "-" and second is None:
        return None
    hour = int(hour_text)
    if half is not None:
        if not 1 <= hour <= _NOON:
            return None
        hour = hour % _NOON + (_NOON if half.lower() == "p" else 0)
    fraction = (fields.get("fraction") or "")[:6].ljust(6, "0")
    try:
        return time(hour, int(minute or 0), int(second or 0), int(fraction))
    except ValueError:
        return None


@lru_cache(maxsize=1000)
def named_zone(name: str) -> tzinfo | None:
    """Return the time zone that a text names; None if it has several meanings or none."""
    text = re.sub(r"\s*\([^)]*\)$", "", name.strip())
    text = _OFFSET_AND_NAME.sub(r"\1", text)
    before, bracket, inside = text.removesuffix("]").partition("[")
    if bracket:
        text = before.strip() or inside  # the offset is exact
    if match := _OFFSET.fullmatch(text):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        if offset >= timedelta(days=1):
            return None
        return timezone(offset if match[1] == "+" else -offset)
    if text.upper() in _ZONE_HOURS:
        return timezone(timedelta(hours=_ZONE_HOURS[text.upper()]))
    if "/" not in text:
        return None
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
