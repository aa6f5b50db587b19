"""Cron expressions: the five fields that every cron understands, and names for some of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from retrainer.errors import UsageError, did_you_mean

NAMED = {
    "daily": "0 3 * * *",
    "weekly": "0 3 * * 0",
    "bi-weekly": "0 3 */14 * *",  # on days 1, 15 and 29
    "monthly": "0 3 1 * *",
}
_FIELDS = 5
_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)
_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_PLAIN_FIELD = re.compile(
    rf"(?:[0-9*/,-]|{_NAMES})+", re.IGNORECASE
)  # without L, W, # and ?, which only other schedulers know
_STEP_OF_ONE = re.compile(r"(?:^|,)\w+/")  # such as 5/15, which Debian's cron rejects
_HOURS = 24
_MINUTES = 60
_DAYS = 31
_MONTHS = 12
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True)
class Expression:
    """A checked cron expression: minute, hour, day of the month, month, day of the week."""

    text: str

    def next_after(self, time: datetime) -> datetime:
        """Return when cron fires next, with the UTC offset of the local time zone at that time.

        Args:
            time: local time, without a time zone.
        """
        following = next(CronSim(self.text, time))
        # A time skipped when the clocks go forward has two readings; cron fires at the later one, after the change.
        return max(following.replace(fold=fold).astimezone() for fold in ((0, 1) if _is_skipped(following) else (0,)))

    def calendar(self) -> list[str]:
        """Return the values for systemd's OnCalendar lines; each of them fires.

        Steps and ranges are written out, since systemd counts them differently.
        """
        fields = CronSim(self.text, _ANY_TIME)
        time = f"{_join(fields.hours, _HOURS)}:{_join(fields.minutes, _MINUTES)}:00"
        months = _join(fields.months, _MONTHS)
        days = _join(fields.days, _DAYS)
        weekdays = _weekdays({int(day) % 7 for day in fields.weekdays if isinstance(day, int)})
        if fields.day_and or not weekdays or days == "*":
            return [f"{weekdays}*-{months}-{days} {time}"]
        return [f"*-{months}-{days} {time}", f"{weekdays}*-{months}-* {time}"]  # cron: either of them


def _is_skipped(time: datetime) -> bool:
    """Whether a local time does not exist because the clocks go forward."""
    return time.astimezone(UTC).astimezone().replace(tzinfo=None, fold=0) != time


def parse_schedule(text: str) -> Expression:
    """Parse `daily`, `weekly`, `bi-weekly`, `monthly`, or a cron expression.

    Raises:
        UsageError: it is invalid, or never fires.
    """
    fields = NAMED.get(text.strip().lower(), text).split()
    if len(fields) != _FIELDS:
        names = ", ".join(NAMED)
        hint = did_you_mean(text, NAMED) or f"Write five fields such as '0 3 * * 0', or one of {names}"
        raise UsageError(f"invalid schedule '{text}'", hint=hint)
    expression = " ".join(fields)
    if not all(_PLAIN_FIELD.fullmatch(field) and not _STEP_OF_ONE.search(field) for field in fields):
        raise UsageError(f"invalid cron expression '{expression}'", hint="Use only numbers and * , - /")
    try:
        next(CronSim(expression, _ANY_TIME))
    except CronSimError as error:
        raise UsageError(f"invalid cron expression '{expression}': {str(error).lower()}") from None
    except StopIteration:
        raise UsageError(f"'{expression}' never fires", hint="Choose a date that exists") from None
    return Expression(expression)


def _join(values: object, count: int) -> str:
    assert isinstance(values, set)  # noqa: S101  CronSim has parsed the field
    return "*" if len(values) == count else ",".join(str(value) for value in sorted(values))


def _weekdays(values: set[int]) -> str:
    """Return days of the week as systemd writes them, followed by a space; nothing for all seven."""
    return "" if len(values) == len(_WEEKDAYS) else ",".join(_WEEKDAYS[day] for day in sorted(values)) + " "
