"""How certain a comparison is: the interval of the improvement and the minimum detectable effect, by bootstrap.

Both versions are scored on the same posts, so posts are resampled for both together. The errors of neighbouring posts
are correlated, so they are resampled in blocks: the circular block bootstrap (Politis and Romano 1992, "A circular
block resampling procedure for stationary data"), with blocks of n^(1/3) posts, rounded up (the rate of Hall, Horowitz
and Jing 1995, "On blocking rules for the bootstrap with dependent data").
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
POWER = 0.8

_RESAMPLES_AT_ONCE = 250  # 20,000 posts in 715 blocks of 4 figures: 6 MB


@dataclass(frozen=True)
class Evidence:
    """How certain a comparison is.

    Attributes:
        interval_percentage: the confidence interval of the improvement, in percent of a's score; None if a scored 0, or
            did so in a larger share of the resamples than lies below the interval.
        probability_better: the probability that b is better: the share of resamples in which it scores higher; ties
            count half.
        smallest_detectable_percentage: the minimum detectable effect with 80% power at the one-sided confidence
            `settled_at`: (z(settled_at) + z(0.8)) times the standard error (Bloom 1995, "Minimum detectable effects");
            None if there is no interval.
        more_posts: roughly how many more posts would settle whether b is better, if the difference stays the same; 0 if
            it is settled, None if unknown.
        settled_at: the one-sided confidence at which the question counts as settled.
        num_predictions: the number of posts on which both were scored.
        block_length: the length of a block, in posts.
        resamples: the number of resamples.
        seed: the seed of the resamples.
        level: the level of the interval.
    """

    interval_percentage: tuple[float, float] | None
    probability_better: float
    smallest_detectable_percentage: float | None
    more_posts: int | None
    settled_at: float
    num_predictions: int
    block_length: int
    resamples: int
    seed: int
    level: float = LEVEL

    @property
    def is_settled(self) -> bool:
        """Whether one of the two is better with the confidence `settled_at`."""
        return max(self.probability_better, 1 - self.probability_better) >= self.settled_at

    def document(self) -> dict[str, Any]:
        """Return the evidence as it is recorded and shown."""
        interval = self.interval_percentage
        rounded = None if interval is None else [round(bound, 4) for bound in interval]
        return {**asdict(self), "interval_percentage": rounded}


@dataclass(frozen=True)
class Resamples:
    """How b's improvement over a varies between resamples of the posts.

    With few blocks a bootstrap interval is too narrow, since deviations are taken from the sample's own mean. They are
    widened by sqrt(m / (m − 1)) for m blocks, and by the ratio of Student's t to the normal quantile.

    Attributes:
        differences: (r,) of the scores, b minus a.
        percentages: (at most r,) the same in percent of a's score; None if a scored 0, or did so in a larger share of
            the resamples than lies below the interval: the rest would not give a valid one.
    """

    differences: Floats
    percentages: Floats | None


def resample_improvement(
    a: Floats, b: Floats, overall: Callable[[Floats], Floats], *, level: float = LEVEL
) -> Resamples:
    """Resample the posts, for both sides together; see `bootstrap_comparison`."""
    count = len(a)
    length = block_length(count)
    old, new = float(overall(a.mean(axis=0))), float(overall(b.mean(axis=0)))
    means = resampled_means(np.hstack([a, b]), length, SEED)
    olds, news = overall(means[:, : a.shape[1]]), overall(means[:, a.shape[1] :])
    widening = _widening(math.ceil(count / length))
    differences = (new - old) + widening * ((news - olds) - (new - old))
    differences[np.abs(differences) < 1e-12] = 0.0  # noqa: PLR2004  equal up to rounding
    if not (old > 0 and (olds <= 0).mean() <= (1 - level) / 2):
        return Resamples(differences, None)
    # The improvement is a ratio, undefined in a resample in which a scores 0.
    improvement = (new - old) / old * 100
    ratios = (news - olds)[olds > 0] / olds[olds > 0] * 100
    return Resamples(differences, improvement + widening * (ratios - improvement))


def bootstrap_comparison(
    a: Floats,
    b: Floats,
    overall: Callable[[Floats], Floats],
    *,
    confidence: float | None = None,
    level: float = LEVEL,
) -> Evidence:
    """Resample the posts and measure how the improvement varies; see `Resamples`.

    Args:
        a: (n, k) contributions of each post, in order of time; their means give a's score.
        b: (n, k) contributions to b's score, on the same posts.
        overall: maps means (…, k) to scores (…).
        confidence: the one-sided confidence at which the question counts as settled; None for 0.95.
        level: the level of the interval.
    """
    count = len(a)
    settled_at = LEVEL if confidence is None else confidence
    resamples = resample_improvement(a, b, overall, level=level)
    differences = resamples.differences
    better = float((differences > 0).mean() + (differences == 0).mean() / 2)
    interval, detectable = None, None
    if resamples.percentages is not None:
        bounds = np.quantile(resamples.percentages, [(1 - level) / 2, (1 + level) / 2])
        interval = (float(bounds[0]), float(bounds[1]))
        detectable = _detectable_errors(settled_at) * float(resamples.percentages.std())
    difference = float(overall(b.mean(axis=0))) - float(overall(a.mean(axis=0)))
    return Evidence(
        interval_percentage=interval,
        probability_better=better,
        smallest_detectable_percentage=detectable,
        more_posts=_more_posts(count, difference, float(differences.std()), better, settled_at),
        settled_at=settled_at,
        num_predictions=count,
        block_length=block_length(count),
        resamples=len(differences),
        seed=SEED,
        level=level,
    )


def difference_interval(
    a: Floats, b: Floats, overall: Callable[[Floats], Floats]
) -> tuple[float, tuple[float, float] | None]:
    """Return how much higher b scores than a, and its 95% interval, resampled and widened as in `bootstrap_comparison`.

    Args:
        a: (n, k) contributions of each post, in order of time.
        b: (n, k) contributions to b's score, on the same posts.
        overall: maps means (…, k) to scores (…).

    Returns:
        The difference, and the interval; None for fewer than two posts.
    """
    difference = float(overall(b.mean(axis=0)) - overall(a.mean(axis=0)))
    if len(a) < 2:  # noqa: PLR2004
        return difference, None
    resamples = resample_improvement(a, b, overall)
    low, high = np.quantile(resamples.differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return difference, (float(low), float(high))


def score_interval(
    figures: Floats, overall: Callable[[Floats], Floats], *, length: int | None = None
) -> tuple[float, float] | None:
    """Return the 95% interval of a score, resampled and widened as in `bootstrap_comparison`.

    Args:
        figures: (n, k) contributions of each post, in order of time.
        overall: maps means (…, k) to scores (…).
        length: the length of a block, in posts; None for n^(1/3).

    Returns:
        The interval; None for fewer than two posts.
    """
    count = len(figures)
    if count < 2:  # noqa: PLR2004
        return None
    length = length or block_length(count)
    score = float(overall(figures.mean(axis=0)))
    scores = overall(resampled_means(figures, length, SEED))
    widened = score + _widening(math.ceil(count / length)) * (scores - score)
    low, high = np.quantile(widened, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def block_length(count: int) -> int:
    """Return the block length for a number of posts: its cube root, rounded up."""
    return math.ceil(round(math.pow(count, 1 / 3), 9))


def resampled_means(figures: Floats, length: int, seed: int) -> Floats:
    """Return (RESAMPLES, k) means of n rows resampled in circular blocks; the last block is cut to fit.

    Args:
        figures: (n, k).
        length: the length of a block, in rows.
        seed: the seed of the resamples.
    """
    count = len(figures)
    blocks = math.ceil(count / length)
    last = count - (blocks - 1) * length
    around = np.concatenate([np.zeros((1, figures.shape[1])), np.cumsum(np.concatenate([figures, figures]), axis=0)])
    start = np.arange(count)
    whole, rest = around[start + length] - around[start], around[start + last] - around[start]
    generator = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, figures.shape[1]))
    for first in range(0, RESAMPLES, _RESAMPLES_AT_ONCE):
        drawn = starts(generator, min(_RESAMPLES_AT_ONCE, RESAMPLES - first), blocks, count)
        # A resample a column: summing over the first axis is many times as fast.
        sums = whole.take(drawn[:, :-1].T, axis=0).sum(axis=0)
        means[first : first + len(drawn)] = (sums + rest[drawn[:, -1]]) / count
    return means


def starts(generator: np.random.Generator, resamples: int, blocks: int, count: int) -> Integers:
    """Draw (resamples, blocks) start rows of blocks."""
    return generator.integers(0, count, size=(resamples, blocks))


def _widening(blocks: int) -> float:
    """Return the factor by which a bootstrap interval over this number of blocks is too narrow.

    Student's quantile at 0.95 is the expansion of Abramowitz and Stegun (1964), 26.7.5.
    """
    freedom = blocks - 1
    if freedom < 1:
        return 1.0
    z = NormalDist().inv_cdf(0.95)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return math.sqrt(blocks / freedom) * t / z


def _detectable_errors(confidence: float) -> float:
    """Return the minimum detectable effect in standard errors, with 80% power."""
    return NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(POWER)


def _more_posts(count: int, difference: float, error: float, better: float, confidence: float) -> int | None:
    """Return how many more posts are needed if the standard error falls with their square root; two digits."""
    if max(better, 1 - better) >= confidence:
        return 0
    if difference == 0 or error == 0:
        return None
    needed = count * (_detectable_errors(confidence) * error / abs(difference)) ** 2 - count
    if not needed > 0 or needed > 1e9:  # noqa: PLR2004  longer than any stream
        return None
    step: int = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return math.ceil(needed / step) * step
