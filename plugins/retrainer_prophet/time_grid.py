"""The grid over the time since the last post, on which the hazard is piecewise constant.

The grid is divided into cells. Neighbouring cells may share a class, which has one baseline rate: cells stay short
because each has a clock time of its own, long after the baseline needs so fine a grid. Each cell is divided into parts
of equal hazard, so that posts may cluster within a cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PARTS = 16  # per cell
_UNIFORM_POSTS = 20.0  # prior weight, in posts, of a constant hazard within a cell

_MINUTES = np.array([0, 1 / 6, 1 / 2, 1, 2, 4, 8, 15, 30, 45]) / 60

# In hours, up to a year: minutes at first, hours up to three days, then ever coarser steps.
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
MIDPOINTS = (STARTS + ENDS) / 2
NUM_CELLS = len(MIDPOINTS)

_CLASS_EDGES = np.concatenate(
    [
        _MINUTES,
        np.arange(1, 49),
        [54, 60, 66, 72, 84, 96, 108, 120, 144, 168, 216, 264, 336, 504, 720, 1080, 2160],
    ]
)
CELL_CLASS: Integers = np.searchsorted(_CLASS_EDGES, MIDPOINTS, side="right") - 1  # (cells,)
NUM_CLASSES = len(_CLASS_EDGES)

_STAGE_HOURS = np.array([1 / 30, 1 / 3, 1.5, 5, 14, 36])
# (cells, 6): the weights of six overlapping stages of the silence in each cell; rows sum to 1.
STAGE_WEIGHTS: Floats = np.column_stack(
    [np.interp(np.log(MIDPOINTS), np.log(_STAGE_HOURS), weight) for weight in np.eye(len(_STAGE_HOURS))]
)
LOG_SILENCE: Floats = np.clip(np.log(MIDPOINTS) / 2, -2, 2)  # (cells,) bounded


def cell_shapes(gaps: Floats) -> Floats:
    """Return (cells, PARTS + 1) how far into each cell, as a share of its width, its parts begin and end.

    A part holds 1/PARTS of the cell's cumulative hazard. A feed may post on the hour: then gaps cluster, and the hazard
    is not constant even within an hour. The shape is the Nelson-Aalen estimate (Aalen 1978, "Nonparametric inference
    for a family of counting processes") from the gaps that end in the cell, shrunk towards a constant hazard.

    Args:
        gaps: (n,) hours.
    """
    ordered = np.sort(gaps)
    at_risk = np.arange(len(ordered), 0, -1)
    cells = np.searchsorted(EDGES, ordered, side="left") - 1
    uniform = np.linspace(0, 1, PARTS + 1)
    shapes = np.tile(uniform, (NUM_CELLS, 1))
    for cell in np.unique(cells[(cells >= 0) & (cells < NUM_CELLS)]):
        in_cell = cells == cell
        share = (ordered[in_cell] - STARTS[cell]) / WIDTHS[cell]
        hazard = np.cumsum(1 / at_risk[in_cell])
        weight = len(share) / (len(share) + _UNIFORM_POSTS)
        # The estimate is a step function: its value just before and at each post.
        elapsed = np.concatenate([[0.0], np.repeat(share, 2), [1.0]])
        steps = np.column_stack([np.append(0.0, hazard[:-1]), hazard]).ravel()
        cumulative = weight * np.concatenate([[0.0], steps, hazard[-1:]]) / hazard[-1] + (1 - weight) * elapsed
        shapes[cell] = np.interp(uniform, cumulative, elapsed)
    return shapes


def cells_reached(gaps: Floats) -> Integers:
    """Return (n,) the number of cells that each gap in hours reached."""
    return np.clip(np.searchsorted(EDGES, gaps, side="left"), 1, NUM_CELLS)


def split_gaps(gaps: Floats, shapes: Floats) -> tuple[Integers, Integers, Floats, NDArray[np.bool_]]:
    """Return the cells that each gap reached, one row per gap and cell.

    Args:
        gaps: (n,) hours, above 0. What lies beyond the last cell is left out.
        shapes: (cells, PARTS + 1) see `cell_shapes`.

    Returns:
        Four arrays (rows,): the gap, the cell, the exposure in hours, and whether the gap ended in the cell. In that
        cell the exposure is the cell's width times the share of its cumulative hazard, not of its time, that passed.
    """
    reached = cells_reached(gaps)
    gap = np.repeat(np.arange(len(gaps)), reached)
    cell = np.arange(len(gap)) - np.repeat(np.cumsum(reached) - reached, reached)
    ended = (cell == reached[gap] - 1) & (gaps[gap] <= EDGES[-1])
    share = np.ones(len(gap))
    last_rows = np.flatnonzero(ended)
    for last_cell in np.unique(cell[last_rows]):
        rows = last_rows[cell[last_rows] == last_cell]
        elapsed = (gaps[gap[rows]] - STARTS[last_cell]) / WIDTHS[last_cell]
        share[rows] = np.interp(elapsed, shapes[last_cell], np.linspace(0, 1, PARTS + 1))
    return gap, cell, np.maximum(share * WIDTHS[cell], 1e-6), ended


def part_edges(shapes: Floats) -> Floats:
    """Return (cells · PARTS + 1,) hours: the edges of the parts of all cells, within which the hazard is constant."""
    return np.append((STARTS[:, None] + WIDTHS[:, None] * shapes[:, :-1]).ravel(), EDGES[-1])
