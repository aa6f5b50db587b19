"""What the hazard of the next post leans on besides the silence itself: the clock, the last gaps, habits.

A row is a pair of a post and a cell of the time since it. All that a row is computed from lies at or before its post,
but for the clock time of the cell: given that nothing was posted meanwhile, there is nothing else to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.elapsed_time import ENDS, LOG_SILENCE, STAGES, STARTS, WIDTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.seasonality import Rhythm

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

GAPS_REMEMBERED = 800  # the longest moving average looks back so many gaps
HOURS_REMEMBERED = 30 * 24.0  # counts and habits look back so far

_MINUTE = 1 / 60
_LAGS = 3
_HALF_LIVES = (3, 10, 30, 100)  # of the moving averages of the gaps, in gaps
_COUNT_HOURS = (0.1, 0.3, 1, 3, 6, 12, 24, 72, 168, 720)
_TENTHS = 10  # habits are counted in tenths of an hour
_MOST_AN_HOUR = 3.0  # a burst at this time yesterday is no stronger a habit than so many posts an hour

_GAPS = _LAGS + len(_HALF_LIVES)
_COUNTS = len(_COUNT_HOURS)
_HABITS = 5
_TELLING_GAPS = (0, 3, 4, 5)
_TELLING_COUNTS = (0, 1, 2, 6, 9)
_TELLING_HABITS = (2, 3, 4)

# Which columns of the matrix belong to what, in the order of the columns.
GROUPS: tuple[tuple[str, int], ...] = (
    ("rhythm", STAGES.shape[1]),
    ("gaps", _GAPS + len(_TELLING_GAPS)),
    ("counts", _COUNTS + len(_TELLING_COUNTS)),
    ("habits", _HABITS + len(_TELLING_HABITS)),
)
COLUMNS = sum(width for _, width in GROUPS)


@dataclass(frozen=True)
class History:
    """Posts up to some moment, and what is remembered at each.

    Attributes:
        hours: (n,) their times, rising, in hours since a Monday (`rhythm.since_monday`).
        rhythm: the rhythm of the week.
        gaps: (n, 7) the logarithms of the last gaps in hours, and their moving averages.
        counts: (n, 10) the logarithms of 1 + the posts of the last minutes, hours, days.
        tenths: (k,) posts before each tenth of an hour since `first_tenth`.
        first_tenth: the number of that tenth since the Monday.
    """

    hours: Floats
    rhythm: Rhythm
    gaps: Floats
    counts: Floats
    tenths: NDArray[np.int32]
    first_tenth: int

    @classmethod
    def of(cls, hours: Floats, rhythm: Rhythm, usual_gap: float) -> History:
        """Compute what is remembered at each post.

        Args:
            hours: (n,) rising.
            rhythm: the rhythm of the week.
            usual_gap: the logarithm of the gap that stands in for those before the first post.
        """
        gaps = np.log(np.diff(hours) + _MINUTE)
        before = np.full(GAPS_REMEMBERED, usual_gap)
        padded = np.concatenate([before, [usual_gap], gaps])
        last = len(hours)
        lags = [padded[len(before) - lag : len(before) - lag + last] for lag in range(_LAGS)]
        averages = [_moving_average(padded[1:], half_life) for half_life in _HALF_LIVES]
        place = np.arange(1, last + 1)
        counts = [np.log1p(place - np.searchsorted(hours, hours - back, side="right")) for back in _COUNT_HOURS]
        tenths = _tenth(hours)
        occupied = np.bincount(tenths - tenths[0], minlength=int(tenths[-1] - tenths[0]) + 2)
        cumulative = np.concatenate([[0], np.cumsum(occupied)]).astype(np.int32)
        return cls(
            hours, rhythm, np.column_stack([*lags, *averages]), np.column_stack(counts), cumulative, int(tenths[0])
        )

    def matrix(self, posts: Integers, cells: Integers) -> Floats:
        """Return (rows, COLUMNS) for pairs of a post's place in the history and a cell."""
        now = self.hours[posts]
        starts, ends = now + STARTS[cells], now + ENDS[cells]
        silence = LOG_SILENCE[cells][:, None]
        rhythm = self.rhythm.log_likelihood(starts, ends)[:, None] * STAGES[cells]
        gaps, counts = self.gaps[posts], self.counts[posts]
        habits = self._habits(now, starts, ends, WIDTHS[cells])
        return np.column_stack(
            [
                rhythm,
                gaps,
                gaps[:, _TELLING_GAPS] * silence,
                counts,
                counts[:, _TELLING_COUNTS] * silence,
                habits,
                habits[:, _TELLING_HABITS] * silence,
            ]
        )

    def _habits(self, now: Floats, starts: Floats, ends: Floats, widths: Floats) -> Floats:
        """Return (rows, 5): how often there were posts at this time of day.

        Yesterday, closely and widely; in the last week; in the three weeks before it; on this day of the last four
        weeks.
        """
        present, first, last = (_tenth(moments) - self.first_tenth for moments in (now, starts, ends))

        def posts_an_hour(days_back: int, margin: float) -> Floats:
            # Where the cell is so far ahead that a day earlier is not over yet, only what is known counts.
            back, wider = 24 * _TENTHS * days_back, int(margin * _TENTHS)
            late = self._posts_before(np.minimum(last - (back - wider), present))
            early = self._posts_before(np.minimum(first - (back + wider), present))
            rate: Floats = np.minimum((late - early) / (widths + 2 * margin), _MOST_AN_HOUR)
            return rate

        days = [posts_an_hour(day, 0.5) for day in range(1, 29)]
        habits = [days[0], posts_an_hour(1, 1.5), sum(days[:7]), sum(days[7:]), sum(days[6::7])]
        logarithms: Floats = np.log1p(np.column_stack(habits))
        return logarithms

    def _posts_before(self, tenths: Integers) -> NDArray[np.int32]:
        """Return how many posts lie before tenths of an hour, counted from the first: none that is later."""
        before: NDArray[np.int32] = self.tenths.take(tenths, mode="clip")
        return before


def usual_gap(hours: Floats) -> float:
    """Return the median logarithm of the gaps in hours, as the features take it."""
    return float(np.median(np.log(np.diff(hours) + _MINUTE)))


def _tenth(hours: Floats) -> Integers:
    return np.floor(hours * _TENTHS + 1e-6).astype(np.int64)


def _moving_average(values: Floats, half_life: float) -> Floats:
    """Return the exponentially weighted mean of each value and the GAPS_REMEMBERED - 1 before it.

    Cut off there, it does not depend on how much earlier history happens to be at hand.
    """
    weights = 0.5 ** (np.arange(GAPS_REMEMBERED) / half_life)
    average: Floats = np.convolve(values, weights / weights.sum(), mode="valid")
    return average
