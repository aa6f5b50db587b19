"""Permutation importance of the inputs of timing models: streams and models that depend on one input only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms import Algorithm, Budget, BudgetExceeded, TimingForecasts, hookimpl, hours_between, utc_times
from retrainer.algorithms.hookspecs import NoOptions
from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.model import TrainedModel
from retrainer.errors import CostLimitReached
from retrainer.evaluation.permutation import MOVED_POSTS, permute_inputs, swap_waits
from retrainer.evaluation.windows import Window, held_out_window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from retrainer.algorithms import Origins
    from retrainer.evaluation.explanation import Worth

START = datetime(2024, 1, 1, 6, 0, tzinfo=UTC)  # a Monday
INPUTS = ["hour", "weekday", "last_wait", "earlier_waits"]


def posts_at(times: Sequence[datetime]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "post_id": [f"{row:06d}" for row in range(len(times))],
            "created_at": pd.to_datetime(list(times), utc=True).as_unit("us"),
        }
    )


def after_waits(waits: Sequence[float], count: int = 120) -> pd.DataFrame:
    """Return posts whose waits, in hours, come again and again."""
    hours = np.cumsum([waits[row % len(waits)] for row in range(count)])
    return posts_at([START + timedelta(hours=float(one)) for one in hours])


def window_of(posts: pd.DataFrame, count: int = 40) -> Window:
    last = posts.iloc[len(posts) // 2]
    window = held_out_window(posts, (last["created_at"].to_pydatetime(), last["post_id"]), count)
    assert window is not None
    return window


def model_of(wait: Callable[[pd.DataFrame, Origins], Sequence[float]]) -> TrainedModel:
    """Return a model whose waits a function returns."""

    @hookimpl
    def algorithm() -> Algorithm:
        return Algorithm(name="mine", model_types=("timing",), summary="Made for a test.")

    @hookimpl
    def train() -> dict[str, Any]:
        return {}

    @hookimpl
    def predict(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
        point = np.array(wait(posts, origins), dtype=float)
        return TimingForecasts(np.repeat(point[:, None], 99, axis=1), point)

    plugin = SimpleNamespace(algorithm=algorithm, train=train, predict=predict)
    return TrainedModel(LoadedAlgorithm.from_plugin(plugin, "mine"), NoOptions(), {}, "timing")


def worth(model: TrainedModel, posts: pd.DataFrame, **given: Any) -> dict[str, dict[str, Worth]]:
    found = permute_inputs(model, posts, window_of(posts), Budget(), **given)
    return {part.name: dict(part.worth or {}) for part in found.parts}


# --- models that read one input -------------------------------------------------------------------


def by_hour(_posts: pd.DataFrame, origins: Origins) -> list[float]:
    """Posts come at 6, 9 and 20 o'clock."""
    return [{6: 3, 9: 11, 20: 10}[time.hour] for time in origins.time.tolist()]


def by_weekday(_posts: pd.DataFrame, origins: Origins) -> list[float]:
    """Posts come on working days."""
    return [72 if time.weekday() >= 4 else 24 for time in origins.time.tolist()]


def _waits(posts: pd.DataFrame, position: int) -> NDArray[np.float64]:
    times = utc_times(posts)[: position + 1]
    return hours_between(times[:-1], times[1:])


def by_last_wait(posts: pd.DataFrame, origins: Origins) -> list[float]:
    """Waits of 2, 5 and 11 hours come in turn."""
    return [{2: 5, 5: 11, 11: 2}[round(_waits(posts, position)[-1])] for position in origins.position]


def by_earlier_wait(posts: pd.DataFrame, origins: Origins) -> list[float]:
    """Every wait is that of three posts ago."""
    return [_waits(posts, position)[-3] for position in origins.position]


