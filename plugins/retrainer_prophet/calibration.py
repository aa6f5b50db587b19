"""What the gaps that an origin already knows tell of the forecasts: a level, and a recalibration.

The level corrects the hazard where a stream has become busier or quieter since training, by stages of the silence:
posts that came against posts that were expected, a moving average that starts from 1. The recalibration lets forecasts
at level p come true in a share p of cases: the histogram of the probability integral transform (Dawid 1984,
"Statistical theory: the prequential approach") of the gaps before the origin, drawn to the even one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.elapsed_time import MIDDLES, cells_passed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.features import History
    from retrainer_prophet.hazard import Hazard

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

GAPS = 600  # before each origin are looked at

_STAGES = np.searchsorted(np.array([0.5, 2, 6, 12, 36]), MIDDLES, side="right")  # (cells,) hours of silence
_STAGE_COUNT = int(_STAGES[-1]) + 1
_HALF_LIFE = 300.0  # of the level, in gaps
_LEVEL_PRIOR = 60.0  # posts that say that nothing has changed
_PIT_GAPS = 300
_PIT_BINS = 10
_PIT_PRIOR = 150.0  # gaps that say that the forecasts are calibrated


@dataclass(frozen=True)
class Experience:
    """What n origins have learnt.

    Attributes:
        level: (n, cells) by what factor the hazard is corrected.
        calibration: (n, bins + 1) the share of gaps whose forecast distribution was at most 0, 1/bins, … 1 at the post.
    """

    level: Floats
    calibration: Floats

    @classmethod
    def at(cls, history: History, hazard: Hazard, posts: Integers) -> Experience:
        """Look back from each post over the gaps before it.

        Args:
            history: posts up to the last origin, and enough before the first.
            hazard: the fitted hazard.
            posts: (n,) the last post that each origin knows, by its place in the history.
        """
        came, expected = _gaps_before(history, hazard, posts)
        weights = 0.5 ** (np.arange(GAPS) / _HALF_LIFE)
        level = np.ones((len(posts), _STAGE_COUNT))
        counts = np.zeros((len(posts), _PIT_BINS))
        for row, post in enumerate(posts):
            known = slice(max(0, post - GAPS), post)
            recent = weights[: known.stop - known.start][::-1]
            level[row] = (_LEVEL_PRIOR + recent @ came[known]) / (_LEVEL_PRIOR + recent @ expected[known])
            passed = -np.expm1(-(expected[known][-_PIT_GAPS:] @ level[row]))
            counts[row] = np.bincount(np.minimum((passed * _PIT_BINS).astype(int), _PIT_BINS - 1), minlength=_PIT_BINS)
        shares = np.cumsum(counts + _PIT_PRIOR / _PIT_BINS, axis=1)
        calibration = np.concatenate([np.zeros((len(posts), 1)), shares / shares[:, -1:]], axis=1)
        return cls(level[:, _STAGES], calibration)


def _gaps_before(history: History, hazard: Hazard, posts: Integers) -> tuple[Floats, Floats]:
    """Return (posts, stages) twice: the post that ended the gap after each post, and what was expected of the gap.

    Only the gaps that some origin looks at are computed; the others are 0.
    """
    last = int(posts.max())
    looked_at = np.zeros(last + 1, dtype=np.int64)
    np.add.at(looked_at, np.maximum(posts - GAPS, 0), 1)
    np.add.at(looked_at, posts, -1)
    chosen = np.flatnonzero(np.cumsum(looked_at)[:last] > 0)
    came, expected = np.zeros((last, _STAGE_COUNT)), np.zeros((last, _STAGE_COUNT))
    if len(chosen):
        gap, cell, spent, ended = cells_passed(np.diff(history.hours)[chosen], hazard.shape)
        place, stage = chosen[gap], _STAGES[cell]
        np.add.at(expected, (place, stage), hazard.rates(history, place, cell) * spent)
        np.add.at(came, (place[ended], stage[ended]), 1.0)
    return came, expected
