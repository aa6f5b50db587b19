"""Forecasts of versions in format 3, which an earlier release trained: they never change.

Their hazard is fitted once. A level, for each stage of the silence a moving average of observed over expected posts,
follows a stream that became busier or quieter after training. The recalibration makes forecasts at level p come true
in a share p of cases: it is the cumulative histogram of the probability integral transform, PIT (Dawid 1984,
"Statistical theory: the prequential approach"), of the gaps before the origin, shrunk to the uniform distribution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import LEVELS, TimingForecasts, hours_between, utc_times
from retrainer_prophet.features import LOOKBACK_GAPS, LOOKBACK_HOURS, History
from retrainer_prophet.hazard import Hazard
from retrainer_prophet.level import NUM_STAGES, STAGES
from retrainer_prophet.seasonality import WeeklyProfile, hours_since_monday
from retrainer_prophet.time_grid import NUM_CELLS, PARTS, WIDTHS, part_edges, split_gaps

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins
    from retrainer_prophet.time_grid import Floats, Integers

FORMAT = 3

_CALIBRATION_GAPS = 600  # before each origin

_HALF_LIFE = 300.0  # of the level, in gaps
_LEVEL_PRIOR = 60.0  # weight of the level 1, in posts
_PIT_GAPS = 300
_PIT_BINS = 10
_PIT_PRIOR = 150.0  # weight of the uniform distribution, in gaps
_MIN_SURVIVAL = 1e-9
_MIN_RATE = 1e-5  # posts per hour beyond the last cell


def predict_waits(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the quantiles of the wait from each origin, in hours, and the point that maximises the score."""
    times = utc_times(posts)
    last_times = times[origins.position]
    hours = hours_since_monday(_required_times(times, origins.position))
    history = History.from_hours(hours, WeeklyProfile.from_dict(model["rhythm"]), model["usual_gap"])
    hazard = Hazard.from_dict(model["hazard"])
    last_posts, inverse = np.unique(
        np.searchsorted(hours, hours_since_monday(last_times), side="right") - 1, return_inverse=True
    )
    count = len(last_posts)
    rates = hazard.rates(history, np.repeat(last_posts, NUM_CELLS), np.tile(np.arange(NUM_CELLS), count))
    level, pit = _calibrate(history, hazard, last_posts)
    expected = rates.reshape(count, NUM_CELLS) * WIDTHS * level  # posts in each cell, given none before
    silence = hours_between(last_times, origins.time)
    edges = part_edges(hazard.shapes)
    quantiles = np.empty((len(origins), len(LEVELS)))
    for row, index in enumerate(inverse):
        per_part = np.repeat(expected[index] / PARTS, PARTS)
        cumulative_hazard = np.concatenate([[0.0], np.cumsum(per_part)])
        same_time = model["share_of_same_moment"] if silence[row] == 0 else 0.0
        quantiles[row] = _remaining_wait(edges, cumulative_hazard, pit[index], silence[row], same_time)
    return TimingForecasts.from_quantiles(quantiles)


def _required_times(times: NDArray[np.datetime64], positions: Integers) -> NDArray[np.datetime64]:
    """Return the distinct times of posts that the forecasts at these positions depend on, and no later one."""
    distinct = np.unique(times[: int(positions.max()) + 1])
    first_known = int(np.searchsorted(distinct, times[int(positions.min())]))
    # The first gap used for calibration needs a history of its own.
    first_gap = max(0, first_known - _CALIBRATION_GAPS)
    start = distinct[first_gap] - np.timedelta64(int(LOOKBACK_HOURS * 3600) + 3600, "s")
    return distinct[max(0, min(first_gap - LOOKBACK_GAPS - 1, int(np.searchsorted(distinct, start)) - 1)) :]


def _remaining_wait(edges: Floats, cumulative_hazard: Floats, pit: Floats, silence: float, same_time: float) -> Floats:
    """Return the hours from the origin at each level.

    Args:
        edges: (k,) hours since the last post; see `time_grid.part_edges`.
        cumulative_hazard: (k,) posts expected from the last post to each edge.
        pit: (bins + 1,) see `_calibrate`.
        silence: hours since the last post.
        same_time: the probability that the next post has the same time as the last.
    """
    uniform = np.linspace(0, 1, len(pit))
    rate_beyond = max(float(cumulative_hazard[-1] - cumulative_hazard[-1 - PARTS]) / WIDTHS[-1], _MIN_RATE)
    hazard_so_far = np.interp(silence, edges, cumulative_hazard) + max(silence - edges[-1], 0.0) * rate_beyond
    survival = max(1 - float(np.interp(-np.expm1(-hazard_so_far), uniform, pit)), _MIN_SURVIVAL)
    levels = np.clip((LEVELS - same_time) / (1 - same_time), 0, 1)
    uncalibrated = np.interp(1 - (1 - levels) * survival, pit, uniform)
    hazard = -np.log(np.maximum(1 - uncalibrated, 1e-15))
    beyond = edges[-1] + (hazard - cumulative_hazard[-1]) / rate_beyond
    hours = np.where(hazard <= cumulative_hazard[-1], np.interp(hazard, cumulative_hazard, edges), beyond)
    return np.maximum.accumulate(np.maximum(hours - silence, 0.0))


def _calibrate(history: History, hazard: Hazard, posts: Integers) -> tuple[Floats, Floats]:
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
    weights = 0.5 ** (np.arange(_CALIBRATION_GAPS) / _HALF_LIFE)
    level = np.ones((len(posts), NUM_STAGES))
    counts = np.zeros((len(posts), _PIT_BINS))
    for row, post in enumerate(posts):
        known = slice(max(0, post - _CALIBRATION_GAPS), post)
        recent = weights[: known.stop - known.start][::-1]
        level[row] = (_LEVEL_PRIOR + recent @ observed[known]) / (_LEVEL_PRIOR + recent @ expected[known])
        pit = -np.expm1(-(expected[known][-_PIT_GAPS:] @ level[row]))
        counts[row] = np.bincount(np.minimum((pit * _PIT_BINS).astype(int), _PIT_BINS - 1), minlength=_PIT_BINS)
    cumulative = np.cumsum(counts + _PIT_PRIOR / _PIT_BINS, axis=1)
    shares = np.concatenate([np.zeros((len(posts), 1)), cumulative / cumulative[:, -1:]], axis=1)
    return level[:, STAGES], shares


def _posts_per_stage(history: History, hazard: Hazard, posts: Integers) -> tuple[Floats, Floats]:
    """Return (gaps, stages) observed and (gaps, stages) expected posts of the gap after each post.

    Gaps that no origin looks back at stay 0.
    """
    needed = np.unique(np.concatenate([np.arange(max(0, post - _CALIBRATION_GAPS), post) for post in posts]))
    gap, cell, exposure, ended = split_gaps(np.diff(history.hours)[needed], hazard.shapes)
    index, stage = needed[gap], STAGES[cell]
    observed, expected = np.zeros((2, int(posts.max()), NUM_STAGES))
    np.add.at(expected, (index, stage), hazard.rates(history, index, cell) * exposure)
    np.add.at(observed, (index[ended], stage[ended]), 1.0)
    return observed, expected