MODELS: dict[str, tuple[Callable[..., Any], pd.DataFrame]] = {
    "hour": (by_hour, after_waits([10, 3, 11])),
    "weekday": (by_weekday, after_waits([24, 24, 24, 24, 72], 200)),
    "last_wait": (by_last_wait, after_waits([2, 5, 11])),
    "earlier_waits": (by_earlier_wait, after_waits([2, 5, 11])),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_input_that_a_model_reads_is_found_and_no_other(name: str) -> None:
    wait, posts = MODELS[name]
    if name == "hour":
        posts = posts.assign(created_at=posts["created_at"] - pd.Timedelta(hours=10))  # the first at 6
    found = worth(model_of(wait), posts)
    assert list(found) == INPUTS
    for part, by_metric in found.items():
        crps = by_metric["crps_hours"]
        assert crps.interval is not None
        if part == name:
            assert crps.interval[0] > 0.5
            assert crps.value > crps.interval[0]
        else:
            assert [(one.value, one.interval) for one in by_metric.values()] == [(0, (0, 0))] * 2


def test_the_metrics_are_those_of_the_forecasts_as_they_are() -> None:
    found = permute_inputs(
        model_of(by_last_wait), after_waits([2, 5, 11]), window_of(after_waits([2, 5, 11])), Budget()
    )
    assert found.metrics == {"overall_score": 1.0, "crps_hours": 0.0}
    assert (found.method, found.num_predictions, found.seed, found.problem) == ("permuted", 40, 0, "")


def test_a_model_that_reads_nothing_depends_on_nothing() -> None:
    found = worth(model_of(lambda _, origins: [5.0] * len(origins)), after_waits([2, 5, 11]))
    assert all(one.value == 0 for by_metric in found.values() for one in by_metric.values())


def test_the_same_seed_gives_the_same_importances() -> None:
    posts = after_waits([2, 5, 11])
    first = worth(model_of(by_last_wait), posts, seed=1)
    assert first == worth(model_of(by_last_wait), posts, seed=1)
    assert first != worth(model_of(by_last_wait), posts, seed=2)


def test_no_post_after_an_origin_is_passed_on() -> None:
    """The last post known is at the origin, and it is none of those that came after the real one."""
    posts = after_waits([2, 5, 11])
    window = window_of(posts)
    rows = {post_id: row for row, post_id in enumerate(posts["post_id"])}
    asked: list[pd.DataFrame] = []

    def wait(known: pd.DataFrame, origins: Origins) -> list[float]:
        assert (utc_times(known)[origins.position] == origins.time).all()
        assert (np.diff(utc_times(known)) > np.timedelta64(0)).all()
        assert known["post_id"].is_unique
        asked.append(known)
        return [1.0] * len(origins)

    permute_inputs(model_of(wait), posts, window, Budget())
    _, *permuted = asked
    assert len(permuted) == len(INPUTS) * len(window.origins)
    for number, known in enumerate(permuted):
        position = int(window.origins.position[number % len(window.origins)])
        assert max(rows[one.removesuffix("-moved")] for one in known["post_id"]) == position


def test_the_posts_before_the_last_ones_stay_as_they_were() -> None:
    posts = after_waits([2, 5, 11], 200)
    times = set(utc_times(posts).tolist())
    stayed: list[int] = []

    def wait(known: pd.DataFrame, origins: Origins) -> list[float]:
        stayed.append(len(known) - MOVED_POSTS - 1)
        assert set(utc_times(known)[: stayed[-1]].tolist()) <= times
        return [1.0] * len(origins)

    permute_inputs(model_of(wait), posts, window_of(posts), Budget())
    assert min(stayed[1:]) > 40


def paid_model(*, catches: bool = False) -> TrainedModel:
    """Return a model each of whose forecasts costs a cent; it may answer something else where it may not pay."""

    @hookimpl
    def algorithm() -> Algorithm:
        return Algorithm(name="mine", model_types=("timing",), summary="Made for a test.", paid=True)

    @hookimpl
    def train() -> dict[str, Any]:
        return {}

    @hookimpl
    def predict(origins: Origins, budget: Budget) -> TimingForecasts:
        try:
            budget.reserve(0.01, max_calls=None, max_cost=None)
            budget.settle(0.01, 0.01)
        except BudgetExceeded:
            if not catches:
                raise
        return TimingForecasts(np.ones((len(origins), 99)), np.ones(len(origins)))

    plugin = SimpleNamespace(algorithm=algorithm, train=train, predict=predict)
    return TrainedModel(LoadedAlgorithm.from_plugin(plugin, "mine"), NoOptions(), {}, "timing")


def test_all_forecasts_of_a_paid_model_count_in_the_budget() -> None:
    posts, budget = after_waits([2, 5, 11]), Budget()
    assert permute_inputs(paid_model(), posts, window_of(posts, 3), budget).problem == ""
    assert budget.calls == 1 + len(INPUTS) * 3


@pytest.mark.parametrize("catches", [False, True])
def test_inputs_measured_before_the_limit_are_kept(catches: bool) -> None:
    posts, budget = after_waits([2, 5, 11]), Budget(limit_usd=0.085)  # one call, three, three, and one of three
    found = permute_inputs(paid_model(catches=catches), posts, window_of(posts, 3), budget)
    assert "(--max-cost)" in found.problem
    assert [(part.name, part.problem) for part in found.parts if part.worth] == [("hour", ""), ("weekday", "")]
    assert [part.problem for part in found.parts[2:]] == [found.problem] * 2
    assert budget.calls == 8


@pytest.mark.parametrize("catches", [False, True])
def test_a_limit_that_does_not_suffice_for_anything_is_an_error(catches: bool) -> None:
    posts = after_waits([2, 5, 11])
    with pytest.raises(CostLimitReached, match="nothing was measured: .*max-cost"):
        permute_inputs(paid_model(catches=catches), posts, window_of(posts, 3), Budget(limit_usd=0.005))


def test_a_single_post_has_nothing_to_permute() -> None:
    posts = after_waits([2, 5, 11])
    found = permute_inputs(model_of(by_last_wait), posts, window_of(posts, 1), Budget())
    assert [dict(part.worth or {})["crps_hours"] for part in found.parts] == [(0.0, None)] * 4


def test_few_posts_and_posts_of_the_same_second_are_handled() -> None:
    posts = posts_at([START] * 4 + [START + timedelta(hours=1)] * 2)
    window = held_out_window(posts, (START, "000000"), 10)
    assert window is not None
    found = permute_inputs(model_of(lambda _, origins: [1.0] * len(origins)), posts, window, Budget())
    assert all(one.value == 0 for part in found.parts for one in (part.worth or {}).values())


def test_swapped_waits_keep_the_last_post_and_all_other_waits() -> None:
    def at(*hours: int) -> NDArray[np.datetime64]:
        return np.datetime64("2024-01-01T00:00", "us") + np.array(hours) * np.timedelta64(1, "h")

    times, others = at(0, 1, 3, 6, 10), at(0, 20, 50)
    assert (swap_waits(times, others, slice(0, 1)) == at(-26, -25, -23, -20, 10)).all()
    assert (swap_waits(times, others, slice(1, 20)) == at(-17, -16, -14, 6, 10)).all()
    assert (swap_waits(times, times[:1], slice(0, 1)) == times).all()


# --- algorithms -----------------------------------------------------------------------------------


def daily(count: int = 300) -> pd.DataFrame:
    """Posts at 8, 12 and 19 o'clock, of which every third is missing at random."""
    random = np.random.default_rng(0)
    hours = [24 * day + hour for day in range(count // 2) for hour in (8, 12, 19) if random.random() < 2 / 3]
    times = [START.replace(hour=0) + timedelta(hours=hour, minutes=float(random.normal(0, 10))) for hour in hours]
    return posts_at(sorted(times))


def trained(name: str, posts: pd.DataFrame) -> TrainedModel:
    algorithm = load_algorithm(name, "timing")
    options = algorithm.options({}, "timing")
    model = algorithm.train(posts.iloc[: len(posts) // 2 + 1], options, "timing")
    return TrainedModel(algorithm, options, model, "timing")


@pytest.mark.slow
def test_prophet_depends_on_the_hour_of_a_daily_stream() -> None:
    """Though it learns the hours again from the posts before those that are moved."""
    posts = daily(1000)
    found = permute_inputs(trained("prophet", posts), posts, window_of(posts, 30), Budget())
    score = dict(found.parts[0].worth or {})["overall_score"]
    assert score.interval is not None
    assert score.interval[0] > 0


def test_the_naive_forecast_depends_on_no_input() -> None:
    posts = daily()
    found = worth(trained("baseline", posts), posts)
    assert all(one.value == 0 for by_metric in found.values() for one in by_metric.values())
