"""Origins in the past whose waits are known by now: right after posts, and at evenly spaced times.

They start at the end of the training posts, so which of them an origin uses depends on nothing but the posts that it
knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import Origins, hours_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_ensemble.hedge import Floats, Integers

    Times = NDArray[np.datetime64]

MAX_WAITS = 100  # of one kind that an origin learns from, the last ones

_MINUTE = np.timedelta64(60_000_000, "us")


@dataclass(frozen=True)
class Spacing:
    """How far past origins are from one another.

    Attributes:
        posts: from one post that is an origin to the next.
        time: from one evenly spaced time to the next.
    """

    posts: int
    time: np.timedelta64

    @classmethod
    def over(cls, times: Times, since: np.datetime64) -> Spacing:
        """Return the spacing of at most 100 origins of each kind, and no more than posts, over the last posts.

        Args:
            times: (n,) of the posts, in order.
            since: the time of the last one before them.
        """
        count = int((times > since).sum())
        time = (times[-1] - since).astype("timedelta64[us]") // max(min(count, MAX_WAITS), 1)
        return cls(max(-(-count // MAX_WAITS), 1), max(time, _MINUTE))


@dataclass(frozen=True)
class KnownWaits:
    """m past origins of one kind, and what came after them, in the order in which this became known.

    Attributes:
        origins: the origins.
        hours: (m,) the waits.
    """

    origins: Origins
    hours: Floats

    @classmethod
    def find(cls, times: Times, since: np.datetime64, spacing: Spacing) -> tuple[KnownWaits, KnownWaits]:
        """Return past origins after a time, whose wait has ended by the last post: right after posts, and in silences.

        Args:
            times: (n,) of the posts, in order.
        """
        first = max(int(np.searchsorted(times, since, side="right")) - 1, 0)
        rows = np.arange(first, len(times) - 1, spacing.posts)
        at = np.arange(since + spacing.time, times[-1], spacing.time)
        at = at[at >= times[0]]
        in_silence = np.searchsorted(times, at, side="right") - 1
        return cls._at(times, times[rows], rows), cls._at(times, at, in_silence)

    @classmethod
    def _at(cls, times: Times, at: Times, rows: Integers) -> KnownWaits:
        return cls(Origins(at, rows), hours_between(at, times[rows + 1]))

    def last_known(self, positions: Integers) -> tuple[KnownWaits, Integers, Integers]:
        """Return those that are among the last which had ended by any row of posts, and for each row the slice of them.

        Args:
            positions: (p,) the rows.
        """
        ends = np.searchsorted(self.origins.position + 1, positions, side="right")
        starts = np.maximum(ends - MAX_WAITS, 0)
        needed = np.zeros(len(self), dtype=bool)
        for start, end in set(zip(starts.tolist(), ends.tolist(), strict=True)):
            needed[start:end] = True
        index = np.concatenate([[0], np.cumsum(needed)])  # of a wait among those needed
        return self[needed], index[starts], index[ends]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> KnownWaits:
        return KnownWaits(self.origins[chosen], self.hours[chosen])

    def __len__(self) -> int:
        return len(self.hours)
