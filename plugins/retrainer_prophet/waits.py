"""The distribution of the wait from an origin, and the rule for its point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import LEVELS, PointRule, PseudoOrigins
from retrainer_prophet.expected_events import cumulative_hazard, hazard_curve
from retrainer_prophet.level import STAGES
from retrainer_prophet.pauses import hazard_with_pauses, pause_survival
from retrainer_prophet.time_grid import EDGES, NUM_CELLS, PARTS, WIDTHS, part_edges

if TYPE_CHECKING:
    from retrainer_prophet.known_gaps import KnownGaps
    from retrainer_prophet.stream import Stream
    from retrainer_prophet.time_grid import Floats, Integers

RULE_GAPS = 400  # before a checkpoint, by which the rules for the point are decided …
_RULE_STRIDE = 4  # … taking every fourth
_CELL_EDGES, _PART_OF_EDGE = np.arange(NUM_CELLS + 1), np.arange(NUM_CELLS * PARTS + 1) / PARTS
_MIN_RATE = 1e-5  # posts per hour beyond the last cell
_HOURS_BEYOND = np.geomspace(EDGES[-1], 300 * EDGES[-1], 120)[1:]  # centuries: a pause may be followed by a longer one


def quantiles_of_waits(
    stream: Stream, known: KnownGaps, numbers: Integers, silence: Floats, same_time: float
) -> Floats:
    """Return (n, 99) quantiles of the wait in hours.

    Args:
        stream: the posts.
        known: the gaps up to the last origin.
        numbers: (n,) the gap of each origin.
        silence: (n,) hours since its last post.
        same_time: the probability that the next post has the same time as the last, right after it.
    """
    gaps, inverse = np.unique(numbers, return_inverse=True)
    return _quantiles(stream, known, numbers, silence, same_time, _expected_posts(stream, known, gaps)[inverse])


def decide_rules(stream: Stream, known: KnownGaps, checkpoint: int) -> tuple[PointRule, PointRule]:
    """Return the rules for the point right after posts and at clock times, by the gaps before a checkpoint."""
    gaps = np.arange(max(checkpoint - RULE_GAPS, stream.first), checkpoint)
    gaps = gaps[gaps % _RULE_STRIDE == 0]
    wait = stream.hours[gaps + stream.offset + 1] - stream.hours[gaps + stream.offset]
    inside = PseudoOrigins.inside(wait, gaps)
    # One of the strata of each gap stands for all.
    first = np.searchsorted(inside.gap, np.arange(len(gaps)))
    chosen = first + gaps // _RULE_STRIDE % np.bincount(inside.gap, minlength=len(gaps))
    silence = inside.silence[chosen]
    age = checkpoint - gaps
    after_posts, by_clock = stream.fitted.constants
    expected = _expected_posts(stream, known, gaps)
    from_posts = _quantiles(stream, known, gaps, np.zeros(len(gaps)), 0.0, expected)
    from_clock = _quantiles(stream, known, gaps, silence, 0.0, expected)
    return (
        PointRule.decide(from_posts, wait, np.ones(len(gaps)), age, after_posts),
        PointRule.decide(from_clock, wait - silence, wait, age, by_clock, silence),
    )


def _quantiles(
    stream: Stream, known: KnownGaps, numbers: Integers, silence: Floats, same_time: float, expected: Floats
) -> Floats:
    """Return (n, 99) quantiles, by (n, cells) expected posts in the gap of each origin."""
    edges = part_edges(stream.fitted.hazard.shapes)
    rate_beyond = np.maximum(expected[:, -1] / WIDTHS[-1], _MIN_RATE)
    cumulative = np.concatenate([np.zeros((len(numbers), 1)), np.cumsum(expected, axis=1)], axis=1)
    part = np.interp(silence, edges, _PART_OF_EDGE)
    rows, cell = np.arange(len(numbers)), np.minimum(part.astype(np.int64), NUM_CELLS - 1)
    so_far = cumulative[rows, cell] + expected[rows, cell] * (part - cell)
    so_far += np.maximum(silence - EDGES[-1], 0.0) * rate_beyond
    factors = known.factors(numbers, so_far, stream.fitted)
    scale = stream.fitted.pause_scale
    hazard_so_far = hazard_with_pauses(cumulative_hazard(so_far, factors), pause_survival(silence, scale))
    hours = np.append(edges, _HOURS_BEYOND)
    pauses = pause_survival(hours, scale)
    posts = np.empty(len(hours))
    quantiles = np.empty((len(numbers), len(LEVELS)))
    for row in rows:
        probability = same_time if silence[row] == 0 else 0.0
        levels = np.clip((LEVELS - probability) / (1 - probability), 0, 1)
        posts[: len(edges)] = np.interp(_PART_OF_EDGE, _CELL_EDGES, cumulative[row])
        posts[len(edges) :] = posts[len(edges) - 1] + (_HOURS_BEYOND - EDGES[-1]) * rate_beyond[row]
        hazard = hazard_with_pauses(hazard_curve(posts, factors[row]), pauses)
        until = np.interp(hazard_so_far[row] - np.log1p(-levels), hazard, hours)
        waits = np.maximum.accumulate(np.maximum(until - silence[row], 0.0))
        if silence[row] > 0:
            waits = known.recalibration(int(numbers[row])).apply(waits[None])[0]
        quantiles[row] = waits
    return quantiles


def _expected_posts(stream: Stream, known: KnownGaps, gaps: Integers) -> Floats:
    """Return (n, cells) the posts expected in each cell of gaps, in ascending order, without the recalibrations."""
    expected = np.empty((len(gaps), NUM_CELLS))
    checkpoints = stream.checkpoints(gaps)
    cells = np.arange(NUM_CELLS)
    history = stream.history_of(int(gaps[0]), int(gaps[-1]))
    for checkpoint in np.unique(checkpoints):
        here = np.flatnonzero(checkpoints == checkpoint)
        posts = np.repeat(gaps[here] + stream.offset, NUM_CELLS)
        rates = stream.hazard(int(checkpoint)).rates(history, posts, np.tile(cells, len(here)))
        expected[here] = rates.reshape(len(here), NUM_CELLS) * WIDTHS
    return expected * known.levels[gaps - known.first][:, STAGES]
