"""Cron expressions: the five fields that every cron understands, and the specification's names for some of them."""

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
_ANY_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_PLAIN_FIELD = re.compile(rf"(?:[0-9*/,-]|{_NAMES})+", re.IGNORECASE)  # no L, W, #, ? of other schedulers
_STEP_OF_ONE = re.compile(r"(?:^|,)\w+/")  # such as 5/15, which Debian's cron refuses
_HOURS = 24
_MINUTES = 60
_DAYS = 31
_MONTHS = 12
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True)
class Expression:
    """A checked cron expression: minute, hour, day of the month, month, day of the week."""

    text: str

    def next_after(self, moment: datetime) -> datetime:
        """Return when cron fires next, with the offset that the machine's clock has by then.

        Args:
            moment: of the machine's clock, without a time zone.
        """
        following = next(CronSim(self.text, moment))
        # Where clocks go forward there may be no such time: cron calls after the change, which is the later reading.
        return max(following.replace(fold=fold).astimezone() for fold in ((0, 1) if _is_skipped(following) else (0,)))

    def calendar(self) -> list[str]:
        """Return it as systemd's OnCalendar lines; any one of them fires.

        Every value is written out, since steps and ranges are counted otherwise there.
        """
        fields = CronSim(self.text, _ANY_MOMENT)
        time = f"{_listed(fields.hours, _HOURS)}:{_listed(fields.minutes, _MINUTES)}:00"
        months = _listed(fields.months, _MONTHS)
        days = _listed(fields.days, _DAYS)
        weekdays = _weekdays({int(day) % 7 for day in fields.weekdays if isinstance(day, int)})
        if fields.day_and or not weekdays or days == "*":
            return [f"{weekdays}*-{months}-{days} {time}"]
        return [f"*-{months}-{days} {time}", f"{weekdays}*-{months}-* {time}"]  # cron: the one or the other


def _is_skipped(moment: datetime) -> bool:
    """Whether a time of the machine's clock is one that the clock never shows."""
    return moment.astimezone(UTC).astimezone().replace(tzinfo=None, fold=0) != moment


def parse_schedule(text: str) -> Expression:
    """Read `daily`, `weekly`, `bi-weekly`, `monthly`, or a cron expression.

    Raises:
        UsageError: it is neither, or never comes.
    """
    fields = NAMED.get(text.strip().lower(), text).split()
    if len(fields) != _FIELDS:
        names = ", ".join(NAMED)
        hint = did_you_mean(text, NAMED) or f"Give five fields such as '0 3 * * 0', or one of {names}"
        raise UsageError(f"'{text}' is no schedule", hint=hint)
    expression = " ".join(fields)
    if not all(_PLAIN_FIELD.fullmatch(field) and not _STEP_OF_ONE.search(field) for field in fields):
        raise UsageError(f"'{expression}' is no cron expression", hint="Its fields hold numbers and * , - / only")
    try:
        next(CronSim(expression, _ANY_MOMENT))
    except CronSimError as error:
        raise UsageError(f"'{expression}' is no cron expression: {str(error).lower()}") from None
    except StopIteration:
        raise UsageError(f"'{expression}' never comes", hint="Choose a day that there is") from None
    return Expression(expression)


def _listed(values: object, count: int) -> str:
    assert isinstance(values, set)  # noqa: S101  what CronSim makes of a field
    return "*" if len(values) == count else ",".join(str(value) for value in sorted(values))


def _weekdays(values: set[int]) -> str:
    """Return days of the week as systemd writes them, with a space behind; all of them need no word."""
    return "" if len(values) == len(_WEEKDAYS) else ",".join(_WEEKDAYS[day] for day in sorted(values)) + " "
