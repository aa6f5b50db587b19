"""Pairs of equally good forecasters: how often is one of them called better, if one looks after every post?

The losses of a pair are drawn; whatever is called is a false call. The same differences are also given to a bootstrap
that is repeated every 20 posts, as if each were the only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.sequential import INTERVAL_THRESHOLD, EProcess, Stakes, crps_stakes, score_stakes
from retrainer.model_types.timing import LEVELS, pinball_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Draw = Callable[[np.random.Generator, int], Stakes]

SEED = 20261126  # fixed before the first run
POSTS = 2000

_LOOK_EVERY, _FIRST_LOOK = 20, 100  # posts, of the bootstrap
_RESAMPLES = 500
_TAIL = 0.025  # of a two-sided 5%


def independent(rng: np.random.Generator, posts: int) -> Stakes:
    """Draw independent scores of the form of the overall score."""
    hit = rng.random((2, posts)) < 0.6  # noqa: PLR2004
    return score_stakes(*(0.7 * hit + 0.3 * rng.random((2, posts))))


def skewed(rng: np.random.Generator, posts: int) -> Stakes:
    """Draw independent losses of which one is exponential, capped, and the other always the mean of it."""
    cap, mean = 3.0, 1 - np.exp(-3.0)
    loss = np.minimum(rng.exponential(size=posts), cap)
    one = np.ones(posts)
    return Stakes(loss, mean * one, (cap - mean) * one, mean * one, cap * one)


def of_changing_size(rng: np.random.Generator, posts: int) -> Stakes:
    """Draw uniform losses whose scale is a random walk."""
    size = np.exp(np.cumsum(0.05 * rng.normal(size=posts)))
    loss, other_loss = size * rng.random((2, posts))
    return Stakes(loss, other_loss, size, size, size)


def autocorrelated(correlation: float) -> Draw:
    """Return a draw of differences with this correlation between neighbouring posts."""

    def draw(rng: np.random.Generator, posts: int) -> Stakes:
        difference = rng.normal(size=posts)
        for row in range(1, posts):
            difference[row] = correlation * difference[row - 1] + np.sqrt(1 - correlation**2) * difference[row]
        difference = np.clip(difference / 4, -1, 1)
        return score_stakes((1 - difference) / 2, (1 + difference) / 2)

    return draw


class DrawnOutcomes:
    """Outcomes drawn from two real forecasts of each post, so that both are expected to lose the same.

    One of the 99 quantiles is drawn from either forecast. How often it is from which makes the expected capped CRPS of
    the two equal on each post.
    """

    def __init__(self, quantiles: Floats, other_quantiles: Floats) -> None:
        """Take the forecasts, (n, 99) hours each."""
        self._stakes = crps_stakes(quantiles, other_quantiles, np.zeros(len(quantiles)))
        cap = np.maximum(quantiles[:, 94], other_quantiles[:, 94])[:, None]
        sides = [np.minimum(quantiles, cap), np.minimum(other_quantiles, cap)]
        outcomes = np.concatenate(sides, axis=1).T  # (198, n)
        self._losses = [np.stack([2 * pinball_loss(side, wait).mean(axis=1) for wait in outcomes]) for side in sides]
        difference = self._losses[0] - self._losses[1]
        own, other = difference[: len(LEVELS)].mean(axis=0), difference[len(LEVELS) :].mean(axis=0)
        self._own_share = np.divide(other, other - own, out=np.full(len(own), 0.5), where=other > own)

    def __call__(self, rng: np.random.Generator, posts: int) -> Stakes:
        """Draw the outcomes of the first posts."""
        rows = np.arange(min(posts, len(self._own_share)))
        is_other = rng.random(len(rows)) >= self._own_share[rows]
        drawn = rng.integers(len(LEVELS), size=len(rows)) + len(LEVELS) * is_other
        loss, other_loss = (losses[drawn, rows] for losses in self._losses)
        return self._stakes.rows(0, len(rows))._replace(loss=loss, other_loss=other_loss)


def false_calls(draw: Draw, streams: int, posts: int = POSTS) -> tuple[float, float]:
    """Return the shares of streams with a false call at any look: by the e-process, and by the repeated bootstrap.

    Both are two-sided at 5%. The bootstrap is online, by Poisson weights (Hanley and MacGibbon 2006), and is looked at
    every 20 posts from the 100th on; the e-process after every post.
    """
    rng = np.random.default_rng(SEED)
    weights = rng.poisson(1, (posts // _LOOK_EVERY, _LOOK_EVERY, _RESAMPLES)).astype(np.float64)
    calls = np.zeros(2)
    for _ in range(streams):
        stakes = draw(rng, posts)
        calls += [
            EProcess().trace(stakes).max() >= np.log(INTERVAL_THRESHOLD),
            _bootstrap_calls(stakes.loss - stakes.other_loss, weights),
        ]
    evidence, bootstrap = calls / streams
    return float(evidence), float(bootstrap)


def _bootstrap_calls(differences: Floats, weights: Floats) -> bool:
    looks = differences[: len(differences) // _LOOK_EVERY * _LOOK_EVERY].reshape(-1, 1, _LOOK_EVERY)
    sums = np.cumsum((looks @ weights[: len(looks)])[:, 0], axis=0)  # (looks, resamples)
    above = (sums > 0).mean(axis=1)[_FIRST_LOOK // _LOOK_EVERY - 1 :]
    return bool(((above <= _TAIL) | (above >= 1 - _TAIL)).any())
