"""Recalibrate the hazard by the number of events that it expects since the last post.

With a correct hazard, the posts expected until the next one are a unit exponential variable. Where the hazard is too
high or too low soon after a post, a factor corrects it: observed over expected posts in each bin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.time_grid import Floats

BIN_GAPS = 400  # the last known gaps, which the factors rest on
_UNIT = 2.0**-32  # of expected posts: sums of whole units are exact up to a million posts


def in_units(expected: Floats) -> Floats:
    """Return (n,) expected posts, rounded so that their sums are exact: the same wherever a sum begins."""
    rounded: Floats = np.rint(expected / _UNIT) * _UNIT
    return rounded


_EDGES = in_units(np.array([0, 0.02, 0.05, 0.1, 0.18, 0.29, 0.41, 0.55, 0.7, 0.87, 1.05, 1.3, 1.6, 2, 2.5, 3.2, 4.2]))
_WIDTHS = np.append(np.diff(_EDGES), np.inf)
_PRIOR = 30.0  # weight of the factor of the bin before, in posts

NUM_BINS = len(_EDGES)
NUM_CORRECTED = 7  # bins, up to 0.55 posts; in format 4 all


def exposure_per_bin(expected: Floats) -> Floats:
    """Return (n, bins) the part of (n,) expected posts in each bin."""
    exposure: Floats = np.clip(expected[:, None] - _EDGES, 0.0, _WIDTHS)
    return exposure


def events_per_bin(expected: Floats, ended: NDArray[np.bool_]) -> Floats:
    """Return (n, bins) 1 in the bin of the expected posts of each gap that ended."""
    events = np.zeros((len(expected), NUM_BINS))
    events[np.arange(len(expected)), np.searchsorted(_EDGES, expected, side="right") - 1] = ended
    return events


def bin_factors(events: Floats, exposure: Floats, corrected: int = NUM_CORRECTED) -> Floats:
    """Return (n, bins) observed over expected posts, each shrunk to the factor of the bin before; beyond these bins 1.

    A deep silence would be corrected by a factor from few gaps for what `level`, `pauses` and the recalibration at
    clock times correct already.

    Args:
        events: (n, bins).
        exposure: (n, bins).
        corrected: the number of bins. If all, the last has the factor of the one before.
    """
    factors = np.ones_like(events)
    previous = np.ones(len(events))
    for index in range(min(corrected, NUM_BINS - 1)):
        previous = (events[:, index] + _PRIOR * previous) / (exposure[:, index] + _PRIOR)
        factors[:, index] = previous
    if corrected == NUM_BINS:
        factors[:, -1] = previous
    return factors


def cumulative_hazard(expected: Floats, factors: Floats) -> Floats:
    """Return (n,) the cumulative hazard after (n,) expected posts, by (n, bins) factors."""
    hazard: Floats = (exposure_per_bin(expected) * factors).sum(axis=1)
    return hazard


def expected_at(hazard: Floats, factors: Floats) -> Floats:
    """Return (n,) the expected posts at which the cumulative hazard, recalibrated by (bins,) factors, reaches (n,)."""
    knots = np.append(0.0, np.cumsum(factors[:-1] * _WIDTHS[:-1]))
    expected: Floats = np.interp(hazard, knots, _EDGES) + np.maximum(hazard - knots[-1], 0.0) / factors[-1]
    return expected


def hazard_curve(expected: Floats, factors: Floats) -> Floats:
    """Return (n,) the cumulative hazard after (n,) expected posts, all by the same (bins,) factors."""
    knots = np.append(0.0, np.cumsum(factors[:-1] * _WIDTHS[:-1]))
    curve: Floats = np.interp(expected, _EDGES, knots) + np.maximum(expected - _EDGES[-1], 0.0) * factors[-1]
    return curve
