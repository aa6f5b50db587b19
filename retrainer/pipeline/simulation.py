"""Forecast several days ahead: the coming posts and the posts a day, from simulated futures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from retrainer.algorithms.manager import algorithms_with
from retrainer.errors import UsageError
from retrainer.times import format_time

if TYPE_CHECKING:
    from datetime import date

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types.base import Origins

PATHS = 500
MAX_DAYS = 31
MAX_NEXT = 100
DEFAULT_NEXT = 10  # posts shown with `until` alone
_MAX_POSTS = 2000  # of a future
_MAX_HOURS = 366 * 24.0  # of a future without `until`
_SHARE_CUT_OFF = 0.01  # of the futures that may have more than _MAX_POSTS


@dataclass(frozen=True)
class PostCount:
    """How many posts there will be in some hours.

    Attributes:
        start, end: UTC; the end is excluded.
        expected: the mean of the futures.
        interval: the central interval, both ends included.
    """

    start: datetime
    end: datetime
    expected: float
    interval: tuple[int, int]


@dataclass(frozen=True)
class DayCount(PostCount):
    """How many posts there will be on a day; the first and the last may be parts of a day.

    Attributes:
        day: the date in the time zone of the simulation.
    """

    day: date


@dataclass(frozen=True)
class PostTime:
    """When one of the coming posts will come.

    Attributes:
        number: 1 for the next post.
        median_at: the median, UTC; None if it is later than the futures end.
        interval_at: the central interval, likewise.
    """

    number: int
    median_at: datetime | None
    interval_at: tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Simulation:
    """What simulated futures say about the coming posts.

    Attributes:
        paths: the number of futures.
        timezone: where the days begin and end: the time zone that the algorithm's options name, or UTC.
        until: where the futures end, UTC; None if only the next posts were asked for.
        total: the posts until then; None likewise.
        days: the posts on each day until then; empty likewise.
        posts: the next posts; with `until` only those that come before it with a probability of 50% or more.
    """

    paths: int
    timezone: str
    until: datetime | None
    total: PostCount | None
    days: tuple[DayCount, ...]
    posts: tuple[PostTime, ...]


def resolve_horizon(at: datetime, until: datetime | timedelta | None) -> datetime | None:
    """Return where futures from a time end, UTC; None stays None.

    Args:
        at: where they start, UTC.
        until: where they end, or how long they are.

    Raises:
        UsageError: the end is not after the start, or too far ahead.
    """
    if until is None:
        return None
    end = at + until if isinstance(until, timedelta) else until
    if end <= at:
        raise UsageError(f"until: '{format_time(end)}' is not after '{format_time(at)}'", hint="Choose a later time")
    if end > at + timedelta(days=MAX_DAYS):
        raise UsageError(
            f"until: '{format_time(end)}' is over {MAX_DAYS} days after '{format_time(at)}'",
            hint="Choose an earlier time",
        )
    return end


def check_next_posts(next_posts: int | None) -> None:
    """Check how many of the next posts are asked for.

    Raises:
        UsageError: they are too many.
    """
    if next_posts is not None and next_posts > MAX_NEXT:
        raise UsageError(f"next: '{next_posts}' is over {MAX_NEXT} posts", hint="Choose a smaller number")


def simulate(
    model: TrainedModel,
    posts: pd.DataFrame,
    origins: Origins,
    at: datetime,
    *,
    until: datetime | None,
    next_posts: int | None,
    level: float,
    state: bytes | None = None,
) -> Simulation:
    """Simulate futures from a time on and summarise them.

    Args:
        model: a timing model.
        posts: all posts up to that time.
        origins: the one origin, at that time.
        until: where the futures end; None for only the next posts.
        next_posts: how many posts to list; None for 10. At least one of the two is given.
        level: of the intervals.
        state: what stands for the posts up to the first of `posts`; None if these are all.

    Raises:
        UsageError: the algorithm cannot simulate, or there may be too many posts until then.
    """
    if "simulate" not in model.algorithm.hook_names:
        raise UsageError(
            f"the algorithm '{model.algorithm.name}' forecasts the next post only",
            hint=f"These forecast later ones too: {algorithms_with('simulate')}",
        )
    horizon = _MAX_HOURS if until is None else (until - at) / timedelta(hours=1)
    listed = next_posts or DEFAULT_NEXT
    max_posts = listed if until is None else _MAX_POSTS
    hours = model.simulate(posts, origins, horizon_hours=horizon, max_posts=max_posts, paths=PATHS, state=state)
    if until is not None and hours.shape[1] == _MAX_POSTS and np.isfinite(hours[:, -1]).mean() > _SHARE_CUT_OFF:
        raise UsageError(
            f"until: '{format_time(until)}' is too far ahead: there may be more than {_MAX_POSTS:,} posts before it",
            hint="Choose an earlier time",
        )
    timezone = str(getattr(model.options, "timezone", "UTC"))
    summary = _Summary(at, hours, level)
    coming = tuple(summary.post(number) for number in range(1, listed + 1))
    if until is None:
        return Simulation(PATHS, timezone, None, None, (), coming)
    edges = _day_edges(at, until, ZoneInfo(timezone))
    days = [
        DayCount(*summary.count(start, end), day=start.astimezone(ZoneInfo(timezone)).date())
        for start, end in pairwise(edges)
    ]
    likely = tuple(post for post in coming if post.median_at is not None)
    return Simulation(PATHS, timezone, until, PostCount(*summary.count(at, until)), tuple(days), likely)


@dataclass(frozen=True)
class _Summary:
    """Means and quantiles of futures.

    Attributes:
        start: where they begin, UTC.
        hours: (paths, k) see `TrainedModel.simulate`.
        level: of the intervals.
    """

    start: datetime
    hours: NDArray[np.float64]
    level: float

    def count(self, start: datetime, end: datetime) -> tuple[datetime, datetime, float, tuple[int, int]]:
        """Return what a `PostCount` holds about the posts from start to end."""
        first, last = ((edge - self.start) / timedelta(hours=1) for edge in (start, end))
        counts = ((self.hours >= first) & (self.hours < last)).sum(axis=1)
        low, _, high = self._quantiles(counts)
        return start, end, float(counts.mean()), (int(low), int(high))

    def post(self, number: int) -> PostTime:
        """Return when a post will come; 1 is the next one."""
        beyond = np.full(len(self.hours), np.inf)
        low, median, high = self._quantiles(self.hours[:, number - 1] if number <= self.hours.shape[1] else beyond)
        return PostTime(number, self._time(median), (self._time(low), self._time(high)))

    def _quantiles(self, values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the lower end of the interval, the median and the upper end, each one of the values."""
        levels = [(1 - self.level) / 2, 0.5, (1 + self.level) / 2]
        quantiles: NDArray[np.float64] = np.quantile(values, levels, method="inverted_cdf")
        return quantiles

    def _time(self, hours: float) -> datetime | None:
        return self.start + timedelta(hours=float(hours)) if np.isfinite(hours) else None


def _day_edges(start: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the start, each midnight of the time zone between start and end, and the end, UTC."""
    edges = [start]
    day = start.astimezone(zone).date() + timedelta(days=1)
    while (midnight := datetime.combine(day, time(), zone).astimezone(UTC)) < end:
        edges.append(midnight)
        day += timedelta(days=1)
    return [*edges, end]
