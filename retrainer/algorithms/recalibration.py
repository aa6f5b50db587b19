"""Recalibrate forecasts at clock times by the gaps that are already known.

A clock time falls into long gaps more often than into short ones, so a forecast that is calibrated right after posts
may be too wide or too narrow at clock times. Origins are placed inside the known gaps (`PseudoOrigins`), weighted by
the time that each stands for, and the probability integral transform, PIT, of the waits from there (Dawid 1984,
"Statistical theory: the prequential approach") says at which level to read a quantile (`Recalibration`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.model_types.timing import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

RECALIBRATION_GAPS = 150  # the last known gaps, by which a forecast is recalibrated

_STRATUM_HOURS = 3.0
_MAX_STRATA = 4
_GOLDEN_RATIO = 0.6180339887498949
_BINS = 20
_PRIOR_GAPS = 60.0  # weight of the uniform distribution


@dataclass(frozen=True)
class PseudoOrigins:
    """n origins inside known gaps, as forecasts at clock times could have been made there.

    Attributes:
        gap: (n,) the index of the gap, ascending.
        silence: (n,) hours since the post that began the gap.
        wait: (n,) hours until the post that ended it.
        weight: (n,) the hours that the origin stands for; over a gap they sum to its length.
    """

    gap: Integers
    silence: Floats
    wait: Floats
    weight: Floats

    @classmethod
    def inside(cls, gaps: Floats, numbers: Integers) -> PseudoOrigins:
        """Divide each gap into one to four strata of about three hours, and place an origin in each.

        Midpoints would bias the PIT towards the middle. The place in a stratum is a low-discrepancy sequence in the
        number of the gap, so it looks random and is always the same.

        Args:
            gaps: (m,) hours.
            numbers: (m,) the number of each gap, counted from a fixed one; may be negative.
        """
        strata = np.clip(np.ceil(gaps / _STRATUM_HOURS), 1, _MAX_STRATA).astype(np.int64)
        gap = np.repeat(np.arange(len(gaps)), strata)
        stratum = np.arange(len(gap)) - np.repeat(np.cumsum(strata) - strata, strata)
        silence = (stratum + (numbers * _GOLDEN_RATIO % 1.0)[gap]) / strata[gap] * gaps[gap]
        return cls(gap, silence, gaps[gap] - silence, (gaps / strata)[gap])


@dataclass(frozen=True)
class Recalibration:
    """The share of waits that came by each level of the forecasts, shrunk to that level.

    Attributes:
        shares: (bins + 1,) the share with a PIT of at most 0, 1/bins, … 1; strictly increasing from 0 to 1.
    """

    shares: Floats

    @classmethod
    def from_pit(cls, pit: Floats, weight: Floats, gap: Integers) -> Recalibration:
        """Compute the weighted histogram of PIT values. Without values, the recalibration changes nothing.

        Waits within one gap have one end, and long gaps have most of the weight. So the histogram counts as much as
        the effective number of gaps (Kish 1965, "Survey sampling"), against 60 for the uniform distribution.

        Args:
            pit: (n,) the forecast probability of a wait no longer than the actual one.
            weight: (n,) hours; see `PseudoOrigins`.
            gap: (n,) the gap of each.
        """
        even = np.linspace(0, 1, _BINS + 1)
        if len(pit) == 0:
            return cls(even)
        bins = np.minimum((pit * _BINS).astype(np.int64), _BINS - 1)
        hours = np.bincount(gap - gap.min(), weights=weight)
        effective = hours.sum() ** 2 / (hours**2).sum()
        observed = np.cumsum(np.bincount(bins, weights=weight, minlength=_BINS)) / weight.sum()
        return cls((effective * np.append(0.0, observed) + _PRIOR_GAPS * even) / (effective + _PRIOR_GAPS))

    def levels(self, levels: Floats = LEVELS) -> Floats:
        """Return the levels at which to read the forecast, for quantiles at these levels."""
        read: Floats = np.interp(levels, self.shares, np.linspace(0, 1, len(self.shares)))
        return read

    def apply(self, quantiles: Floats) -> Floats:
        """Return recalibrated quantiles.

        Below the first quantile they are interpolated from 0. Beyond the 99% quantile q99, the tail is exponential:
        each further tenth of the probability takes the time from the 89% quantile to q99.

        Args:
            quantiles: (n, 99) hours at `LEVELS`.
        """
        read = self.levels()
        padded = np.concatenate([np.zeros((len(quantiles), 1)), quantiles], axis=1)
        rank = np.clip(read * (len(LEVELS) + 1), 0, len(LEVELS))
        below = np.minimum(np.floor(rank).astype(np.int64), len(LEVELS) - 1)
        low, high = padded[:, below], padded[:, below + 1]
        beyond = np.maximum(np.log10((1 - LEVELS[-1]) / np.maximum(1 - read, 1e-9)), 0.0)
        tail = quantiles[:, -1] - quantiles[:, -11]
        recalibrated: Floats = low + (rank - below) * (high - low) + tail[:, None] * beyond
        return recalibrated
