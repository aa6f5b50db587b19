"""Simulate how often a comparison promotes an equal model, and a better one.

    make bench-evidence

Draws the errors of two models on the same posts: log-normal, sharing how hard a post is, with a correlation of 0.3
between neighbouring posts. Prints the share of 1,000 comparisons that promote, by the 2% threshold alone and with
`min_confidence: 0.95` in addition, and for equal models how often the 95% interval contains the true improvement, 0.
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
WITHIN_HOURS = 6
THRESHOLD_ALONE, WITH_CONFIDENCE = RetrainingSettings(), RetrainingSettings(min_confidence=0.95)
TIMING = get_model_type("timing")


def main() -> None:
    print("posts  error smaller by  threshold alone  with min_confidence  interval contains 0")
    for posts in (20, 75, 300, 1000):
        for reduction in (0.0, 0.15, 0.3):
            alone, confident, coverage = simulate(posts, reduction)
            contains = f"{coverage:21.1%}" if reduction == 0 else ""
            print(f"{posts:5}  {reduction:16.0%}  {alone:15.1%}  {confident:19.1%}{contains}", flush=True)


def simulate(posts: int, reduction: float) -> np.ndarray:
    """Return the shares of comparisons that promote by each rule, and whose interval contains 0."""
    rng = np.random.default_rng(SEED)
    counts = np.zeros(3)
    for _ in range(REPLICATES):
        difficulty = 1.5 + correlated_normals(rng, posts)
        errors = [np.exp(difficulty + 0.5 * correlated_normals(rng, posts)) for _ in range(2)]
        errors[1] *= 1 - reduction
        production, candidate = (np.column_stack([side <= WITHIN_HOURS, side]) for side in errors)
        old, new = (float(TIMING.overall_score(side.mean(axis=0))) for side in (production, candidate))
        evidence = bootstrap_comparison(
            production, candidate, TIMING.overall_score, confidence=WITH_CONFIDENCE.min_confidence
        )
        low, high = evidence.interval_percentage or (0.0, 0.0)
        rules = (THRESHOLD_ALONE, WITH_CONFIDENCE)
        counts += [*(recommend(old, new, evidence, rule)[0] == "promote" for rule in rules), low <= 0 <= high]
    return counts / REPLICATES


def correlated_normals(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return (count,) standard normal numbers, each with a correlation of 0.3 to the one before."""
    values = rng.normal(size=count)
    for row in range(1, count):
        values[row] = 0.3 * values[row - 1] + math.sqrt(1 - 0.3**2) * values[row]
    return values


if __name__ == "__main__":
    main()
