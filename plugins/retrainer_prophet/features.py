"""The features of the hazard besides the silence itself: the clock, the last gaps, recent counts, habits, the pace.

A row is a pair of a post and a cell of the time since it. Features use nothing after the post except the clock time of
the cell: if nothing was posted meanwhile, there is nothing else to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.time_grid import ENDS, LOG_SILENCE, MIDPOINTS, STAGE_WEIGHTS, STARTS, WIDTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.seasonality import WeeklyProfile
    from retrainer_prophet.time_grid import Floats, Integers

LOOKBACK_GAPS = 800  # of the moving averages
LOOKBACK_HOURS = 30 * 24.0  # of counts and habits

MINUTE = 1 / 60
LAGS = 3
HALF_LIVES = (3, 10, 30, 100)  # of the moving averages, in gaps
COUNT_HOURS = (0.1, 0.3, 1, 3, 6, 12, 24, 72, 168, 720)
_TENTHS = 10  # habits are counted in tenths of an hour
_PERIODS = (24.0, 168.0)  # hours
_HARMONICS = 3
_MAX_FOURIER_HOURS = 6.0  # a wider cell has no hour of the day
_MAX_HABIT = 3.0  # posts per hour; a burst at this time yesterday is no stronger a habit

# The weights of the exponentially weighted means of a value and the LOOKBACK_GAPS - 1 before it: cut off there, so that
# a mean does not depend on how much earlier history is loaded.
_DECAYS = [0.5 ** (np.arange(LOOKBACK_GAPS) / half_life) for half_life in HALF_LIVES]
_AVERAGES = [decay / decay.sum() for decay in _DECAYS]
_LOG_HOURS = np.log(MIDPOINTS)

# The columns that also enter multiplied by the logarithm of the silence.
_GAP_INTERACTIONS = (0, 3, 4, 5)
_COUNT_INTERACTIONS = (0, 1, 2, 6, 9)
_HABIT_INTERACTIONS = (2, 3, 4)

# The groups of columns and their widths, in the order of the columns.
FEATURE_GROUPS: tuple[tuple[str, int], ...] = (
    ("rhythm", STAGE_WEIGHTS.shape[1]),
    ("gaps", LAGS + len(HALF_LIVES) + len(_GAP_INTERACTIONS)),
    ("counts", len(COUNT_HOURS) + len(_COUNT_INTERACTIONS)),
    ("habits", 5 + len(_HABIT_INTERACTIONS)),
    ("clock", 2 * len(_PERIODS) * _HARMONICS),
    ("pace", len(HALF_LIVES)),
)
NUM_FEATURES = sum(width for _, width in FEATURE_GROUPS)


@dataclass(frozen=True)
class History:
    """The posts up to some time, and the features of each post.

    Attributes:
        first: the index of the first post that has features.
        hours: (n,) times of the posts from `first` on, ascending, in hours since a Monday
            (`seasonality.hours_since_monday`).
        profile: the weekly profile.
        gaps: (n, 7) logarithms of the last gaps in hours, and their moving averages.
        counts: (n, 10) logarithms of 1 + the number of posts in the last minutes, hours, days.
        cumulative: (k,) posts before each tenth of an hour from `first_tenth` on.
        first_tenth: the tenth of an hour of the first post that counts, from the Monday.
    """

    first: int
    hours: Floats
    profile: WeeklyProfile
    gaps: Floats
    counts: Floats
    cumulative: NDArray[np.int32]
    first_tenth: int

    @classmethod
    def from_hours(cls, hours: Floats, profile: WeeklyProfile, typical_gap: float, first: int = 0) -> History:
        """Compute the features of the posts from an index on, by these and what they look back at.

        Args:
            hours: (n,) ascending.
            profile: the weekly profile.
            typical_gap: the logarithm of the gap to assume before the first post.
            first: the index of the first post that needs features.
        """
        a_month_before = int(np.searchsorted(hours, hours[first] - LOOKBACK_HOURS - 1))
        skipped = max(min(a_month_before, first - LOOKBACK_GAPS - 1), 0)
        hours = hours[skipped:]
        with_features = hours[first - skipped :]
        count = len(with_features)
        padded = np.concatenate([np.full(LOOKBACK_GAPS + 1, typical_gap), np.log(np.diff(hours) + MINUTE)])
        padded = padded[first - skipped :]
        lags = [padded[LOOKBACK_GAPS - lag : LOOKBACK_GAPS - lag + count] for lag in range(LAGS)]
        averages = [np.convolve(padded[1:], weights, mode="valid") for weights in _AVERAGES]
        rank = np.arange(first - skipped + 1, len(hours) + 1)
        counts = [np.log1p(rank - np.searchsorted(hours, with_features - back, side="right")) for back in COUNT_HOURS]
        tenths = tenth_of(hours)
        # 0 until the first post, 1 from its tenth on, until that of the next post, …
        cumulative = np.repeat(
            np.arange(len(hours) + 1, dtype=np.int32), np.diff(tenths, prepend=tenths[0] - 1, append=tenths[-1] + 2)
        )
        return cls(
            first,
            with_features,
            profile,
            np.column_stack([*lags, *averages]),
            np.column_stack(counts),
            cumulative,
            int(tenths[0]),
        )

    def features(self, posts: Integers, cells: Integers) -> Floats:
        """Return (rows, NUM_FEATURES) for pairs of a post's index and a cell."""
        features = np.empty((len(posts), NUM_FEATURES))
        self.write_features(posts, cells, features)
        return features

    def write_features(self, posts: Integers, cells: Integers, out: Floats | NDArray[np.float32]) -> None:
        """Write what `features` returns to an array, in its precision."""
        posts = posts - self.first
        post_hours, widths = self.hours.take(posts), WIDTHS.take(cells)
        starts, ends = post_hours + STARTS.take(cells), post_hours + ENDS.take(cells)
        silence = LOG_SILENCE.take(cells)[:, None]
        gaps, counts = self.gaps.take(posts, axis=0), self.counts.take(posts, axis=0)
        habits = self._habits(posts, starts, ends, widths)
        blocks = [
            self.profile.log_relative_activity(starts, ends)[:, None] * STAGE_WEIGHTS.take(cells, axis=0),
            gaps,
            gaps.take(_GAP_INTERACTIONS, axis=1) * silence,
            counts,
            counts.take(_COUNT_INTERACTIONS, axis=1) * silence,
            habits,
            habits.take(_HABIT_INTERACTIONS, axis=1) * silence,
            *self._clock((starts + ends) / 2, widths),
            # Softplus of the logarithm of the silence in recent gaps: 0 in a short silence, rising in one that is long
            # for the recent pace, where the stream may have become quieter.
            np.logaddexp(0.0, _LOG_HOURS.take(cells)[:, None] - gaps[:, LAGS:]),
        ]
        np.concatenate(blocks, axis=1, out=out, casting="same_kind")

    def _clock(self, middles: Floats, widths: Floats) -> list[Floats]:
        """Return six blocks (rows, 2) of Fourier terms of the local hour of the day and of the week.

        They are 0 where a cell is too wide.
        """
        local = self.profile.local_hours(middles)
        narrow = widths <= _MAX_FOURIER_HOURS
        blocks = []
        for period in _PERIODS:
            turn = np.exp(2j * np.pi / period * local) * narrow
            harmonic = turn
            for _ in range(_HARMONICS):
                blocks.append(harmonic.view(float).reshape(-1, 2))
                harmonic = harmonic * turn
        return blocks

    def posts_before(self, posts: Integers, tenths: Integers) -> NDArray[np.int32]:  # noqa: ARG002  `Paths` needs them
        """Return (rows,) the number of posts before tenths of an hour, counted from `first_tenth`."""
        return self.cumulative.take(tenths, mode="clip")

    def _habits(self, posts: Integers, starts: Floats, ends: Floats, widths: Floats) -> Floats:
        """Return (rows, 5): how many posts there were at this time of day.

        Yesterday within half an hour and within an hour and a half; in the last week; in the three weeks before it; on
        this day of the last four weeks.
        """
        known, first, last = (tenth_of(hours) - self.first_tenth for hours in (self.hours[posts], starts, ends))

        def posts_per_hour(days_back: int, margin: float) -> Floats:
            # For a cell far ahead, the earlier day may not be over yet: count known posts only.
            back, wider = 24 * _TENTHS * days_back, int(margin * _TENTHS)
            until = self.posts_before(posts, np.minimum(last - (back - wider), known))
            since = self.posts_before(posts, np.minimum(first - (back + wider), known))
            rate: Floats = np.minimum((until - since) / (widths + 2 * margin), _MAX_HABIT)
            return rate

        days = [posts_per_hour(day, 0.5) for day in range(1, 29)]
        habits = [days[0], posts_per_hour(1, 1.5), sum(days[:7]), sum(days[7:]), sum(days[6::7])]
        logarithms: Floats = np.log1p(np.column_stack(habits))
        return logarithms


def typical_log_gap(hours: Floats) -> float:
    """Return the median logarithm of the gaps in hours, as the features take it."""
    return float(np.median(np.log(np.diff(hours) + MINUTE)))


def tenth_of(hours: Floats) -> Integers:
    return np.floor(hours * _TENTHS + 1e-6).astype(np.int64)
