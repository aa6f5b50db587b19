"""The waiting time: how long until the next post, given the rhythm of the week.

Time is measured in expected posts: an hour in which 0.3 posts are usual counts 0.3. In that measure the gaps between
posts have one distribution, learnt from the training gaps (the time-rescaling theorem: were posts a Poisson process
of that rate, it would be exponential; posts come in bursts, so it is not). A forecast is that distribution, given the
silence so far, turned back into hours from the origin: the first arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.model_types.base import hours_between, utc_times
from retrainer.model_types.timing import LEVELS, TimingForecasts
from retrainer_prophet import rhythm

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types.base import Origins

MOST_POSTS = 20_000  # the gaps are learnt from the last so many posts
_MOST_GAPS = 2_000  # kept in the model, as quantiles
_LONGEST_CONDITION = 0.99  # a silence beyond this quantile of the gaps is treated like one of that length


def train(posts: pd.DataFrame, weeks: int, seasonality_prior_scale: float) -> dict[str, Any]:
    """Learn the rhythm of the week and the distribution of the gaps in it.

    Args:
        posts: training posts in order, two different times at least.
        weeks: see `rhythm.fit`.
        seasonality_prior_scale: see `rhythm.fit`.
    """
    times = utc_times(posts)[-MOST_POSTS:]
    rate = rhythm.fit(times, weeks, seasonality_prior_scale)
    gaps = np.sort(np.diff(_Clock(rate).expected(times)))
    if len(gaps) > _MOST_GAPS:
        gaps = np.quantile(gaps, np.linspace(0, 1, _MOST_GAPS))
    return {"posts_an_hour": rate.tolist(), "gaps_in_expected_posts": gaps.tolist()}


def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the quantiles of the wait from each origin, in hours, and the point that maximises the score."""
    clock = _Clock(np.asarray(model["posts_an_hour"], dtype=float))
    gaps = np.asarray(model["gaps_in_expected_posts"], dtype=float)
    last = utc_times(posts)[origins.position]
    silence = clock.expected(origins.time) - clock.expected(last)
    silence = np.minimum(silence, np.quantile(gaps, _LONGEST_CONDITION, method="lower"))
    first = np.where(hours_between(last, origins.time) > 0, np.searchsorted(gaps, silence, side="left"), 0)
    rank = first[:, None] + LEVELS * (len(gaps) - 1 - first)[:, None]
    remaining = np.interp(rank, np.arange(len(gaps)), gaps) - silence[:, None]
    hours = clock.hours_until(origins.time, np.maximum(remaining, 0))
    return TimingForecasts.from_quantiles(np.maximum.accumulate(hours, axis=1))


class _Clock:
    """Turns hours into expected posts and back, for a rate that repeats every week."""

    def __init__(self, rate: NDArray[np.float64]) -> None:
        self._cumulative = np.concatenate([[0.0], np.cumsum(rate)])  # expected posts since Monday 00:00, at full hours
        self._week = self._cumulative[-1]
        self._hours = np.arange(len(self._cumulative), dtype=float)

    def expected(self, times: NDArray[np.datetime64]) -> NDArray[np.float64]:
        """Return expected posts since some fixed Monday."""
        weeks, within = np.divmod(rhythm.since_monday(times), rhythm.HOURS_OF_WEEK)
        expected: NDArray[np.float64] = weeks * self._week + np.interp(within, self._hours, self._cumulative)
        return expected

    def hours_until(self, start: NDArray[np.datetime64], posts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, k) hours from `start` (n,) until `posts` (n, k) more are expected."""
        at = rhythm.since_monday(start) % rhythm.HOURS_OF_WEEK
        target = np.interp(at, self._hours, self._cumulative)[:, None] + posts
        weeks = np.floor(target / self._week)
        within = np.interp(target - weeks * self._week, self._cumulative, self._hours)
        hours: NDArray[np.float64] = np.maximum(weeks * rhythm.HOURS_OF_WEEK + within - at[:, None], 0)
        return hours
