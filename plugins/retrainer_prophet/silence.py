"""The time since the last post, cut into cells.

A cell is what the hazard is integrated over; within one, posts come at an even rate. Several cells may share a class,
which has a rate of its own: the clock is told apart longer than the silence is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

_MINUTES = np.array([0, 1 / 6, 1 / 2, 1, 2, 4, 8, 15, 30, 45]) / 60

# Hours: by the minute at first, by the hour to three days, then ever coarser, to a year.
EDGES: Floats = np.concatenate(
    [
        _MINUTES,
        np.arange(1, 73),
        np.arange(75, 169, 3),
        np.arange(174, 337, 6),
        np.arange(360, 721, 24),
        np.arange(840, 2161, 120),
        np.arange(2880, 8761, 730),
    ]
).astype(float)
STARTS, ENDS = EDGES[:-1], EDGES[1:]
WIDTHS = ENDS - STARTS
MIDDLES = (STARTS + ENDS) / 2
CELLS = len(MIDDLES)

_CLASS_EDGES = np.concatenate(
    [
        _MINUTES,
        np.arange(1, 49),
        [54, 60, 66, 72, 84, 96, 108, 120, 144, 168, 216, 264, 336, 504, 720, 1080, 2160],
    ]
)
CLASS: Integers = np.searchsorted(_CLASS_EDGES, MIDDLES, side="right") - 1
CLASSES = len(_CLASS_EDGES)

_STAGE_HOURS = np.array([1 / 30, 1 / 3, 1.5, 5, 14, 36])
# (cells, 6): how far each cell belongs to each stage of a silence, as weights that sum to 1.
STAGES: Floats = np.column_stack(
    [np.interp(np.log(MIDDLES), np.log(_STAGE_HOURS), weight) for weight in np.eye(len(_STAGE_HOURS))]
)
# (cells,): the logarithm of the silence, bounded.
LOG_SILENCE: Floats = np.clip(np.log(MIDDLES) / 2, -2, 2)


def cells_passed(gaps: Floats) -> tuple[Integers, Integers, Floats, NDArray[np.bool_]]:
    """Return the cells that each gap began, one row each: the gap, the cell, the hours spent in it, the post in it?

    Args:
        gaps: (n,) hours, above 0. What is beyond the last cell is left out.
    """
    begun = np.clip(np.searchsorted(EDGES, gaps, side="left"), 1, CELLS)
    gap = np.repeat(np.arange(len(gaps)), begun)
    cell = np.arange(len(gap)) - np.repeat(np.cumsum(begun) - begun, begun)
    spent = np.maximum(np.minimum(gaps[gap], ENDS[cell]) - STARTS[cell], 1e-6)
    came = (cell == begun[gap] - 1) & (gaps[gap] <= EDGES[-1])
    return gap, cell, spent, came
