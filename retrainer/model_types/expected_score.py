"""The interval in which the score of the next content forecast is expected, by the scores of earlier forecasts.

This is split conformal prediction (Vovk, Gammerman and Shafer 2005; Lei et al. 2018): of n scores on posts that the
version was not trained on, the interval is from the k-th smallest to the k-th largest, k = ⌊(n + 1) m / 2⌋, which would
miss the next score with a probability of at most m if the scores came in random order.

They do not: streams drift. So only the last 200 scores count, and m, which begins at 20%, follows
the misses (adaptive conformal inference: Gibbs and Candès 2021): after each later post it becomes smaller if the score
was missed, and larger if it was not, so that in the long run a fifth of the scores is missed, whatever the stream does.
That needs no random numbers: the same scores give the same interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.8
MIN_POSTS = 50  # fewer say too little: the coverage by 50 scores differs from 80% by 6 points or more one time in three
MAX_POSTS = 200  # more would be too old where a stream drifts; the coverage by 200 differs by 3 points as often
HISTORY = 1_000  # what came before has no effect: after each post, 1% of the correction of m is forgotten
MIN_CHECKED = 20  # posts of which the share in their intervals is reported
_STEP = 0.01  # of m; larger steps follow faster, but the intervals then change from post to post
_MAX_MISSES = 0.5  # of m, which grows where a score is repeated so often that no interval misses a fifth of them


class ExpectedScore(NamedTuple):
    """The interval in which the score of a forecast is expected.

    Attributes:
        low, high: its ends, which are in it, 0 to 1.
        level: the share of scores that such intervals contain.
        posts: the number of earlier scores that it is based on.
    """

    low: float
    high: float
    level: float
    posts: int


class Coverage(NamedTuple):
    """How often scores were within the intervals expected for them.

    Attributes:
        coverage: the share of the scores within their intervals.
        width: the mean width of the intervals.
        posts: the number of scores.
    """

    coverage: float
    width: float
    posts: int


def expect_score(scores: Floats) -> ExpectedScore | None:
    """Return the interval in which the next score is expected; None after fewer than 50 scores.

    Args:
        scores: (n,) the scores of earlier forecasts, in order of the posts.
    """
    latest = scores[-HISTORY:]
    if len(latest) < MIN_POSTS:
        return None
    *_, (low, high) = _intervals(latest)
    return ExpectedScore(low, high, LEVEL, min(len(latest), MAX_POSTS))


def measure_coverage(scores: Floats, start: int = MIN_POSTS) -> Coverage | None:
    """Return how often scores were within the interval expected for them.

    Args:
        scores: (n,) in order of the posts.
        start: the first score to check; the first 50 are never checked.

    Returns:
        None with fewer than 20 scores to check.
    """
    first = max(start, MIN_POSTS)
    if len(scores) - first < MIN_CHECKED:
        return None
    ends = np.array([*_intervals(scores)][first - MIN_POSTS : -1])
    low, high, checked = ends[:, 0], ends[:, 1], scores[first:]
    return Coverage(float(((low <= checked) & (checked <= high)).mean()), float((high - low).mean()), len(checked))


def _intervals(scores: Floats) -> Iterator[tuple[float, float]]:
    """Yield the interval expected before each of the scores after the first 50, and that after the last one."""
    misses = 1 - LEVEL
    for index in range(MIN_POSTS, len(scores) + 1):
        low, high = _split_conformal(scores[max(0, index - MAX_POSTS) : index], misses)
        yield low, high
        if index < len(scores):
            missed = not low <= scores[index] <= high
            misses = min(max(misses + _STEP * (1 - LEVEL - missed), 0.0), _MAX_MISSES)


def _split_conformal(scores: Floats, misses: float) -> tuple[float, float]:
    """Return the interval that the next of n + 1 exchangeable scores is in with a probability of 1 - `misses`.

    It leaves out k - 1 scores at each end. Where fewer can be left out at one end, because the score there is repeated,
    as many more are at the other: otherwise a stream that often gets a 1 would have intervals that miss too few.
    """
    rank = int(round((len(scores) + 1) * misses / 2, 9))  # 60 · 0.2 / 2 is 6, whatever the last binary digit says
    if not rank:
        return 0.0, 1.0  # no score is outside
    ordered = np.sort(scores)
    below = int(np.searchsorted(ordered, ordered[rank - 1], "left"))
    above = len(ordered) - int(np.searchsorted(ordered, ordered[-rank], "right"))
    left_out = 2 * (rank - 1)
    return float(ordered[left_out - above]), float(ordered[-1 - (left_out - below)])
