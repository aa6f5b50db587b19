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

PARTS = 16  # of a cell, in each of which the hazard is even
_EVEN_POSTS = 20.0  # that say that the hazard of a cell is even

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


def shapes(gaps: Floats) -> Floats:
    """Return (cells, PARTS + 1): where within each cell its hazard has reached 0, 1/PARTS, … 1, as shares of its width.

    A feed may post on the hour: then the gaps lie close together, and even the hazard of an hour is not even. The shape
    is that of the Nelson-Aalen estimate (Aalen 1978, "Nonparametric inference for a family of counting processes") of
    the gaps in the cell, drawn to the even one.

    Args:
        gaps: (n,) hours.
    """
    ordered = np.sort(gaps)
    at_risk = len(ordered) - np.arange(len(ordered))
    cell = np.searchsorted(EDGES, ordered, side="left") - 1
    even = np.linspace(0, 1, PARTS + 1)
    found = np.tile(even, (CELLS, 1))
    inside = (cell >= 0) & (cell < CELLS)
    for place in np.unique(cell[inside]):
        mine = cell == place
        share = (ordered[mine] - STARTS[place]) / WIDTHS[place]
        rise = np.cumsum(1 / at_risk[mine])
        weight = len(share) / (len(share) + _EVEN_POSTS)
        # The estimate is a flight of steps: just before each post, and at it.
        at = np.concatenate([[0.0], np.repeat(share, 2), [1.0]])
        steps = np.column_stack([np.append(0.0, rise[:-1]), rise]).ravel()
        reached = weight * np.concatenate([[0.0], steps, rise[-1:]]) / rise[-1] + (1 - weight) * at
        found[place] = np.interp(even, reached, at)
    return found


def cells_passed(gaps: Floats, shape: Floats) -> tuple[Integers, Integers, Floats, NDArray[np.bool_]]:
    """Return the cells that each gap began, one row each: the gap, the cell, the hours spent in it, the post in it?

    Of the cell in which the post came, the hours are counted by its shape: the share of the hazard that was passed, not
    that of the time.

    Args:
        gaps: (n,) hours, above 0. What is beyond the last cell is left out.
        shape: (cells, PARTS + 1) see `shapes`.
    """
    begun = np.clip(np.searchsorted(EDGES, gaps, side="left"), 1, CELLS)
    gap = np.repeat(np.arange(len(gaps)), begun)
    cell = np.arange(len(gap)) - np.repeat(np.cumsum(begun) - begun, begun)
    came = (cell == begun[gap] - 1) & (gaps[gap] <= EDGES[-1])
    passed = np.ones(len(gap))
    last = np.flatnonzero(came)
    for place in np.unique(cell[last]):
        mine = last[cell[last] == place]
        share = (gaps[gap[mine]] - STARTS[place]) / WIDTHS[place]
        passed[mine] = np.interp(share, shape[place], np.linspace(0, 1, PARTS + 1))
    return gap, cell, np.maximum(passed * WIDTHS[cell], 1e-6), came


def fine_edges(shape: Floats) -> Floats:
    """Return (cells · PARTS + 1,) hours: the edges of the parts of all cells, in each of which the hazard is even."""
    hours: Floats = np.append((STARTS[:, None] + WIDTHS[:, None] * shape[:, :-1]).ravel(), EDGES[-1])
    return hours
