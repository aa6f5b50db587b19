"""Whether posts still arrive: the time since the newest one against the gaps between those before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import numpy.typing as npt
    import pandas as pd

RECENT_DAYS = 7  # the last days, whose rate of posts is compared with the usual one
USUAL_DAYS = 84  # the days before them, whose rate is the usual one
MAX_GAPS = 10_000  # the latest; streams change
USUAL_SHARE = 0.999  # the share of gaps that are at most as long as the longest usual one
_ENOUGH_GAPS = 1_000  # for this share; with fewer, the longest usual gap is …
_MARGIN = 2  # … so many times the longest one


@dataclass(frozen=True)
class Freshness:
    """How long ago the newest post was, and how long gaps usually are.

    Attributes:
        newest_at: the time of the newest post, UTC.
        silence: the time since then.
        usual_gap: the longest usual gap: 99.9% of the latest 10,000 gaps are at most as long. With fewer than 1,000
            gaps, twice the longest one. None with fewer than two posts.
    """

    newest_at: datetime
    silence: timedelta
    usual_gap: timedelta | None

    @property
    def stale_at(self) -> datetime | None:
        """When the posts become stale if no other one arrives, past or future; None with fewer than two posts."""
        return None if self.usual_gap is None else self.newest_at + self.usual_gap

    @property
    def is_stale(self) -> bool:
        """Whether no post has arrived for longer than the longest usual gap."""
        return self.usual_gap is not None and self.silence > self.usual_gap


@dataclass(frozen=True)
class PostsActivity:
    """How many posts there are, and how many arrive.

    Attributes:
        freshness: None without posts.
        recent_per_day: the posts a day in the last week.
        usual_per_day: the posts a day in the 12 weeks before the last week, or before the newest post if that is older,
            or since the first post; None if that is less than a day.
    """

    count: int
    freshness: Freshness | None
    recent_per_day: float
    usual_per_day: float | None


def measure_freshness(times: pd.Series[Any], now: datetime) -> Freshness | None:
    """Compare the time since the newest post with the gaps between posts.

    Args:
        times: when the posts were created, in order (datetime64, UTC); none is later than now.

    Returns:
        None without posts.
    """
    if times.empty:
        return None
    newest = times.iloc[-1].to_pydatetime()
    latest = times.iloc[-MAX_GAPS - 1 :].astype("datetime64[us, UTC]").astype("int64")
    gaps = np.diff(latest.to_numpy(dtype=np.int64))
    return Freshness(newest, now - newest, _longest_usual(gaps))


def measure_activity(
    times: pd.Series[Any],
    first: datetime | None,
    total: int,
    count: Callable[[datetime, datetime], int],
    now: datetime,
) -> PostsActivity:
    """Compare the recent rate of posts with the usual one.

    Args:
        times: when the latest posts were created, for `measure_freshness`.
        first: when the first post was created; None without posts.
        total: the number of posts up to now.
        count: returns the number of posts after a time, up to another one: the few of some weeks.
    """
    freshness = measure_freshness(times, now)
    if first is None or freshness is None:
        return PostsActivity(total, None, 0.0, None)
    recent_start = now - timedelta(days=RECENT_DAYS)
    usual_end = min(recent_start, freshness.newest_at)
    usual_start = usual_end - timedelta(days=USUAL_DAYS)
    days = (usual_end - max(first, usual_start)) / timedelta(days=1)
    usual = count(usual_start, recent_start) / days if days >= 1 else None
    return PostsActivity(total, freshness, count(recent_start, now) / RECENT_DAYS, usual)


def _longest_usual(gaps: npt.NDArray[np.int64]) -> timedelta | None:
    if not gaps.size:
        return None
    if gaps.size < _ENOUGH_GAPS:
        return timedelta(microseconds=_MARGIN * int(gaps.max()))
    return timedelta(microseconds=int(np.quantile(gaps, USUAL_SHARE, method="higher")))
