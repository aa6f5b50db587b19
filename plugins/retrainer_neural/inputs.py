"""What the network reads of each post, and the gaps that it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Times = NDArray[np.datetime64]

HOURS_PER_WEEK = 168
LOOKBACK_GAPS = 600  # of the moving averages
LOOKBACK = np.timedelta64(30, "D")  # of the counts
MIN_HOURS = 1e-4  # a shorter gap counts as 0.36 s

_HOUR = 3_600_000_000  # microseconds
_MONDAY = 4 * 24 * _HOUR  # after the first of January 1970
_HALF_LIVES = (10, 100)  # of the moving averages, in gaps
_COUNT_HOURS = (1, 6, 24, 168, 720)
_HARMONICS = (1, 2, 3, 7, 14, 21)  # cycles per week
NUM_INPUTS = 1 + len(_HALF_LIVES) + len(_COUNT_HOURS) + 2 * len(_HARMONICS)


@dataclass(frozen=True)
class Scale:
    """The location and the spread of the logarithms of the training gaps, in hours."""

    mean: float
    spread: float

    @classmethod
    def of(cls, gaps: Floats) -> Scale:
        """Measure gaps in hours."""
        logs = log_hours(gaps)
        return cls(float(logs.mean()), max(float(logs.std()), 0.1))


def log_hours(hours: Floats) -> Floats:
    """Return the logarithm of a number of hours, of at least `MIN_HOURS`."""
    logarithm: Floats = np.log(np.maximum(hours, MIN_HOURS))
    return logarithm


def hour_of_week(times: Times) -> Floats:
    """Return the hours since Monday 00:00 UTC, below 168, exactly the same a week later."""
    hours: Floats = (_microseconds(times) - _MONDAY) % (HOURS_PER_WEEK * _HOUR) / _HOUR
    return hours


def gaps_of(times: Times) -> Floats:
    """Return (n - 1,) the hours between neighbouring times."""
    hours: Floats = np.diff(_microseconds(times)) / _HOUR
    return hours


def network_inputs(times: Times, scale: Scale) -> Floats:
    """Return (n, NUM_INPUTS): the last gap, moving averages, recent counts, and the clock time of each post.

    The row of a post uses the posts up to it, the last `LOOKBACK_GAPS` gaps and 30 days.

    Args:
        times: (n,) ascending and distinct, UTC.
        scale: of the training gaps; it makes most inputs lie between -2 and 2.
    """
    count = len(times)
    gaps = np.concatenate([np.zeros(LOOKBACK_GAPS + 1), (log_hours(gaps_of(times)) - scale.mean) / scale.spread])
    averages = []
    for half_life in _HALF_LIVES:
        weights = 0.5 ** (np.arange(LOOKBACK_GAPS) / half_life)
        averages.append(np.convolve(gaps[1:], weights / weights.sum(), mode="valid")[:count])
    microseconds = _microseconds(times)
    rank = np.arange(1, count + 1)
    counts = []
    for hours in _COUNT_HOURS:
        recent = rank - np.searchsorted(microseconds, microseconds - hours * _HOUR, side="right")
        usual = np.exp(-scale.mean) * hours  # posts in so many hours, at the usual gap
        counts.append(np.log((recent + 1) / (usual + 1)) / scale.spread)
    angles = hour_of_week(times)[:, None] * (2 * np.pi / HOURS_PER_WEEK * np.array(_HARMONICS))
    return np.column_stack(
        [gaps[LOOKBACK_GAPS : LOOKBACK_GAPS + count], *averages, *counts, np.sin(angles), np.cos(angles)]
    )


def hours_by_clock(start: Floats, hours: Floats) -> Floats:
    """Return (n, 168): how many of the hours from each start fall into each hour of the week.

    Args:
        start: (n,) hours of the week.
        hours: (n,)
    """
    return _hours_until(start + hours) - _hours_until(start)


def _microseconds(times: Times) -> Integers:
    return times.astype("datetime64[us]").astype(np.int64)


def _hours_until(until: Floats) -> Floats:
    weeks, rest = np.divmod(until, HOURS_PER_WEEK)
    return weeks[:, None] + np.clip(rest[:, None] - np.arange(HOURS_PER_WEEK), 0, 1)
