"""Origins in the past whose waits are known by now: right after posts, and at evenly spaced times.

They lie on a grid that starts at the end of the training posts, so which of them an origin uses depends on nothing but
the posts that it knows.
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

MAX_WAITS = 200  # that an origin learns from, the last ones


@dataclass(frozen=True)
class KnownWaits:
    """m past origins in order, and what came after them.

    Attributes:
        origins: the origins.
        hours: (m,) the waits.
    """

    origins: Origins
    hours: Floats

    @classmethod
    def after_posts(cls, times: Times, since: np.datetime64, step: int) -> KnownWaits:
        """Return every `step`-th post from the last one at `since`, but for the last of all.

        Args:
            times: (n,) of the posts, in order.
        """
        first = max(int(np.searchsorted(times, since, side="right")) - 1, 0)
        rows = np.arange(first, len(times) - 1, step)
        return cls(Origins(times[rows], rows), hours_between(times[rows], times[rows + 1]))

    @classmethod
    def in_silence(cls, times: Times, since: np.datetime64, step: np.timedelta64) -> KnownWaits:
        """Return every `step` of time after `since`, before the last post."""
        at = np.arange(since + step, times[-1], step)
        rows = np.searchsorted(times, at, side="right") - 1
        at, rows = at[rows >= 0], rows[rows >= 0]
        return cls(Origins(at, rows), hours_between(at, times[rows + 1]))

    def known_at(self, positions: Integers) -> tuple[Integers, Integers]:
        """Return (p,) and (p,): the slice of the last waits that ended at or before each row of posts."""
        ends = np.searchsorted(self.origins.position + 1, positions, side="right")
        return np.maximum(ends - MAX_WAITS, 0), ends

    def __getitem__(self, chosen: NDArray[np.bool_]) -> KnownWaits:
        return KnownWaits(self.origins[chosen], self.hours[chosen])

    def __len__(self) -> int:
        return len(self.hours)
