"""The naive timing forecast: the distribution of the training gaps, conditioned on the silence so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import LEVELS, Importance, TimingForecasts, hours_between, score_maximising_point, utc_times

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins

MAX_GAPS = 20_000  # more are reduced to so many quantiles
_MAX_SILENCE_LEVEL = 0.99  # a silence beyond this quantile of the gaps is treated as that quantile


def train(posts: pd.DataFrame, last: int | None = None) -> dict[str, Any]:
    """Return the sorted gaps between the training posts, in hours, and their number before any reduction.

    Args:
        posts: the training posts, in order.
        last: how many of the last gaps count; None for all. If they have no length, as in a burst, all count.
    """
    times = utc_times(posts)
    if last is not None and times[-last - 1 :][0] != times[-1]:
        times = times[-last - 1 :]
    gaps = np.sort(hours_between(times[:-1], times[1:]))
    count = len(gaps)
    if count > MAX_GAPS:
        gaps = np.quantile(gaps, np.linspace(0, 1, MAX_GAPS))
    return {"gaps_hours": gaps.tolist(), "gap_count": count}


def explain(model: dict[str, Any]) -> list[Importance]:
    """Return the median gap and the number of gaps."""
    gaps = model["gaps_hours"]
    count = model.get("gap_count", len(gaps))  # versions of earlier releases lack it
    return [Importance("median gap between posts", float(np.median(gaps)), "hours", f"of {count} gaps")]


def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return, for each origin, the quantiles of (gap − silence) over the training gaps longer than the silence.

    A silence longer than nearly all training gaps means that the stream has changed; it is treated as the longest one
    that leaves gaps to learn from.
    """
    gaps = np.asarray(model["gaps_hours"], dtype=float)
    silence = _known_silence(gaps, posts, origins)
    quantiles = _remaining(gaps, silence, LEVELS)
    _, rows, inverse = np.unique(silence, return_index=True, return_inverse=True)
    return TimingForecasts(quantiles, score_maximising_point(quantiles[rows])[inverse])


def simulate(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    horizon_hours: float,
    max_posts: int,
    paths: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return (paths, k) hours to the posts of futures whose gaps are drawn from the training gaps.

    The first wait is conditioned on the silence, as in `predict`.
    """
    gaps = np.asarray(model["gaps_hours"], dtype=float)
    random = np.random.default_rng(seed)
    first = (random.permutation(paths) + random.random(paths)) / paths  # one level from each of equal strata
    hours = _remaining(gaps, _known_silence(gaps, posts, origins), first).T
    steps = 1 + int(min(horizon_hours / gaps.mean(), max_posts))
    while hours.shape[1] < max_posts and (hours[:, -1] <= horizon_hours).any():
        shape = (paths, min(steps, max_posts - hours.shape[1]))
        drawn = random.choice(gaps, shape)
        hours = np.hstack([hours, hours[:, -1:] + np.cumsum(drawn, axis=1)])
    return np.where(hours <= horizon_hours, hours, np.inf)


def _known_silence(gaps: NDArray[np.float64], posts: pd.DataFrame, origins: Origins) -> NDArray[np.float64]:
    """Return (n,) the hours since the last post, at most as many as leave gaps to learn from."""
    silence = hours_between(utc_times(posts)[origins.position], origins.time)
    return np.minimum(silence, np.quantile(gaps, _MAX_SILENCE_LEVEL, method="lower"))


def _remaining(
    gaps: NDArray[np.float64], silence: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (n, levels) the quantiles of (gap − silence) over the gaps at least as long as the silence.

    Right after a post these are all gaps, also those of no length.
    """
    first = np.where(silence > 0, np.searchsorted(gaps, silence, side="left"), 0)
    rank = first[:, None] + levels * (len(gaps) - 1 - first)[:, None]
    quantiles: NDArray[np.float64] = np.interp(rank, np.arange(len(gaps)), gaps) - silence[:, None]
    return quantiles
