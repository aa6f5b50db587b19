"""Recalibrated forecasts of the wait from any origin, from the distributions of gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import LEVELS, RECALIBRATION_GAPS, PseudoOrigins, Recalibration

if TYPE_CHECKING:
    from retrainer_neural.distribution import GapDistributions
    from retrainer_neural.inputs import Floats, Integers

KNOWN_GAPS = 300  # the last known gaps, by which forecasts right after posts are recalibrated

_MAX_HAZARD = 600.0  # beyond it the survival is too small a number

# Hours from the origin at which the distribution is computed; linear in between.
_GRID: Floats = np.concatenate(
    [
        [0.0],
        np.geomspace(1e-4, 1, 40)[:-1],
        np.arange(1, 24, 0.5),
        np.arange(24, 96, 1),
        np.arange(96, 336, 4),
        np.geomspace(336, 20 * 8760, 60),
    ]
)


@dataclass(frozen=True)
class KnownGaps:
    """Gaps that ended before the origins, with what the networks expected of them.

    Attributes:
        gaps: (n,) hours.
        hazard: (n,) the cumulative hazard over each gap; exponential with mean 1 if the forecasts were calibrated.
        pseudo: origins inside the gaps.
        hazard_before: (p,) the cumulative hazard until each of these origins.
    """

    gaps: Floats
    hazard: Floats
    pseudo: PseudoOrigins
    hazard_before: Floats

    @classmethod
    def compute(cls, gaps: Floats, numbers: Integers, distributions: GapDistributions) -> KnownGaps:
        """Compare gaps with their distributions.

        Args:
            gaps: (n,) hours; gap i follows the post i of the distributions.
            numbers: (n,) see `PseudoOrigins.inside`.
            distributions: of at least these gaps.
        """
        pseudo = PseudoOrigins.inside(gaps, numbers)
        index = np.arange(len(gaps))
        hazard = distributions.cumulative_hazard(index, gaps[:, None])[:, 0]
        before = distributions.cumulative_hazard(pseudo.gap, pseudo.silence[:, None])[:, 0]
        return cls(gaps, hazard, pseudo, before)

    def calibration(self, known: int) -> Calibration:
        """Return the calibration by the first `known` gaps."""
        last = np.arange(max(0, known - KNOWN_GAPS), known)
        after_posts = Recalibration.from_pit(-np.expm1(-self.hazard[last]), np.ones(len(last)), last)
        inside = slice(*np.searchsorted(self.pseudo.gap, [max(0, known - RECALIBRATION_GAPS), known]))
        gap = self.pseudo.gap[inside]
        # In a deep silence the survival is too small a number; a common factor of it does not matter.
        deep = np.maximum(self.hazard_before[inside] - _MAX_HAZARD, 0.0)
        before, until = (
            _recalibrated_survival(np.exp(deep - hazard), after_posts)
            for hazard in (self.hazard_before[inside], self.hazard[gap])
        )
        return Calibration(after_posts, Recalibration.from_pit(1 - until / before, self.pseudo.weight[inside], gap))


@dataclass(frozen=True)
class Calibration:
    """The corrections that an origin applies to its distribution.

    Attributes:
        after_posts: the recalibration of forecasts right after a post; later ones are conditioned on the silence.
        at_clock_times: the further recalibration of forecasts in a silence.
    """

    after_posts: Recalibration
    at_clock_times: Recalibration

    def quantiles(self, hazard: Floats, silence: float, same_time: float) -> Floats:
        """Return (99,) hours from the origin.

        Args:
            hazard: (k,) the cumulative hazard at the origin and at `_GRID` hours after it.
            silence: hours since the last post.
            same_time: the probability that the next post has the time of the last one.
        """
        levels = np.clip((LEVELS - same_time) / (1 - same_time), 0, 1) if silence == 0 else LEVELS
        scaled = hazard - max(0.0, hazard[0] - _MAX_HAZARD)  # as in `KnownGaps.calibration`
        reached = (1 - levels) * _recalibrated_survival(np.exp(-scaled[:1]), self.after_posts)
        needed = -np.log(_original_survival(reached, self.after_posts))
        quantiles: Floats = np.maximum.accumulate(np.interp(needed, scaled, _GRID))
        if silence > 0:
            quantiles = self.at_clock_times.apply(quantiles[None])[0]
        return quantiles


def forecast_quantiles(
    distributions: GapDistributions, index: Integers, silence: Floats, calibrations: list[Calibration], same_time: float
) -> Floats:
    """Return (n, 99) the waits of n origins, in hours.

    Args:
        distributions: of the gaps after some posts.
        index: (n,) the last post of each origin among them.
        silence: (n,) hours since that post.
        calibrations: n.
        same_time: the share of posts that have the time of the one before.
    """
    hazard = distributions.cumulative_hazard(index, silence[:, None] + _GRID)
    rows = zip(hazard, silence, calibrations, strict=True)
    return np.array([calibration.quantiles(row, float(hours), same_time) for row, hours, calibration in rows])


def _recalibrated_survival(survival: Floats, recalibration: Recalibration) -> Floats:
    """Return the share of gaps that were longer where the forecast survival was this."""
    return np.interp(survival, np.linspace(0, 1, len(recalibration.shares)), 1 - recalibration.shares[::-1])


def _original_survival(share: Floats, recalibration: Recalibration) -> Floats:
    """Reverse `_recalibrated_survival`."""
    return np.interp(share, 1 - recalibration.shares[::-1], np.linspace(0, 1, len(recalibration.shares)))
