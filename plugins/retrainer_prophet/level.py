"""The level of the hazard: observed posts over expected ones, a moving average that follows busier and quieter times.

One level is fast and common to the whole silence; for each stage of the silence, a slower one is shrunk to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.time_grid import MIDPOINTS

if TYPE_CHECKING:
    from retrainer_prophet.time_grid import Floats, Integers

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
    return levels_of(fast, _weighted_sums(both, _STAGE_HALF_LIFE))


def levels_of(fast: Floats, slow: Floats) -> Floats:
    """Return (n, stages) levels from weighted sums of posts.

    Args:
        fast: (n, 2) observed and expected posts, with the weights of the common level.
        slow: (n, 2 · stages) observed and expected posts in each stage, with the weights of a stage.
    """
    common = (_PRIOR + fast[:, :1]) / (_PRIOR + fast[:, 1:])
    levels: Floats = (_STAGE_PRIOR + slow[:, :NUM_STAGES]) / (_STAGE_PRIOR / common + slow[:, NUM_STAGES:])
    return levels


@dataclass
class RunningLevels:
    """The levels of several continuations of a stream, each with its own posts.

    Attributes:
        fast: (paths, 2) see `levels_of`.
        slow: (paths, 2 · stages) likewise.
    """

    fast: Floats
    slow: Floats

    @classmethod
    def after(cls, posts: Floats, paths: int) -> RunningLevels:
        """Start all paths after known gaps, given (gaps, 2, stages) observed and expected posts."""
        both = posts[-LEVEL_GAPS:].reshape(-1, 2 * NUM_STAGES)
        age = np.arange(len(both))[::-1]
        sums = [(0.5 ** (age / half_life)) @ both for half_life in (_HALF_LIFE, _STAGE_HALF_LIFE)]
        fast = np.array([sums[0][:NUM_STAGES].sum(), sums[0][NUM_STAGES:].sum()])
        return cls(np.repeat(fast[None], paths, axis=0), np.repeat(sums[1][None], paths, axis=0))

    def of(self, paths: Integers) -> Floats:
        """Return (m, stages) the levels at the next gap of some paths."""
        return levels_of(self.fast[paths], self.slow[paths])

    def add(self, paths: Integers, stages: Integers, expected: Floats) -> None:
        """Add a gap to each of some paths.

        Args:
            paths: (m,) the indices of different paths.
            stages: (m,) the stage in which the gap ended.
            expected: (m, stages) posts that the hazard expected in it.
        """
        observed = np.eye(NUM_STAGES)[stages]
        fast, slow = (0.5 ** (1 / half_life) for half_life in (_HALF_LIFE, _STAGE_HALF_LIFE))
        self.fast[paths] = self.fast[paths] * fast + np.column_stack([np.ones(len(paths)), expected.sum(axis=1)])
        self.slow[paths] = self.slow[paths] * slow + np.concatenate([observed, expected], axis=1)


def _weighted_sums(values: Floats, half_life: float) -> Floats:
    """Return the exponentially weighted sums over every LEVEL_GAPS rows."""
    weights = 0.5 ** (np.arange(LEVEL_GAPS) / half_life)
    return np.column_stack([np.convolve(column, weights, mode="valid") for column in values.T])
