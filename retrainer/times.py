"""How times are read and written: ISO 8601 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Literal, overload

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DURATION_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
# Up to which distance from now a time is shown in which unit.
_STEPS = (
    (timedelta(minutes=1), timedelta(seconds=1), "s"),
    (timedelta(hours=1), timedelta(minutes=1), "min"),
    (timedelta(hours=48), timedelta(hours=1), "h"),
    (timedelta(days=14), timedelta(days=1), "days"),
)
_DURATIONS = (  # hours below which a unit is used, its hours, its name and its decimal places
    (59.5 / 3600, 1 / 3600, "s", 0),
    (59.5 / 60, 1 / 60, "min", 0),
    (47.95, 1, "h", 1),
    (99.95 * 24, 24, "days", 1),
    (364.5 * 24, 24, "days", 0),
    (inf, 365.25 * 24, "years", 1),
)
_MAX_DELAY = timedelta(days=365_000)  # so that the end can be represented


@overload
def format_time(time: datetime) -> str: ...
@overload
def format_time(time: None) -> None: ...
def format_time(time: datetime | None) -> str | None:
    """Format a time like 2025-11-06T12:00:00Z; None stays None."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_relative(time: datetime, now: datetime) -> str:
    """Format a time for a screen: `just now`, `5 min ago`, `in 3 h`, `9 days ago`, and the date beyond two weeks."""
    distance = abs(now - time)
    for limit, unit, name in _STEPS:
        if distance < limit:
            words = f"{distance // unit} {name}"
            return "just now" if name == "s" else f"{words} ago" if time <= now else f"in {words}"
    return f"{time:%Y-%m-%d}"


def format_hours(hours: float) -> str:
    """Format a duration in the unit that fits it: `40 s`, `12 min`, `6.5 h`, `3 days`, `310 days`, `3.5 years`."""
    _, unit_hours, name, digits = next(row for row in _DURATIONS if hours < row[0])
    number = f"{hours / unit_hours:,.{digits}f}".removesuffix(".0")
    return f"{number} {name}" if number != "1" else f"1 {name.removesuffix('s') or name}"


def format_duration(seconds: float) -> str:
    """Format how long something takes, to the second up to an hour: `40 s`, `12 min 5 s`, `27 h 0 min`."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time; UTC where it names no zone.

    Raises:
        ValueError: it is none, or out of range; the message quotes it.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except ValueError:
        raise ValueError(f"'{text}' is not a time (write it like 2024-10-31T12:00:00Z)") from None
    except OverflowError:
        raise ValueError(f"'{text}' is out of range") from None


def parse_time_or_delay(text: str) -> datetime | timedelta:
    """Parse an ISO 8601 time, or a delay in hours, days or weeks: 36h, 3d, 1w.

    Raises:
        ValueError: it is neither, or out of range; the message quotes it.
    """
    delay = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    if delay is None:
        try:
            return parse_time(text)
        except ValueError as error:
            raise ValueError(str(error).replace("00Z)", "00Z, or 36h, 3d or 1w ahead)")) from None
    found = int(delay[1]) * _UNITS[delay[2]]
    if found > _MAX_DELAY:
        raise ValueError(f"'{text}' is out of range")
    return found


def parse_duration(text: str) -> timedelta:
    """Parse a duration in seconds, minutes, hours or days: 90s, 30m, 2h, 1d.

    Raises:
        ValueError: it is none, or zero; the message quotes it.
    """
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise ValueError(f"'{text}' is not a duration (write it like 90s, 30m, 2h or 1d)")
    duration = int(found[1]) * _DURATION_UNITS[found[2]]
    if not duration:
        raise ValueError(f"'{text}' is not a positive duration")
    return duration


def parse_time_or_last(text: str) -> datetime | Literal["last"]:
    """Parse an ISO 8601 time, or `last`, the time of the last post.

    Raises:
        ValueError: it is neither, or out of range; the message quotes it.
    """
    if text == "last":
        return "last"
    try:
        return parse_time(text)
    except ValueError as error:
        raise ValueError(str(error).replace("00Z)", "00Z, or last)")) from None
