"""The level of the hazard: observed posts over expected ones, a moving average that follows busier and quieter times.

One level is fast and common to the whole silence; for each stage of the silence, a slower one is shrunk to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.time_grid import MIDPOINTS

if TYPE_CHECKING:
    from retrainer_prophet.time_grid import Floats

LEVEL_GAPS = 800  # before each gap
STAGES = np.searchsorted(np.array([0.5, 2, 6, 12, 36]), MIDPOINTS, side="right")  # (cells,) by hours of silence
NUM_STAGES = int(STAGES[-1]) + 1

_HALF_LIFE, _PRIOR = 40.0, 25.0  # of the common level, in gaps; and the weight of the level 1, in posts
_STAGE_HALF_LIFE, _STAGE_PRIOR = 300.0, 60.0  # of the level of a stage; and the weight of the common one


def stage_levels(observed: Floats, expected: Floats, count: int) -> Floats:
    """Return (count, stages) the level at the beginning of each of the last gaps, the next one included.

    Args:
        observed: (n, stages) posts of consecutive gaps by the stage in which the gap ended.
        expected: (n, stages) posts that the hazard expected in each stage.
        count: how many; n ≥ count − 1.
    """
    missing = max(LEVEL_GAPS + count - 1 - len(observed), 0)
    both = np.concatenate([observed, expected], axis=1)[-(LEVEL_GAPS + count - 1) :]
    both = np.concatenate([np.zeros((missing, 2 * NUM_STAGES)), both])
    fast = _weighted_sums(
        np.column_stack([both[:, :NUM_STAGES].sum(axis=1), both[:, NUM_STAGES:].sum(axis=1)]), _HALF_LIFE
    )
    common = (_PRIOR + fast[:, :1]) / (_PRIOR + fast[:, 1:])
    slow = _weighted_sums(both, _STAGE_HALF_LIFE)
    levels: Floats = (_STAGE_PRIOR + slow[:, :NUM_STAGES]) / (_STAGE_PRIOR / common + slow[:, NUM_STAGES:])
    return levels


def level_shape(observed: Floats) -> float:
    """Return the shape of the gamma distribution of the common level after (n, stages) observed posts of known gaps.

    The level is the mean of a gamma distribution that forgets (Harvey and Fernandes 1989, "Time series models for count
    or qualitative observations"); the shape is the posts that it rests on.
    """
    recent = observed[-LEVEL_GAPS:].sum(axis=1)
    return float(_PRIOR + 0.5 ** (np.arange(len(recent))[::-1] / _HALF_LIFE) @ recent)


def _weighted_sums(values: Floats, half_life: float) -> Floats:
    """Return the exponentially weighted sums over every LEVEL_GAPS rows."""
    weights = 0.5 ** (np.arange(LEVEL_GAPS) / half_life)
    return np.column_stack([np.convolve(column, weights, mode="valid") for column in values.T])
