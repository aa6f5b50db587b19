"""The last post of each of many simulated futures, and the features that follow from the posts of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.features import COUNT_HOURS, HALF_LIVES, LAGS, MINUTE, History, tenth_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.time_grid import Floats, Integers

RATE_HOURS = 24
_RATE_FACTOR = 2  # no path posts more than twice as often in a day as the stream ever did
_RING = 8192  # tenths of an hour, more than the four weeks that habits look back; a power of 2, for a fast modulus


@dataclass(frozen=True)
class Paths(History):
    """The last post of each path, with the features that follow from its own posts.

    A post's index is that of its path. `advance` changes the arrays. Of `cumulative`, each path has its own row, a ring
    of the last tenths of an hour.

    Attributes:
        known: (n,) the times of the known posts.
        counted: how many of them `cumulative` counts.
        posts: (paths, k) the times of the simulated posts, `inf` where there is none yet.
        count: (paths,) the number of simulated posts.
        limit: the most posts in 24 hours.
        limited: (paths,) whether a post was put off for the limit.
    """

    known: Floats
    counted: int
    posts: Floats
    count: Integers
    limit: int
    limited: NDArray[np.bool_]

    @classmethod
    def after(cls, history: History, known: Floats, most_in_a_day: int, paths: int, max_posts: int) -> Paths:
        """Start at the last known post.

        Args:
            history: ends with the last known post.
            known: (n,) the times of the known posts: of all, or of the last ones.
            most_in_a_day: the most posts in 24 hours so far.
            paths: how many.
            max_posts: the most that a path will have.
        """
        last = int(tenth_of(known[-1])) - history.first_tenth
        tenths = np.arange(last - _RING + 1, last + 1)
        ring = np.empty(_RING, dtype=np.int32)
        ring[tenths % _RING] = np.where(tenths < 0, 0, history.cumulative.take(np.maximum(tenths, 0)))
        return cls(
            first=0,
            hours=np.repeat(known[-1:], paths),
            profile=history.profile,
            gaps=np.repeat(history.gaps[-1:], paths, axis=0),
            counts=np.repeat(history.counts[-1:], paths, axis=0),
            cumulative=np.repeat(ring[None], paths, axis=0),
            first_tenth=history.first_tenth,
            known=known,
            counted=int(history.cumulative[-1]),
            posts=np.full((paths, max_posts), np.inf),
            count=np.zeros(paths, dtype=np.int64),
            limit=_RATE_FACTOR * most_in_a_day,
            limited=np.zeros(paths, dtype=bool),
        )

    def posts_before(self, posts: Integers, tenths: Integers) -> NDArray[np.int32]:
        """Return (rows,) the number of posts of each path before tenths of an hour."""
        return self.cumulative.ravel().take(posts * _RING + (tenths & (_RING - 1)))

    def advance(self, paths: Integers, hours: Floats) -> None:
        """Add a post to each of some paths.

        Args:
            paths: (m,) the indices of different paths.
            hours: (m,) the times of their next posts, later than their last ones.
        """
        earliest = self._earliest(paths)
        self.limited[paths] |= hours < earliest
        hours = np.maximum(hours, earliest)
        before = self.hours[paths]
        old, new = (tenth_of(times) - self.first_tenth for times in (before, hours))
        self._fill(paths, np.maximum(old, new - _RING), new)
        self.posts[paths, self.count[paths]] = hours
        self.count[paths] += 1
        self.hours[paths] = hours
        log_gap = np.log(hours - before + MINUTE)
        gaps = self.gaps[paths]
        decay = 0.5 ** (1 / np.array(HALF_LIVES))
        averages = decay * gaps[:, LAGS:] + (1 - decay) * log_gap[:, None]
        self.gaps[paths] = np.column_stack([log_gap, gaps[:, : LAGS - 1], averages])
        until = hours[:, None] - np.array(COUNT_HOURS)
        earlier = np.searchsorted(self.known, until, side="right") + _count_until(self.posts[paths], until)
        self.counts[paths] = np.log1p((len(self.known) + self.count[paths])[:, None] - earlier)

    def _earliest(self, paths: Integers) -> Floats:
        """Return (m,) the times before which the next posts would exceed the limit."""
        index = self.count[paths] - self.limit
        simulated = self.posts[paths, np.maximum(index, 0)]
        known = np.where(index < -len(self.known), -np.inf, self.known[np.clip(index, -len(self.known), -1)])
        return np.where(index >= 0, simulated, known) + RATE_HOURS

    def _fill(self, paths: Integers, old: Integers, new: Integers) -> None:
        """Set the number of posts before the tenths of an hour after the old up to the new ones."""
        lengths = new - old
        row = np.repeat(np.arange(len(paths)), lengths)
        tenths = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + old[row] + 1
        total = self.counted + self.count[paths]
        self.cumulative[paths[row], tenths % _RING] = total[row]


def _count_until(times: Floats, until: Floats) -> Integers:
    """Return (m, c) how many of the ascending (m, k) times are at or before (m, c) times, by bisection."""
    low = np.zeros(until.shape, dtype=np.int64)
    high = np.full(until.shape, times.shape[1], dtype=np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        later = np.take_along_axis(times, np.minimum(middle, times.shape[1] - 1), axis=1) > until
        high = np.where(later, middle, high)
        low = np.where(later | (low >= high), low, middle + 1)
    return low
