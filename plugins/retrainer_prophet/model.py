"""The model of `prophet`: training, and the predictive distribution of the wait from any origin.

A forecast is the distribution that follows from the hazard after the last post, recalibrated, and conditioned on the
silence so far. The hazard treats posts at the same time as one event; the share of posts that have the same time as the
one before is counted separately.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

from retrainer.algorithms import LEVELS, TimingForecasts, hours_between, utc_times
from retrainer.errors import ArtifactError, InsufficientData
from retrainer_prophet.calibration import CALIBRATION_GAPS, calibrate
from retrainer_prophet.features import LOOKBACK_GAPS, LOOKBACK_HOURS, History, typical_log_gap
from retrainer_prophet.hazard import MAX_GAPS, Hazard, RegressionData, fit_hazard
from retrainer_prophet.importance import feature_importance
from retrainer_prophet.seasonality import WeeklyProfile, fit_profile, hours_since_monday
from retrainer_prophet.time_grid import EDGES, NUM_CELLS, PARTS, WIDTHS, part_edges

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins
    from retrainer_prophet import ProphetOptions
    from retrainer_prophet.time_grid import Floats, Integers

FORMAT = 3

_MIN_SURVIVAL = 1e-9
_MIN_RATE = 1e-5  # posts per hour beyond the last cell

_thread_pools = cache(ThreadpoolController)  # linear algebra runs in one thread: on small matrices two are slower


def train_model(posts: pd.DataFrame, options: ProphetOptions) -> dict[str, Any]:
    """Fit the weekly profile and the hazard.

    The hazard is fitted to the last 12,000 gaps, or fewer if they are so long that they take 250,000 rows; the profile
    to the last `weeks` weeks, or more, up to two years, if these hold few posts.

    Args:
        posts: training posts in order, with at least two different times.
        options: see `seasonality.fit_profile`.

    Raises:
        InsufficientData: all gaps are longer than the grid, about a year.
    """
    all_times = utc_times(posts)
    times = np.unique(all_times)[-(MAX_GAPS + LOOKBACK_GAPS) :]
    profile = fit_profile(times, options)
    hours = hours_since_monday(times)
    typical_gap = typical_log_gap(hours)
    with _thread_pools().limit(limits=1, user_api="blas"):
        data = RegressionData.from_history(History.from_hours(hours, profile, typical_gap))
        if not data.events.any():
            raise InsufficientData(
                f"all gaps between training posts are longer than the {EDGES[-1] / 24:.0f} days that `prophet` models",
                hint="Choose another algorithm, such as baseline",
            )
        hazard = fit_hazard(data)
        importances = feature_importance(data, hazard, profile, hours)
    recent = all_times[all_times >= times[0]]
    return {
        "format": FORMAT,
        "rhythm": profile.to_dict(),
        "hazard": hazard.to_dict(),
        "usual_gap": typical_gap,
        "share_of_same_moment": float((recent[1:] == recent[:-1]).mean()),
        "importances": importances,
    }


def predict_waits(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the quantiles of the wait from each origin, in hours, and the point that maximises the score.

    Raises:
        ArtifactError: the model was trained by a release with another format.
    """
    if model.get("format") != FORMAT:
        raise ArtifactError("this version was trained by an older release of `prophet`", hint="Train a new version")
    times = utc_times(posts)
    last_times = times[origins.position]
    hours = hours_since_monday(_required_times(times, origins.position))
    history = History.from_hours(hours, WeeklyProfile.from_dict(model["rhythm"]), model["usual_gap"])
    hazard = Hazard.from_dict(model["hazard"])
    last_posts, inverse = np.unique(
        np.searchsorted(hours, hours_since_monday(last_times), side="right") - 1, return_inverse=True
    )
    count = len(last_posts)
    with _thread_pools().limit(limits=1, user_api="blas"):
        rates = hazard.rates(history, np.repeat(last_posts, NUM_CELLS), np.tile(np.arange(NUM_CELLS), count))
        level, pit = calibrate(history, hazard, last_posts)
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
    first_gap = max(0, first_known - CALIBRATION_GAPS)
    start = distinct[first_gap] - np.timedelta64(int(LOOKBACK_HOURS * 3600) + 3600, "s")
    return distinct[max(0, min(first_gap - LOOKBACK_GAPS - 1, int(np.searchsorted(distinct, start)) - 1)) :]


def _remaining_wait(edges: Floats, cumulative_hazard: Floats, pit: Floats, silence: float, same_time: float) -> Floats:
    """Return the hours from the origin at each level.

    Args:
        edges: (k,) hours since the last post; see `time_grid.part_edges`.
        cumulative_hazard: (k,) posts expected from the last post to each edge.
        pit: (bins + 1,) see `calibration.calibrate`.
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
