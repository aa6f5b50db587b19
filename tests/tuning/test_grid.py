"""On a stream where options matter, 30 trials find most of what a search of a whole grid finds."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from retrainer.model_types.base import utc_times
from tests.conftest import NOW, configure, open_project
from tests.tuning.conftest import tuned

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.plugins_for_tests import Plugins

COUNTS = ("replies_count", "reblogs_count", "favourites_count")
# A wait by day and one by night, and when day begins and ends: four options that depend on each other.
RHYTHM = """
import numpy as np
from pydantic import BaseModel, ConfigDict
from retrainer.algorithms import Algorithm, hookimpl


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    day: float = 12.0
    night: float = 12.0
    morning: float = 0.0
    evening: float = 24.0


@hookimpl
def algorithm():
    return Algorithm(name="rhythm", model_types=("timing",), summary="A wait by day and one by night.", config=Options)

@hookimpl
def search_space(trial):
    return {
        "day": trial.suggest_float("day", 1.0, 24.0, log=True),
        "night": trial.suggest_float("night", 1.0, 24.0, log=True),
        "morning": trial.suggest_float("morning", 0.0, 12.0),
        "evening": trial.suggest_float("evening", 12.0, 24.0),
    }

@hookimpl
def train(posts, config):
    return config.model_dump()

@hookimpl
def predict(model, posts, origins):
    from retrainer.model_types.timing import TimingForecasts

    hours = (origins.time.astype("datetime64[m]").astype(np.int64) % 1440) / 60
    is_day = (hours >= model["morning"]) & (hours < model["evening"])
    wait = np.where(is_day, model["day"], model["night"])
    return TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait)
"""


def posts_with_a_rhythm(count: int) -> pd.DataFrame:
    """Return posts about every 1.5 hours from 8 to 20 o'clock, and 10 hours after those that come later."""
    random = np.random.default_rng(3)
    times = [datetime(2024, 8, 1, tzinfo=UTC)]
    while len(times) < count:
        hours = 1.5 if 8 <= times[-1].hour < 20 else 10.0
        times.append(times[-1] + timedelta(hours=hours * random.uniform(0.7, 1.3)))
    return pd.DataFrame(
        {
            "post_id": [f"p{row:05d}" for row in range(count)],
            "created_at": pd.DatetimeIndex(times).as_unit("us"),
            "content": "text",
            **{name: pd.array([None] * count, dtype="Int64") for name in COUNTS},
        }
    )


def mean_error(posts: pd.DataFrame, options: dict[str, float]) -> float:
    """Return the mean error of the forecasts of the last fifth of the posts, in hours: the CRPS of a point."""
    times = utc_times(posts)
    waits: NDArray[np.float64] = np.diff(times).astype(float) / 3.6e9
    hours = (times[:-1].astype("datetime64[m]").astype(np.int64) % 1440) / 60
    is_day = (hours >= options["morning"]) & (hours < options["evening"])
    errors = np.abs(np.where(is_day, options["day"], options["night"]) - waits)
    return float(errors[len(posts) * 4 // 5 - 1 :].mean())


@pytest.mark.slow
def test_30_trials_find_80_percent_of_the_gain_of_the_best_of_a_grid(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("rhythm", RHYTHM)
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(folder)
    project = open_project(folder)
    posts = posts_with_a_rhythm(500)
    project.posts.add(posts, NOW)
    default = {"day": 12.0, "night": 12.0, "morning": 0.0, "evening": 24.0}
    waits, mornings, evenings = (1, 1.5, 3, 6, 10, 12, 24), (0, 2, 4, 6, 8, 10, 12), (12, 14, 16, 18, 20, 22, 24)
    grid = [dict(zip(default, values, strict=True)) for values in itertools.product(waits, waits, mornings, evenings)]
    before, best = mean_error(posts, default), min(mean_error(posts, options) for options in grid)
    assert best < 0.5 * before, "options matter"

    result = tuned(project, algorithms=("rhythm",), metric="crps", trials=30, seed=0)
    assert result.report.summary.finished_trials == 30
    assert result.winner is not None
    assert result.promoted
    share = (before - mean_error(posts, result.winner.options)) / (before - best)
    assert share >= 0.8
    print(f"{share:.1%} of the gain of the best of {len(grid)} points of a grid")  # noqa: T201  with -s
