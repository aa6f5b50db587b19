"""Simulated futures: the posts after an origin, drawn one after another, all futures (paths) at once.

The first wait is drawn from the forecast. Each later one is drawn from the hazard in force at the origin, given the
path's own posts: their gaps, counts and habits enter the features as those of known posts do. The level is less certain
than one wait shows: each path draws its own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import LEVELS
from retrainer_prophet.expected_events import expected_at
from retrainer_prophet.paths import RATE_HOURS
from retrainer_prophet.time_grid import EDGES, NUM_CELLS, PARTS, STARTS, WIDTHS

if TYPE_CHECKING:
    from retrainer_prophet.hazard import Hazard
    from retrainer_prophet.paths import Paths
    from retrainer_prophet.time_grid import Floats, Integers

log = logging.getLogger(__name__)

_BLOCKS = (0, 10, 16, 24, 34, 58, 82, NUM_CELLS)  # of cells that are looked at together; most waits end in the first
_LIMITED_SHARE = 0.05  # of the paths, that is logged
_MIN_RATE = 1e-5  # posts per hour beyond the last cell


@dataclass(frozen=True)
class WaitSampler:
    """Draws the wait after each post from the hazard in force at the origin.

    Attributes:
        hazard: the hazard.
        level: (cells,) its level.
        factors: (bins,) see `expected_events`.
        path_levels: (paths,) a factor of the level for each path.
    """

    hazard: Hazard
    level: Floats
    factors: Floats
    path_levels: Floats

    def draw(self, history: Paths, paths: Integers, exponential: Floats, end: float) -> Floats:
        """Return (m,) hours; `inf` where the wait ends later than the time `end`, or about there.

        Args:
            history: the last posts of the paths.
            paths: (m,) the indices of the paths.
            exponential: (m,) the cumulative hazard at which each wait ends.
            end: hours since the Monday.
        """
        waits = np.full(len(paths), np.inf)
        target = expected_at(exponential, self.factors)  # posts expected until the wait ends
        passed = np.zeros(len(paths))
        left = np.arange(len(paths))
        for first, last in pairwise(_BLOCKS):
            left = left[history.hours[paths[left]] + STARTS[first] <= end]
            if len(left) == 0:
                return waits
            cells = np.arange(first, last)
            rates = self.hazard.rates(history, np.repeat(paths[left], len(cells)), np.tile(cells, len(left)))
            levels = self.level[cells] * self.path_levels[paths[left], None]
            expected = rates.reshape(len(left), len(cells)) * WIDTHS[cells] * levels
            until = passed[left, None] + np.cumsum(expected, axis=1)
            reached = until >= target[left, None]
            ended = reached[:, -1]
            column = reached[ended].argmax(axis=1)
            missing = (until[ended, column] - target[left[ended]]) / expected[ended, column]
            waits[left[ended]] = self._within(cells[column], 1 - missing)
            passed[left], last_rate = until[:, -1], expected[:, -1] / WIDTHS[last - 1]
            left, last_rate = left[~ended], last_rate[~ended]
        waits[left] = EDGES[-1] + (target[left] - passed[left]) / np.maximum(last_rate, _MIN_RATE)
        return waits

    def _within(self, cells: Integers, share: Floats) -> Floats:
        """Return (m,) hours at a share of the posts expected in a cell."""
        part = np.clip(share, 0, 1) * PARTS
        below = np.minimum(part.astype(np.int64), PARTS - 1)
        shapes = self.hazard.shapes
        low, high = shapes[cells, below], shapes[cells, below + 1]
        hours: Floats = STARTS[cells] + WIDTHS[cells] * (low + (part - below) * (high - low))
        return hours


def simulate_posts(
    history: Paths,
    sampler: WaitSampler,
    quantiles: Floats,
    origin: float,
    same_time: float,
    *,
    horizon_hours: float,
    max_posts: int,
    seed: int,
) -> Floats:
    """Return (paths, k) hours from the origin to the posts of each path; `inf` beyond the horizon.

    Args:
        history: at the last known post.
        sampler: of the waits after the first.
        quantiles: (99,) the forecast of the first wait.
        origin: hours since the Monday.
        same_time: the probability that a post has the same time as the one before.
        horizon_hours: see the hook `simulate`.
        max_posts: likewise.
        seed: likewise.
    """
    random = np.random.default_rng(seed)
    paths = len(history.hours)
    end = origin + horizon_hours
    hours = np.full((paths, max_posts), np.inf)
    first = (random.permutation(paths) + random.random(paths)) / paths  # one level from each of equal strata
    hours[:, 0] = _at_levels(quantiles, first)
    alive = hours[:, 0] <= horizon_hours
    # A post right at the origin may have the time of the last one, and is no event of the hazard.
    moved = np.flatnonzero((hours[:, 0] > 0) | (origin > history.known[-1]))
    history.advance(moved, origin + hours[moved, 0])
    for number in range(1, max_posts):
        repeated, exponential = random.random(paths) < same_time, random.exponential(size=paths)
        again = alive & repeated
        hours[again, number] = hours[again, number - 1]
        drawn = np.flatnonzero(alive & ~repeated)
        next_posts = history.hours[drawn] + sampler.draw(history, drawn, exponential[drawn], end)
        alive[drawn[next_posts > end]] = False
        if not alive.any():
            break
        drawn, next_posts = drawn[next_posts <= end], next_posts[next_posts <= end]
        history.advance(drawn, next_posts)
        hours[drawn, number] = history.hours[drawn] - origin
    if history.limited.mean() > _LIMITED_SHARE:
        log.warning(
            "%d of %d simulated futures were limited to %d posts in %d hours, twice the highest rate so far",
            history.limited.sum(),
            paths,
            history.limit,
            RATE_HOURS,
        )
    return np.where(hours <= horizon_hours, hours, np.inf)


def _at_levels(quantiles: Floats, levels: Floats) -> Floats:
    """Return (m,) the wait at any levels, beyond the last quantile with an exponential tail."""
    tail = np.log10((1 - LEVELS[-1]) / (1 - levels)) * (quantiles[-1] - quantiles[-11])
    waits: Floats = np.interp(levels, np.append(0.0, LEVELS), np.append(0.0, quantiles)) + np.maximum(tail, 0.0)
    return waits
