"""Decide by known gaps which point to forecast from a distribution of the wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from retrainer.model_types.timing import WITHIN_HOURS, Timing, score_maximising_point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_HALF_LIFE = 200.0  # of past forecasts, in gaps
_MAX_MAE_HOURS = 24.0  # beyond it the overall score no longer counts the error
_ERROR_WEIGHT = 0.02  # instead of 0.3 where it does not count, so that the error still breaks ties
_CONSTANT_GAIN = 0.015  # of the overall score, that a constant must show
_CANDIDATES = 401
_MAX_ERRORS = 1_000_000  # held in memory at once


@dataclass(frozen=True)
class PointRule:
    """How a point is read from a distribution.

    Attributes:
        kind: `score` maximises the expected overall score; `within_6h` the probability of an error of at most 6 hours;
            `constant` is the same point in all silences in which it was tried; in a longer one, it is that of `score`.
        constant_hours: the constant.
        max_silence_hours: the longest silence in which the constant was tried; None for no limit.
    """

    kind: Literal["score", "within_6h", "constant"]
    constant_hours: float
    max_silence_hours: float | None = None

    @classmethod
    def decide(
        cls,
        quantiles: Floats,
        wait: Floats,
        weight: Floats,
        age: Floats,
        constant_hours: float,
        silence: Floats | None = None,
    ) -> PointRule:
        """Choose the rule by past forecasts of one kind of origin: right after posts, or at clock times.

        The overall score ignores the mean error beyond 24 hours; where the error of the usual point is larger, only
        being within 6 hours counts. The constant is chosen if its overall score was better by more than 0.015.

        Args:
            quantiles: (n, 99) past forecasts, hours.
            wait: (n,) the actual waits.
            weight: (n,) how much each counts: 1 right after posts, hours at clock times (`PseudoOrigins`).
            age: (n,) gaps since then; the weight halves every 200.
            constant_hours: see `best_constant`.
            silence: (n,) hours since the last post, at each forecast. A constant that suits them says nothing about a
                longer silence; None for no limit.
        """
        longest = None if silence is None else float(silence.max(initial=0.0))
        rule = cls("score", constant_hours, longest)
        if len(wait) == 0:
            return rule
        discounted = weight * 0.5 ** (age / _HALF_LIFE)
        point = rule.points(quantiles)
        if np.average(np.abs(point - wait), weights=discounted) > _MAX_MAE_HOURS:
            rule = cls("within_6h", constant_hours, longest)
            point = rule.points(quantiles)
        constant = np.full(len(wait), constant_hours)
        if _overall_score(constant, wait, discounted) > _overall_score(point, wait, discounted) + _CONSTANT_GAIN:
            return cls("constant", constant_hours, longest)
        return rule

    def points(self, quantiles: Floats, silence: Floats | None = None) -> Floats:
        """Return (n,) the points, in hours, of (n, 99) quantiles and (n,) hours since the last post; None for none."""
        match self.kind:
            case "score":
                return score_maximising_point(quantiles)
            case "within_6h":
                return score_maximising_point(quantiles, error_weight=_ERROR_WEIGHT)
            case "constant":
                points = np.full(len(quantiles), self.constant_hours)
                if silence is not None and self.max_silence_hours is not None:
                    is_longer = silence > self.max_silence_hours
                    points[is_longer] = score_maximising_point(quantiles[is_longer])
                return points


def best_constant(wait: Floats, weight: Floats) -> float:
    """Return the constant point with the best overall score, in hours, of 401 quantiles of the waits.

    Args:
        wait: (n,) hours, n ≥ 1.
        weight: (n,) how much each counts.
    """
    order = np.argsort(wait, kind="stable")
    ordered = wait[order]
    share = np.cumsum(weight[order]) / weight.sum()
    candidates = np.unique(ordered[np.minimum(np.searchsorted(share, np.linspace(0, 1, _CANDIDATES)), len(wait) - 1)])
    blocks = np.array_split(candidates, -(-len(candidates) * len(wait) // _MAX_ERRORS))
    scores = np.concatenate([_overall_score(block[:, None], wait, weight) for block in blocks])
    return float(candidates[int(np.argmax(scores))])


def _overall_score(point: Floats, wait: Floats, weight: Floats) -> Floats:
    """Return the overall score of (…, n) points, or of (…, 1) constants, of (n,) waits with (n,) weights."""
    error = np.abs(point - wait)
    means = np.stack([(error <= WITHIN_HOURS) @ weight, error @ weight], axis=-1) / weight.sum()
    return Timing().overall_score(means)
