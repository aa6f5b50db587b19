"""Correct the hazard by the gaps that an origin already knows: a level and a recalibration.

The level follows a stream that became busier or quieter after training. For each stage of the silence it is a moving
average, starting from 1, of observed posts over expected ones. The recalibration makes forecasts at level p come true
in a share p of cases: it is the cumulative histogram of the probability integral transform, PIT (Dawid 1984,
"Statistical theory: the prequential approach"), of the gaps before the origin, shrunk to the uniform distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.time_grid import MIDPOINTS, split_gaps

if TYPE_CHECKING:
    from retrainer_prophet.features import History
    from retrainer_prophet.hazard import Hazard
    from retrainer_prophet.time_grid import Floats, Integers

CALIBRATION_GAPS = 600  # before each origin

_STAGES = np.searchsorted(np.array([0.5, 2, 6, 12, 36]), MIDPOINTS, side="right")  # (cells,) by hours of silence
_NUM_STAGES = int(_STAGES[-1]) + 1
_HALF_LIFE = 300.0  # of the level, in gaps
_LEVEL_PRIOR = 60.0  # weight of the level 1, in posts
_PIT_GAPS = 300
_PIT_BINS = 10
_PIT_PRIOR = 150.0  # weight of the uniform distribution, in gaps


def calibrate(history: History, hazard: Hazard, posts: Integers) -> tuple[Floats, Floats]:
    """Compare the gaps before each post with what the hazard expected.

    Args:
        history: posts up to the last origin, and enough before the first.
        hazard: the fitted hazard.
        posts: (n,) the index in the history of the last post that each origin knows.

    Returns:
        (n, cells) the level, a factor of the hazard, and (n, bins + 1) the share of gaps whose PIT was at most 0,
        1/bins, … 1.
    """
    observed, expected = _posts_per_stage(history, hazard, posts)
    weights = 0.5 ** (np.arange(CALIBRATION_GAPS) / _HALF_LIFE)
    level = np.ones((len(posts), _NUM_STAGES))
    counts = np.zeros((len(posts), _PIT_BINS))
    for row, post in enumerate(posts):
        known = slice(max(0, post - CALIBRATION_GAPS), post)
        recent = weights[: known.stop - known.start][::-1]
        level[row] = (_LEVEL_PRIOR + recent @ observed[known]) / (_LEVEL_PRIOR + recent @ expected[known])
        pit = -np.expm1(-(expected[known][-_PIT_GAPS:] @ level[row]))
        counts[row] = np.bincount(np.minimum((pit * _PIT_BINS).astype(int), _PIT_BINS - 1), minlength=_PIT_BINS)
    cumulative = np.cumsum(counts + _PIT_PRIOR / _PIT_BINS, axis=1)
    shares = np.concatenate([np.zeros((len(posts), 1)), cumulative / cumulative[:, -1:]], axis=1)
    return level[:, _STAGES], shares


def _posts_per_stage(history: History, hazard: Hazard, posts: Integers) -> tuple[Floats, Floats]:
    """Return (gaps, stages) observed and (gaps, stages) expected posts of the gap after each post.

    Gaps that no origin looks back at stay 0.
    """
    needed = np.unique(np.concatenate([np.arange(max(0, post - CALIBRATION_GAPS), post) for post in posts]))
    gap, cell, exposure, ended = split_gaps(np.diff(history.hours)[needed], hazard.shapes)
    index, stage = needed[gap], _STAGES[cell]
    observed, expected = np.zeros((2, int(posts.max()), _NUM_STAGES))
    np.add.at(expected, (index, stage), hazard.rates(history, index, cell) * exposure)
    np.add.at(observed, (index[ended], stage[ended]), 1.0)
    return observed, expected
