"""The times of posts, whose format is decided for the whole column.

Most ways to write a time mean one moment wherever they stand. Two depend on the column: dates such as 03/04/2016, whose
order one value may show for all, and small numbers, which are days in a spreadsheet if all values are such numbers.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrainer.errors import PostsError, UsageError
from retrainer.posts.time_formats import (
    MAX_CHARACTERS,
    PATTERNS,
    SERIAL_EPOCH,
    SERIALS,
    named_zone,
    parse_clock,
    parse_number,
    possible_dates,
    read_compact,
    read_epoch,
)
from retrainer.posts.validation import EPOCH, MICROSECOND, InvalidValueError, is_missing, quote, shorten

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

DATE_ORDERS = ("YMD", "MDY", "DMY")

_DAY = 86_400_000_000  # microseconds
_ZERO = timedelta(0)
_LOCAL_EPOCH = EPOCH.replace(tzinfo=None)
MIN_TIME = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_TIME = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND


class UndecidedTimeError(InvalidValueError):
    """A time that only the whole column decides, which was not observed."""


class _Written(NamedTuple):
    """A time as it is written: its readings by the order of the date, or one under "" if it is certain; its zone."""

    readings: dict[str, datetime]
    zone: str | None


class TimeColumn:
    """The times of one column.

    A time without a zone is local time of `timezone`. One that came twice, when the clocks went back, is the first of
    the two; one that never came, since they went forward, is read as if they had not. `warnings` counts both.

    Args:
        time_format: the format of its texts, as for `datetime.strptime`, or the order of its dates, as in DATE_ORDERS;
            None to find out.
        timezone: a name such as Europe/Berlin, or an offset such as +02:00; None for UTC.
        now: microseconds since 1970; later times are invalid.

    Raises:
        UsageError: the format or the time zone is invalid.
    """

    def __init__(self, time_format: str | None = None, timezone: str | None = None, *, now: int) -> None:
        self._now = now
        self._order = time_format if time_format in DATE_ORDERS else None
        self._pattern = None if self._order or time_format is None else _check_format(time_format)
        self._zone = None if timezone is None else _parse_timezone(timezone)
        self._possible: set[str] | None = None  # orders; None before a date that has one
        self._open: str | None = None  # the first value whose readings differ
        self._proofs: dict[str, str] = {}  # order -> the first value that has no other
        self._has_serials = self._has_other_numbers = False
        self._last_pattern = 0
        self._count = self._skipped = self._repeated = 0
        self._has_clock = False

    def observe(self, value: object) -> None:
        """Take a value into account in deciding the format."""
        if (type(value) is str and value[4:5] == "-" and value[1:2] != "-") or self._pattern is not None:
            return  # 2024-… decides nothing, unlike 3-05-2024; this is the way of nearly all columns
        number = parse_number(value)
        if number is not None:
            if SERIALS[0] <= number < SERIALS[1]:
                self._has_serials = True
            else:
                self._has_other_numbers = True
        elif isinstance(value, str) and (written := self._parse(value)) is not None:
            readings = written.readings
            if not readings or "" in readings:
                return
            self._possible = set(readings) if self._possible is None else self._possible & set(readings)
            if len(readings) == 1:
                self._proofs.setdefault(next(iter(readings)), value)
            elif self._open is None and len(set(readings.values())) > 1:
                self._open = value

    @property
    def is_open(self) -> bool:
        """Whether its dates can be read in several orders, by what was observed so far."""
        return self._order is None and self._open is not None and len(self._possible or ()) != 1

    def reader(self, column: str) -> Callable[[object], int]:
        """Return a function that reads a value: it returns microseconds since 1970, UTC.

        The function raises InvalidValueError for a value that cannot be read, is in the future or before the year 1,
        and UndecidedTimeError for one that needs the column, where no such value was observed.

        Args:
            column: its name, for messages.

        Raises:
            PostsError: the observed dates can be read in several orders, or are written in several.
        """
        if self._order is None:
            self._require_one_order(column)
        return self._read

    def warnings(self) -> list[str]:
        """Return what is strange about the times read so far."""
        warnings = []
        if self._count > 1 and not self._has_clock:
            warnings.append("Every time is midnight: without times of day, the gaps between posts are whole days")
        for count, problem in (
            (self._repeated, "occurred twice when the clocks went back; the first is used"),
            (self._skipped, "did not occur, since the clocks went forward; is the time zone right?"),
        ):
            if count:
                warnings.append(f"{count} of the local times {problem}")
        return warnings

    def _require_one_order(self, column: str) -> None:
        if self._possible is None:
            return
        if len(self._possible) == 1:
            self._order = next(iter(self._possible))
            return
        if not self._possible:
            shown = [f"{quote(value)} is {order}" for order, value in self._proofs.items()]
            problem = f"the dates in '{shorten(column)}' are written in several orders: {' and '.join(shown)}"
            hint = "Choose one with --time-format; the others are rejected"
        elif self._open is None:
            return  # all are like 05/05/2016
        else:
            written = self._parse(self._open)
            assert written is not None  # noqa: S101  it was parsed before
            readings = [(order, written.readings[order]) for order in sorted(self._possible & set(written.readings))]
            shown = [f"{reading:%Y-%m-%d} ({order})" for order, reading in readings]
            problem = f"the dates in '{shorten(column)}' are ambiguous: {quote(self._open)} is {' or '.join(shown)}"
            orders = " or ".join(f"--time-format {order}" for order, _ in readings)
            hint = f"Choose {orders}, or a pattern such as '%d/%m/%Y %H:%M'; add --timezone if the times are not UTC"
        raise PostsError(problem, hint=hint)

    def _read(self, value: object) -> int:
        moment: datetime | None = None
        if type(value) is str and value[4:5] == "-" and value[10:11] in "T " and self._pattern is None:
            with_offset = f"{value[:-4]}+00:00" if value.endswith(" UTC") else value
            try:
                moment = datetime.fromisoformat(with_offset)
            except ValueError:
                moment = None
        if moment is None:
            moment = self._read_slowly(value)
        self._count += 1
        if not self._has_clock:
            self._has_clock = moment.time() != time.min
        micros = self._to_micros(moment)
        if micros > self._now:
            raise InvalidValueError(f"the time {quote(value)} is in the future")
        if micros < MIN_TIME:
            raise InvalidValueError(f"the time {quote(value)} is before the year 1")
        return micros

    def _to_micros(self, moment: datetime) -> int:
        if moment.tzinfo is not None:
            passed = moment - EPOCH
        elif self._zone is None:
            passed = moment - _LOCAL_EPOCH
        else:
            local = moment.replace(tzinfo=self._zone)
            other = local.replace(fold=1)
            passed = local - EPOCH
            if (ahead := other - EPOCH - passed) != _ZERO:  # the offset changes here
                self._repeated += ahead > _ZERO
                self._skipped += ahead < _ZERO
        return passed.days * _DAY + passed.seconds * 1_000_000 + passed.microseconds

    def _read_slowly(self, value: object) -> datetime:
        """Return the time, aware if the value says its zone."""
        if is_missing(value):
            raise InvalidValueError("the time is missing")
        if isinstance(value, np.datetime64):
            if np.isnat(value):
                raise InvalidValueError("the time is missing")
            return _LOCAL_EPOCH + _within_calendar(int(value.astype("datetime64[us]").astype(np.int64)), value)
        if isinstance(value, datetime):
            return value
        if isinstance(value, date):
            return datetime.combine(value, time.min)
        if self._pattern is not None:
            return self._pattern(str(value).strip())
        number = parse_number(value)
        if number is not None:
            return self._read_number(number, value)
        written = self._parse(value) if isinstance(value, str) else None
        if written is None or not written.readings:
            raise InvalidValueError(f"the time {quote(value)} is not in a known format")
        return self._in_zone(self._choose(written.readings, value), written.zone)

    def _choose(self, readings: dict[str, datetime], value: object) -> datetime:
        if "" in readings:
            return readings[""]
        if self._order is None and len(set(readings.values())) > 1:
            raise UndecidedTimeError(f"the date {quote(value)} can be read in several orders")
        order = self._order or next(iter(readings))
        if order not in readings:
            raise InvalidValueError(f"the time {quote(value)} is not in the order {order}")
        return readings[order]

    def _read_number(self, number: Decimal, value: object) -> datetime:
        if SERIALS[0] <= number < SERIALS[1] and not self._has_other_numbers:
            if not self._has_serials:
                raise UndecidedTimeError(f"the number {quote(value)} may or may not be a date")
            milliseconds = round(number * 86_400_000)  # what spreadsheets resolve
            return SERIAL_EPOCH + timedelta(milliseconds=milliseconds)
        moment = read_compact(number)
        return read_epoch(number, value) if moment is None else moment

    def _parse(self, text: str) -> _Written | None:
        text = text.strip().removeprefix("'")
        if len(text) > MAX_CHARACTERS:
            return None
        match = PATTERNS[self._last_pattern].fullmatch(text)
        if match is None:
            for index, pattern in enumerate(PATTERNS):
                match = pattern.fullmatch(text)
                if match is not None:
                    self._last_pattern = index
                    break
            else:
                return None
        fields = match.groupdict()
        clock = parse_clock(fields)
        if clock is None:
            return None
        readings = {}
        for order, day in possible_dates(fields, self._now):
            readings[order] = datetime.combine(day, clock)
        return _Written(readings, fields.get("zone"))

    def _in_zone(self, moment: datetime, name: str | None) -> datetime:
        if name is None:
            return moment
        zone = named_zone(name)
        if zone is not None:
            return moment.replace(tzinfo=zone)
        if self._zone is not None:
            for fold in (0, 1):
                local = moment.replace(tzinfo=self._zone, fold=fold)
                if local.tzname() == name:
                    return local
        raise InvalidValueError(f"the time zone {quote(name)} is unknown or ambiguous")


def to_microseconds(value: object) -> int:
    """Return a time that needs no column to be read, in microseconds since 1970, UTC.

    Raises:
        ValueError: it is not a time, or has several readings.
    """
    return TimeColumn(now=MAX_TIME)._read(value)  # noqa: SLF001


def join_date_and_time(day: object, clock: object) -> object:
    """Return the time of a date and a time of day that stand in two columns."""
    if is_missing(clock):
        return day
    if isinstance(clock, datetime):
        clock = clock.time()
    days, part = parse_number(day), parse_number(clock)
    if days is not None and part is not None and part < 1:
        return days + part  # of a spreadsheet
    if isinstance(day, date):
        day = f"{day:%Y-%m-%d}"
    return f"{str(day).strip().removesuffix(' 00:00:00')} {clock}"


def _within_calendar(micros: int, value: object) -> timedelta:
    """Return the time since 1970, if a datetime can hold it."""
    if not MIN_TIME <= micros <= MAX_TIME:
        raise InvalidValueError(f"the time {quote(value)} is {'in the future' if micros > 0 else 'before the year 1'}")
    return micros * MICROSECOND


def _parse_timezone(name: str) -> tzinfo:
    zone = named_zone(name)
    if zone is None:
        hint = "Write it like Europe/Berlin or +02:00"
        raise UsageError(f"'{shorten(name)}' is not a time zone", hint=hint)
    return zone


def _check_format(time_format: str) -> Callable[[str], datetime]:
    """Return a function that reads texts of this format."""
    example = datetime(2016, 12, 30, 17, 45, tzinfo=UTC)
    try:
        gives_dates = datetime.strptime(example.strftime(time_format), time_format).date() == example.date()  # noqa: DTZ007
    except ValueError:
        gives_dates = False
    if not gives_dates:
        hint = f"Write a pattern such as '%d/%m/%Y %H:%M', or {', '.join(DATE_ORDERS[:-1])} or {DATE_ORDERS[-1]}"
        raise UsageError(f"'{shorten(time_format)}' is not a format of times", hint=hint)

    def read(text: str) -> datetime:
        try:
            return datetime.strptime(text, time_format)  # noqa: DTZ007  local where the text names no zone
        except ValueError:
            raise InvalidValueError(f"the time {quote(text)} does not match '{shorten(time_format)}'") from None

    return read
