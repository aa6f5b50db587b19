"""A histogram in columns of characters: the chance of the next post in each hour, day or other bin of time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrainer.model_types.timing import TimingForecasts

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT = 6
COLUMNS = 64
_MARGIN = 6
_MIN_BINS = 24
_SHOWN_LEVEL = 0.95  # of the distribution; the rest comes later
_LABEL_GAP = 2
_EPOCH = datetime(2000, 1, 3, tzinfo=UTC)  # a Monday, from which bins are counted


class _Bin(NamedTuple):
    size: timedelta
    name: str


_DAY, _YEAR = timedelta(days=1), timedelta(days=365.25)
_BINS = (
    _Bin(timedelta(minutes=1), "minute"),
    *(_Bin(timedelta(minutes=count), f"{count} minutes") for count in (2, 5, 10, 15, 30)),
    _Bin(timedelta(hours=1), "hour"),
    *(_Bin(timedelta(hours=count), f"{count} hours") for count in (2, 3, 6, 12)),
    _Bin(_DAY, "day"),
    *(_Bin(count * _DAY, f"{count} days") for count in (2, 3)),
    _Bin(7 * _DAY, "week"),
    _Bin(14 * _DAY, "2 weeks"),
    _Bin(_YEAR / 12, "month"),
    *(_Bin(months * _YEAR / 12, f"{months} months") for months in (3, 6)),
    _Bin(_YEAR, "year"),
    *(_Bin(count * _YEAR, f"{count} years") for count in (2, 5, 10, 20, 50)),
)


def draw(forecast: TimingForecasts, at: datetime, characters: str) -> list[str]:
    """Return the lines of a histogram, 70 characters wide: a title, the columns, an axis of times.

    The bins are the shortest that show 95% of the distribution, or all are 50 years long.

    Args:
        forecast: one forecast.
        at: when it is made, UTC.
        characters: what columns are made of, from the lowest to a whole character.
    """
    shown = timedelta(hours=float(forecast.quantile(_SHOWN_LEVEL)[0]))
    unit = next((one for one in _BINS if at + shown - _floor(at, one.size) <= COLUMNS * one.size), _BINS[-1])
    start = _floor(at, unit.size)
    bins = min(max(math.ceil((at + shown - start) / unit.size), _MIN_BINS), COLUMNS)
    width = COLUMNS // bins
    edges = [start + number * unit.size for number in range(bins + 1)]
    chances = np.diff(_cumulative(forecast, [(edge - at) / timedelta(hours=1) for edge in edges]))
    axis, labels = _axis(edges[:-1], unit.size, width, is_ascii=characters.isascii())
    return [
        f"Chance of the next post per {unit.name} (UTC), at most {chances.max():.0%}",
        *(" " * _MARGIN + row for row in _columns(chances / chances.max(), width, characters)),
        " " * _MARGIN + axis,
        " " * _MARGIN + labels,
    ]


def _floor(time: datetime, size: timedelta) -> datetime:
    return time - (time - _EPOCH) % size


def _cumulative(forecast: TimingForecasts, hours: list[float]) -> NDArray[np.float64]:
    """Return (n,) the probability of a post by each of n ascending times; none has come by the first."""
    count = len(hours)
    repeated = TimingForecasts(np.repeat(forecast.quantiles, count, axis=0), np.zeros(count))
    probability = repeated.probability_within(np.maximum(hours, 0.0))
    probability[0] = 0.0
    return probability


def _columns(heights: NDArray[np.float64], width: int, characters: str) -> list[str]:
    """Return the rows of columns with heights of 0 to 1, from the top; what is not zero shows."""
    steps = np.round(heights * HEIGHT * len(characters)).astype(int)
    steps = np.maximum(steps, heights > 0)
    rows = []
    for row in reversed(range(HEIGHT)):
        filled = np.clip(steps - row * len(characters), 0, len(characters))
        rows.append("".join((" " + characters)[step] * width for step in filled).rstrip())
    return rows


def _axis(times: list[datetime], size: timedelta, width: int, *, is_ascii: bool) -> tuple[str, str]:
    """Return the axis, with ticks at round times, and the labels below them."""
    steps = [*(one.size for one in _BINS if not one.size % size), *(count * size for count in range(2, COLUMNS))]
    step = next(step for step in steps if step / size * width >= len(_label(times[0], step)) + _LABEL_GAP)
    line, tick = ("-", "+") if is_ascii else ("─", "┬")
    axis, labels = "", ""
    for number, time in enumerate(times):
        is_tick = (time - _EPOCH) % step < size
        label = _label(time, step)
        axis += (tick if is_tick else line) + line * (width - 1)
        if is_tick and number * width + len(label) <= len(times) * width + _LABEL_GAP:
            labels = labels.ljust(number * width) + label
    return axis, labels


def _label(time: datetime, step: timedelta) -> str:
    """Return 18:00, or the date at midnight, or the date or the year where the ticks are so far apart."""
    if step >= _YEAR:
        return f"{time:%Y}"
    if step >= _DAY:
        return f"{time:%Y-%m-%d}"
    return f"{time:%H:%M}" if time.hour or time.minute else f"{time:%m-%d}"
