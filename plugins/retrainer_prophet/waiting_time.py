"""The waiting time until the next post: from the hazard to a distribution, at any origin.

A forecast is the distribution that the hazard after the last post gives, recalibrated, and conditioned on the silence
so far. Posts of one moment are one event to the hazard; how often a post shares its moment with the next is counted
apart.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

from retrainer.algorithms import LEVELS, TimingForecasts, hours_between, utc_times
from retrainer.errors import ArtifactError
from retrainer_prophet import calibration, hazard, seasonality
from retrainer_prophet.calibration import Experience
from retrainer_prophet.elapsed_time import CELLS, PARTS, WIDTHS, fine_edges
from retrainer_prophet.features import GAPS_REMEMBERED, HOURS_REMEMBERED, History, usual_gap
from retrainer_prophet.hazard import Hazard, Rows
from retrainer_prophet.importance import importances
from retrainer_prophet.seasonality import Rhythm

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins
    from retrainer_prophet import ProphetOptions

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

FORMAT = 3
MOST_POSTS = hazard.MOST_GAPS + GAPS_REMEMBERED  # training looks at the last so many moments

_LAST_SURVIVAL = 1e-9  # a silence can hardly be less likely
_LOWEST_RATE = 1e-5  # posts an hour beyond the last cell


def train(posts: pd.DataFrame, options: ProphetOptions) -> dict[str, Any]:
    """Learn the rhythm of the week and the hazard.

    The hazard is learnt from the last 12,000 gaps, or fewer where they are so long that they take 250,000 rows; the
    rhythm from the last `weeks` weeks before the last post, or more, up to two years, where these hold few posts.

    Args:
        posts: training posts in order, at two different moments at least.
        options: see `seasonality.fit`.
    """
    every = utc_times(posts)
    times = np.unique(every)[-MOST_POSTS:]
    learnt_rhythm = seasonality.fit(times, options)
    hours = seasonality.since_monday(times)
    usual = usual_gap(hours)
    with _one_thread():
        history = History.of(hours, learnt_rhythm, usual)
        rows = Rows.of(history)
        learnt_hazard = hazard.fit(rows)
        feature_importance = importances(rows, learnt_hazard, learnt_rhythm, hours)
    recent = every[every >= times[0]]
    return {
        "format": FORMAT,
        "rhythm": learnt_rhythm.document(),
        "hazard": learnt_hazard.document(),
        "usual_gap": usual,
        "share_of_same_moment": float((recent[1:] == recent[:-1]).mean()),
        "importances": feature_importance,
    }


def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the quantiles of the wait from each origin, in hours, and the point that maximises the score.

    Raises:
        ArtifactError: the model was made by a release that kept it in another way.
    """
    if model.get("format") != FORMAT:
        raise ArtifactError("this version was trained by an older release of `prophet`", hint="Train a new version")
    times = utc_times(posts)
    known_time = times[origins.position]
    hours = seasonality.since_monday(_history_times(times, origins.position))
    history = History.of(hours, Rhythm.of(model["rhythm"]), model["usual_gap"])
    learnt = Hazard.of(model["hazard"])
    last_known, origin = np.unique(
        np.searchsorted(history.hours, seasonality.since_monday(known_time), side="right") - 1, return_inverse=True
    )
    with _one_thread():
        expected = _expected_posts(learnt, history, last_known)
        learnt_since = Experience.at(history, learnt, last_known)
    silence = hours_between(known_time, origins.time)
    edges = fine_edges(learnt.shape)
    quantiles = np.empty((len(origins), len(LEVELS)))
    for row, known in enumerate(origin):
        in_parts = np.repeat(expected[known] * learnt_since.level[known] / PARTS, PARTS)
        curve = np.concatenate([[0.0], np.cumsum(in_parts)])
        same_moment = model["share_of_same_moment"] if silence[row] == 0 else 0.0
        quantiles[row] = _remaining_wait(edges, curve, learnt_since.calibration[known], silence[row], same_moment)
    return TimingForecasts.from_quantiles(quantiles)


def _one_thread() -> AbstractContextManager[Any]:
    """Keep linear algebra to one thread: on small matrices two take longer."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _history_times(times: NDArray[np.datetime64], positions: Integers) -> NDArray[np.datetime64]:
    """Return the distinct moments that the forecasts at these positions depend on, and no later one."""
    distinct = np.unique(times[: int(positions.max()) + 1])
    first_known = int(np.searchsorted(distinct, times[int(positions.min())]))
    # The earliest gap that is looked back at has a past of its own.
    earliest = max(0, first_known - calibration.GAPS)
    start = distinct[earliest] - np.timedelta64(int(HOURS_REMEMBERED * 3600) + 3600, "s")
    return distinct[max(0, min(earliest - GAPS_REMEMBERED - 1, int(np.searchsorted(distinct, start)) - 1)) :]


def _expected_posts(learnt: Hazard, history: History, posts: Integers) -> Floats:
    """Return (n, cells) the posts expected in each cell after each post, given that none came before."""
    every = np.tile(np.arange(CELLS), len(posts))
    rates = learnt.rates(history, np.repeat(posts, CELLS), every).reshape(len(posts), CELLS)
    expected: Floats = rates * WIDTHS
    return expected


def _remaining_wait(edges: Floats, curve: Floats, calibration: Floats, silence: float, same_moment: float) -> Floats:
    """Return the hours from the origin at each level.

    Args:
        edges: (k,) hours since the last post; see `fine_edges`.
        curve: (k,) posts expected from the last post until then: the cumulative hazard.
        calibration: (bins + 1,) see `Experience`.
        silence: hours since the last post.
        same_moment: the probability that the next post comes at the moment of the last.
    """
    even = np.linspace(0, 1, len(calibration))
    rate_beyond = max(float(curve[-1] - curve[-1 - PARTS]) / WIDTHS[-1], _LOWEST_RATE)
    so_far = np.interp(silence, edges, curve) + max(silence - edges[-1], 0.0) * rate_beyond
    survived = max(1 - float(np.interp(-np.expm1(-so_far), even, calibration)), _LAST_SURVIVAL)
    levels = np.clip((LEVELS - same_moment) / (1 - same_moment), 0, 1) if same_moment < 1 else np.zeros(len(LEVELS))
    reached = np.interp(1 - (1 - levels) * survived, calibration, even)
    posts = -np.log(np.maximum(1 - reached, 1e-15))
    hours = np.where(posts <= curve[-1], np.interp(posts, curve, edges), edges[-1] + (posts - curve[-1]) / rate_beyond)
    remaining: Floats = np.maximum.accumulate(np.maximum(hours - silence, 0.0))
    return remaining
