"""Naive timing: the training gaps' own distribution, conditioned on the silence so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import (
    LEVELS,
    Importance,
    TimingForecasts,
    hours_between,
    score_maximising_point,
    utc_times,
)

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Origins

MOST_GAPS = 20_000  # more are thinned to that many quantiles of theirs
_LONGEST_CONDITION = 0.99  # a silence beyond this quantile of the gaps is treated like one of that length


def train(posts: pd.DataFrame) -> dict[str, Any]:
    """Return the sorted gaps between the training posts, in hours, and how many they were before any were thinned."""
    times = utc_times(posts)
    gaps = np.sort(hours_between(times[:-1], times[1:]))
    count = len(gaps)
    if len(gaps) > MOST_GAPS:
        gaps = np.quantile(gaps, np.linspace(0, 1, MOST_GAPS))
    return {"gaps_hours": gaps.tolist(), "gap_count": count}


def explain(model: dict[str, Any]) -> list[Importance]:
    """Return the median gap, and of how many."""
    gaps = model["gaps_hours"]
    count = model.get("gap_count", len(gaps))  # versions of earlier releases did not keep it
    return [Importance("median gap between posts", float(np.median(gaps)), "hours", f"of {count} gaps")]


def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return, for each origin, the quantiles of (gap − silence) over the training gaps longer than the silence.

    A silence longer than nearly all training gaps says that the stream has changed; it is treated like the longest one
    that still leaves gaps to learn from.
    """
    gaps = np.asarray(model["gaps_hours"], dtype=float)
    silence = hours_between(utc_times(posts)[origins.position], origins.time)
    silence = np.minimum(silence, np.quantile(gaps, _LONGEST_CONDITION, method="lower"))
    # Level p of the gaps that last at least as long as the silence, of which the first has index `first`. Right after
    # a post these are all of them.
    first = np.where(silence > 0, np.searchsorted(gaps, silence, side="left"), 0)
    rank = first[:, None] + LEVELS * (len(gaps) - 1 - first)[:, None]
    quantiles = np.interp(rank, np.arange(len(gaps)), gaps) - silence[:, None]
    distinct, inverse = np.unique(silence, return_inverse=True)
    rows = np.array([int(np.flatnonzero(silence == value)[0]) for value in distinct])
    return TimingForecasts(quantiles, score_maximising_point(quantiles[rows])[inverse])
