"""Calibration: whether the posts come where the forecast distributions say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CalibrationWord = Literal["well calibrated", "too narrow", "too wide", "late", "early", "too few posts to say"]

FIFTHS = 5
_LEVEL = 0.05  # of either finding, however often one looks
_PRIOR_POSTS = 50  # the number of posts at which the bound is tightest
_VARIANCE = 1 / 12  # of a uniform variable, which is sub-Gaussian with its own variance
_MIN_DEVIATION = 0.03  # a smaller one does not matter
_MAX_BOUND = 0.1  # with a larger one, a deviation that matters could be hidden


@dataclass(frozen=True)
class Calibration:
    """How well forecast distributions fit what came.

    Attributes:
        num_posts: the number of posts.
        fifths: the shares of the posts in the five fifths of their forecast distributions, the earliest first; each is
            0.2 if the forecasts are calibrated.
        word: what the posts show: `early` if they come later than forecast, `late` if they come earlier.
    """

    num_posts: int
    fifths: list[float]
    word: CalibrationWord


@dataclass
class PitSums:
    """The probability integral transform (PIT) of n posts: the probability that the forecast gave to a shorter wait.

    If the forecasts are calibrated, it is uniform from 0 to 1, given all that was known before.

    Attributes:
        count: n.
        fifths: (5,) the number of posts in each fifth of their forecast distributions, the earliest first.
        location: the sum of u - 1/2.
        spread: the sum of |2 u - 1| - 1/2.
    """

    count: int
    fifths: NDArray[np.int64]
    location: float
    spread: float

    @classmethod
    def empty(cls) -> PitSums:
        """Return the sums of no posts."""
        return cls(0, np.zeros(FIFTHS, dtype=np.int64), 0.0, 0.0)

    def add(self, pit: NDArray[np.float64]) -> None:
        self.count += len(pit)
        fifth = np.minimum((pit * FIFTHS).astype(np.int64), FIFTHS - 1)
        self.fifths = self.fifths + np.bincount(fifth, minlength=FIFTHS)
        self.location += float((pit - 0.5).sum())
        self.spread += float((np.abs(2 * pit - 1) - 0.5).sum())

    def result(self) -> Calibration:
        """Return the shares, and what the posts show: the larger of the two deviations, if it is certain and matters.

        Both deviations are held against a bound that holds at any number of looks: with a probability of 95%, neither
        sum of calibrated forecasts ever leaves it.

        Source: Howard, Ramdas, McAuliffe and Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences,
        Annals of Statistics 2021, equation 14 (the two-sided normal mixture).
        """
        n = max(self.count, 1)
        mixed = n + _PRIOR_POSTS
        bound = math.sqrt(_VARIANCE * mixed * math.log(mixed / (_PRIOR_POSTS * (_LEVEL / 2) ** 2))) / n
        location, spread = self.location / n, self.spread / n
        word: CalibrationWord = "well calibrated" if bound <= _MAX_BOUND else "too few posts to say"
        if max(abs(location), abs(spread)) > max(bound, _MIN_DEVIATION):
            if abs(spread) >= abs(location):
                word = "too narrow" if spread > 0 else "too wide"
            else:
                word = "early" if location > 0 else "late"
        return Calibration(self.count, [float(count) / n for count in self.fifths], word)
