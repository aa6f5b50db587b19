"""The naive timing forecast: the distribution of the training gaps, conditioned on the silence so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import LEVELS, Importance, TimingForecasts, hours_between, score_maximising_point, utc_times

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Origins

MAX_GAPS = 20_000  # more are reduced to so many quantiles
_MAX_SILENCE_LEVEL = 0.99  # a silence beyond this quantile of the gaps is treated as that quantile


def train(posts: pd.DataFrame) -> dict[str, Any]:
    """Return the sorted gaps between the training posts, in hours, and their number before any reduction."""
    times = utc_times(posts)
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
    silence = hours_between(utc_times(posts)[origins.position], origins.time)
    silence = np.minimum(silence, np.quantile(gaps, _MAX_SILENCE_LEVEL, method="lower"))
    # The quantiles are those of gaps[first:], the gaps at least as long as the silence; right after a post, of all.
    first = np.where(silence > 0, np.searchsorted(gaps, silence, side="left"), 0)
    rank = first[:, None] + LEVELS * (len(gaps) - 1 - first)[:, None]
    quantiles = np.interp(rank, np.arange(len(gaps)), gaps) - silence[:, None]
    _, rows, inverse = np.unique(silence, return_index=True, return_inverse=True)
    return TimingForecasts(quantiles, score_maximising_point(quantiles[rows])[inverse])
