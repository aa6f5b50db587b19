"""Several days ahead: what is said about the coming posts follows from the simulated futures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from retrainer.algorithms import Algorithm, TimingForecasts, hookimpl
from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
from retrainer.algorithms.model import TrainedModel
from retrainer.errors import AlgorithmError, UsageError
from retrainer.model_types.base import Origins
from retrainer.pipeline.simulation import PATHS, Simulation, resolve_horizon, simulate
from tests.conftest import regular_posts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

START = datetime(2024, 3, 30, 22, 30, tzinfo=UTC)  # the clocks of Paris go forward in the night after the next midnight


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    timezone: str = "UTC"


def model_of(futures: Callable[..., Any], **options: str) -> TrainedModel:
    """Return a model whose simulated futures a function returns."""

    @hookimpl
    def algorithm() -> Algorithm:
        return Algorithm(name="mine", model_types=("timing",), summary="Made for a test.", config=Options)

    @hookimpl
    def train() -> None:
        pass

    @hookimpl
    def predict(origins: Origins) -> TimingForecasts:
        return TimingForecasts(np.ones((len(origins), 99)), np.ones(len(origins)))

    plugin = SimpleNamespace(algorithm=algorithm, train=train, predict=predict, simulate=hookimpl(futures))
    return TrainedModel(LoadedAlgorithm.from_plugin(plugin, "mine"), Options(**options), {}, "timing")


def regular(horizon_hours: float, max_posts: int, paths: int) -> NDArray[np.float64]:
    """Half of the futures have a post every two hours, the others every four."""
    hours = np.arange(1, max_posts + 1) * np.repeat([2.0, 4.0], paths // 2)[:, None]
    return np.where(hours <= horizon_hours, hours, np.inf)


def simulated(model: TrainedModel, **asked: Any) -> Simulation:
    posts = regular_posts(10)
    origins = Origins(np.array([START.replace(tzinfo=None)], dtype="datetime64[us]"), np.array([9]))
    return simulate(model, posts, origins, START, **{"until": None, "next_posts": None, "level": 0.8, **asked})


def test_the_days_are_those_of_the_time_zone_of_the_algorithm() -> None:
    """From 23:30 on; the 31st of March has 23 hours in Paris."""
    found = simulated(model_of(regular, timezone="Europe/Paris"), until=START + timedelta(hours=30))
    assert [day.day for day in found.days] == [date(2024, 3, 30), date(2024, 3, 31), date(2024, 4, 1)]
    assert [(day.end - day.start) / timedelta(hours=1) for day in found.days] == [0.5, 23, 6.5]
    assert [day.interval for day in found.days] == [(0, 0), (5, 11), (2, 3)]
    assert [day.expected for day in found.days] == [0, 8, 2.5]
    assert found.total is not None
    assert (found.total.start, found.total.end) == (START, found.until)
    # The post that comes exactly at the end is not counted.
    assert (found.total.expected, found.total.interval) == (10.5, (7, 14))


def test_the_posts_have_medians_and_intervals() -> None:
    found = simulated(model_of(regular), next_posts=3)
    assert [post.number for post in found.posts] == [1, 2, 3]
    assert found.posts[2].median_at == START + timedelta(hours=6)
    assert found.posts[2].interval_at == (START + timedelta(hours=6), START + timedelta(hours=12))
    assert (found.until, found.total, found.days) == (None, None, ())


def test_posts_that_may_come_later_than_the_end_have_no_time() -> None:
    found = simulated(model_of(regular), until=START + timedelta(hours=9))
    assert [post.number for post in found.posts] == [1, 2, 3, 4], "those that are likely to come"
    assert found.posts[-1].interval_at == (START + timedelta(hours=8), None)
    assert len(simulated(model_of(regular), until=START + timedelta(hours=9), next_posts=2).posts) == 2


def test_no_post_at_all_is_a_forecast_too() -> None:
    found = simulated(model_of(lambda paths: np.empty((paths, 0))), until=START + timedelta(hours=9), next_posts=2)
    assert found.posts == ()
    assert found.total is not None
    assert (found.total.expected, found.total.interval) == (0, (0, 0))


def test_an_end_before_which_there_are_too_many_posts_is_refused() -> None:
    model = model_of(lambda paths, max_posts: np.tile(np.arange(max_posts) / 1000, (paths, 1)))
    with pytest.raises(
        UsageError, match=r"^until: '2024-04-03T22:30:00Z' is too far ahead: there may be more than 2,000"
    ):
        simulated(model, until=START + timedelta(days=4))
    assert len(simulated(model, next_posts=5).posts) == 5


@pytest.mark.parametrize(
    ("futures", "problem"),
    [
        (np.ones((PATHS, 4)), "futures of shape (500, 4) instead of (500, at most 3)"),
        (np.ones((3, 3)), "futures of shape (3, 3) instead of (500, at most 3)"),
        (np.full((PATHS, 3), np.nan), "a post that is not after the origin"),
        (np.full((PATHS, 3), -1.0), "a post that is not after the origin"),
        (np.tile([2.0, 1.0], (PATHS, 1)), "posts that are not in order of time"),
        (np.tile([np.inf, 1.0], (PATHS, 1)), "posts that are not in order of time"),
        (np.full((PATHS, 1), 1e6), "a post later than the horizon of 8784 h"),
        (None, "None"),
    ],
)
def test_invalid_futures_name_the_plugin(futures: Any, problem: str) -> None:
    with pytest.raises(AlgorithmError) as caught:
        simulated(model_of(lambda: futures), next_posts=3)
    assert str(caught.value).startswith("the plugin 'mine': its hook simulate returned ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("until", "problem"),
    [
        (START, "until: '2024-03-30T22:30:00Z' is not after"),
        (
            START + timedelta(days=31, seconds=1),
            "until: '2024-04-30T22:30:01Z' is over 31 days after '2024-03-30T22:30:00Z'",
        ),
    ],
)
def test_an_end_that_is_past_or_too_far_is_refused(until: datetime, problem: str) -> None:
    assert resolve_horizon(START, timedelta(days=31)) == START + timedelta(days=31)
    with pytest.raises(UsageError, match=problem):
        resolve_horizon(START, until)
