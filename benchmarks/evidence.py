"""Simulate how often a comparison promotes a model that is not better, and one that is.

    make bench-evidence

The errors of two models on the same posts are log-normal, correlated because some posts are harder, and autocorrelated
(0.3). Prints the share of 1,000 comparisons that promote, by the 2% threshold alone and with `min_confidence: 0.95`,
and how often the 95% interval contains the true improvement of equal models: 0.
"""

from __future__ import annotations

import math

import numpy as np

from retrainer.config import RetrainingSettings
from retrainer.evaluation.bootstrap import bootstrap_comparison
from retrainer.evaluation.decision_rule import recommend
from retrainer.model_types import get_model_type

SEED = 20240229
REPLICATES = 1000
THRESHOLD_ALONE, WITH_CONFIDENCE = RetrainingSettings(), RetrainingSettings(min_confidence=0.95)
TIMING = get_model_type("timing")


def main() -> None:
    print("posts  error smaller by  threshold alone  with min_confidence  interval contains 0")
    for posts in (20, 75, 300, 1000):
        for smaller in (0.0, 0.15, 0.3):
            alone, sure, covered = shares(posts, 1 - smaller)
            holds = f"{covered:21.1%}" if smaller == 0 else ""
            print(f"{posts:5}  {smaller:16.0%}  {alone:15.1%}  {sure:19.1%}{holds}", flush=True)


def shares(posts: int, shrink: float) -> tuple[float, float, float]:
    """Return the shares that promote under both rules, and the share of intervals that contain 0."""
    rng = np.random.default_rng(SEED)
    counts = np.zeros(3)
    for _ in range(REPLICATES):
        common = 1.5 + autocorrelated(rng, posts)
        first, second = (np.exp(common + 0.5 * autocorrelated(rng, posts)) for _ in range(2))
        a, b = (np.column_stack([errors <= 6, errors]) for errors in (first, second * shrink))  # noqa: PLR2004
        old, new = (float(TIMING.overall_score(side.mean(axis=0))) for side in (a, b))
        found = bootstrap_comparison(a, b, TIMING.overall_score, confidence=WITH_CONFIDENCE.min_confidence)
        low, high = found.interval_percentage or (0.0, 0.0)
        counts += [
            recommend(old, new, found, rules)[0] == "promote" for rules in (THRESHOLD_ALONE, WITH_CONFIDENCE)
        ] + [low <= 0 <= high]
    alone, sure, covered = counts / REPLICATES
    return alone, sure, covered


def autocorrelated(rng: np.random.Generator, posts: int) -> np.ndarray:
    """Return (posts,) standard normal numbers, each correlated by 0.3 with the one before it."""
    values = rng.normal(size=posts)
    for row in range(1, posts):
        values[row] = 0.3 * values[row - 1] + math.sqrt(1 - 0.3**2) * values[row]
    return values


if __name__ == "__main__":
    main()
