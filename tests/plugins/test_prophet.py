"""The algorithm `prophet`: forecasts of the next post from any origin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import CONDITIONING_TOLERANCE, check_algorithm, check_conditioning
from retrainer.errors import ArtifactError, ConfigError, InsufficientData
from retrainer.model_types.base import Origins, utc_times
from retrainer.posts.sample import sample_posts
from retrainer_prophet import known_gaps
from retrainer_prophet.features import HALF_LIVES, NUM_FEATURES, History
from retrainer_prophet.hazard import GapRows, RegressionData, _baseline_hazard, _fit_poisson
from retrainer_prophet.seasonality import WeeklyProfile, hours_since_monday
from retrainer_prophet.time_grid import MIDPOINTS, NUM_CELLS, NUM_CLASSES, cell_shapes
from tests.conftest import regular_posts

PROPHET = load_algorithm("prophet")
OPTIONS = PROPHET.options({}, "timing")


def posts_at(hours: np.ndarray, start: str = "2024-01-01") -> pd.DataFrame:
    """Return posts at these hours after the start."""
    times = pd.DatetimeIndex(pd.Timestamp(start, tz="UTC") + pd.to_timedelta(hours, unit="h")).as_unit("us")
    return pd.DataFrame({"post_id": [f"{row:05d}" for row in range(len(times))], "created_at": times})


def office_hours(weeks: int = 30) -> pd.DataFrame:
    """Return two posts an hour from 9 to 17 UTC on weekdays, at random minutes, and none at other times."""
    rng = np.random.default_rng(5)
    hours = [7 * 24 * week + 24 * day + hour for week in range(weeks) for day in range(5) for hour in range(9, 17)]
    return posts_at(np.sort(np.repeat(hours, 2) + rng.random(2 * len(hours))))


def forecast_at(posts: pd.DataFrame, *timestamps: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles and points from these times, each knowing all posts before it."""
    times = np.array(timestamps, dtype="datetime64[us]")
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins.at(posts, times), OPTIONS, "timing")
    return forecast.quantiles, forecast.point


@pytest.mark.slow
def test_prophet_passes_the_conformance_suite() -> None:
    check_algorithm("prophet")


@pytest.mark.slow
def test_prophet_passes_the_conformance_suite_after_three_checkpoints() -> None:
    check_algorithm("prophet", posts=sample_posts(count=1500, seed=5))


@pytest.mark.slow
def test_a_later_forecast_is_the_earlier_one_conditioned_but_for_the_recalibration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forecasts at clock times are recalibrated by waits from clock times, which those right after posts are not."""
    assert check_conditioning("prophet", tolerance=0.1) > CONDITIONING_TOLERANCE
    monkeypatch.setattr(known_gaps, "RECALIBRATION_GAPS", 0)
    check_conditioning("prophet")


def test_the_forecast_is_the_first_arrival_and_follows_the_week() -> None:
    """At noon the next post is minutes away; on Friday evening it is a weekend away."""
    posts = office_hours()
    quantiles, _ = forecast_at(posts, "2024-07-10T12:00", "2024-07-12T17:30", "2024-07-10T20:00")
    noon, friday, evening = quantiles[:, 49]
    assert noon < 1.5
    assert 40 < friday < 66
    assert 8 < evening < 15


def test_without_a_weekly_rhythm_the_forecast_is_the_usual_gap() -> None:
    posts = regular_posts(200, gap_hours=5)
    model = PROPHET.train(posts, OPTIONS, "timing")
    origins = Origins.before(posts, np.array([150, 199]))
    assert PROPHET.predict(model, posts, origins, OPTIONS, "timing").median == pytest.approx([5, 5], rel=0.25)


@pytest.mark.parametrize("gap_hours", [24 * 7, 24 * 60, 1 / 60])
def test_sparse_and_dense_streams_can_be_learned(gap_hours: float) -> None:
    posts = regular_posts(60, gap_hours=gap_hours)
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins.before(posts, np.array([59])), OPTIONS, "timing")
    assert forecast.median[0] == pytest.approx(gap_hours, rel=0.5)


def test_training_posts_may_include_a_year_of_silence() -> None:
    posts = regular_posts(100)
    posts.loc[50:, "created_at"] += pd.Timedelta(days=365)
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins.before(posts, np.array([50, 99])), OPTIONS, "timing")
    assert (forecast.median < 24).all()


@pytest.mark.slow
def test_posts_that_are_all_more_than_a_year_apart_are_refused_in_one_line() -> None:
    posts = posts_at(np.arange(60) * 8766, "1960-01-01")
    with pytest.raises(InsufficientData, match="longer than the 363 days that `prophet` models. Choose another"):
        PROPHET.train(posts, OPTIONS, "timing")


def test_posts_at_the_same_time_are_predicted_if_they_are_usual() -> None:
    """Every post has a twin: half of the waits from a post are 0, and none of those from an hour later."""
    posts = regular_posts(200, gap_hours=5).loc[lambda frame: frame.index.repeat(2)].reset_index(drop=True)
    posts["post_id"] = [f"{row:04d}" for row in range(len(posts))]
    model = PROPHET.train(posts, OPTIONS, "timing")
    after_a_post = Origins.before(posts, np.array([399]))
    assert PROPHET.predict(model, posts, after_a_post, OPTIONS, "timing").quantiles[0, 45] == 0
    later = Origins(after_a_post.time + np.timedelta64(1, "h"), after_a_post.position)
    assert PROPHET.predict(model, posts, later, OPTIONS, "timing").quantiles[0, 45] > 1


def test_a_burst_of_hundreds_of_posts_in_a_minute_does_no_harm() -> None:
    posts = regular_posts(300, gap_hours=5)
    burst = pd.to_timedelta(np.arange(200) * 0.3, unit="s")
    posts.loc[100:299, "created_at"] = posts["created_at"].iloc[100] + burst
    model = PROPHET.train(posts, OPTIONS, "timing")
    forecast = PROPHET.predict(model, posts, Origins.before(posts, np.array([50, 200, 299])), OPTIONS, "timing")
    assert forecast.median[0] == pytest.approx(5, rel=0.25)
    assert forecast.median[1] < 0.01


def test_forecasts_follow_local_time_when_the_clocks_change() -> None:
    """Posts appear on the hour from 9 to 17 in New York, where clocks go forward on 10 March."""
    local = pd.date_range("2023-10-02", "2024-03-22", freq="h", tz="America/New_York")
    times = local[(local.hour >= 9) & (local.hour <= 17)].tz_convert("UTC").as_unit("us")
    posts = pd.DataFrame({"post_id": [f"{row:05d}" for row in range(len(times))], "created_at": times})
    evening = posts.index[posts["created_at"] == pd.Timestamp("2024-03-10T21:00Z")]  # the last post of the day
    origins = Origins.before(posts, evening.to_numpy() + 1)
    before_the_change = posts[posts["created_at"] < pd.Timestamp("2024-03-10", tz="UTC")]

    def error(options: dict[str, str]) -> float:
        chosen = PROPHET.options(options, "timing")
        model = PROPHET.train(before_the_change, chosen, "timing")
        quantiles = PROPHET.predict(model, posts, origins, chosen, "timing").quantiles
        return float(np.abs(quantiles - 16).mean())

    assert error({"timezone": "America/New_York"}) < error({"timezone": "UTC"})


@pytest.mark.slow
def test_a_holiday_differs_from_other_days() -> None:
    """Two posts an hour in office hours, none on the holidays of four years; the next day is the Fourth of July."""
    days_off = pd.to_datetime([f"{year}-{day}" for year in range(2020, 2024) for day in ("07-04", "12-25", "01-01")])
    hours = pd.date_range("2020-01-01", "2024-07-04", freq="30min", inclusive="left")
    hours = hours[(hours.hour >= 9) & (hours.hour < 17) & ~hours.normalize().isin(days_off)]
    posts = pd.DataFrame({"post_id": [f"{row:06d}" for row in range(len(hours))]})
    posts["created_at"] = hours.tz_localize("UTC").as_unit("us")
    origin = Origins(np.array(["2024-07-03T20:00"], dtype="datetime64[us]"), np.array([len(posts) - 1]))

    def forecast(options: dict[str, Any]) -> tuple[float, float]:
        """Return the log relative activity at noon of the holiday, and the probability of no post before noon."""
        chosen = PROPHET.options({"weeks": 104, **options}, "timing")
        model = PROPHET.train(posts, chosen, "timing")
        noon = hours_since_monday(np.array(["2024-07-04T12:00"], dtype="datetime64[us]"))
        quantiles = PROPHET.predict(model, posts, origin, chosen, "timing").quantiles[0]
        return float(WeeklyProfile.from_dict(model["rhythm"]).log_relative_activity(noon, noon + 1)[0]), float(
            (quantiles > 16).mean()
        )

    without, with_holidays = forecast({}), forecast({"holidays": "US"})
    assert without[0] > 0.5
    assert with_holidays[0] < -1
    assert with_holidays[1] > without[1]


def test_a_trend_stays_constant_after_training() -> None:
    """A stream that grew tenfold in half a year is not forecast to grow tenfold again."""
    rng = np.random.default_rng(3)
    posts = posts_at(np.sort(26 * 168 * np.sqrt(rng.random(3000))))
    chosen = PROPHET.options({"trend": True}, "timing")
    model = PROPHET.train(posts, chosen, "timing")
    late = utc_times(posts)[-1] + np.array([0, 24 * 365], dtype="timedelta64[h]")
    waits = PROPHET.predict(model, posts, Origins(late[:1], np.array([2999])), chosen, "timing").median
    assert waits[0] == pytest.approx(np.log(2) * 26 * 168 / 6000, rel=0.5)
    profile = WeeklyProfile.from_dict(model["rhythm"])
    end, a_year_on = hours_since_monday(late)[:, None]
    assert profile.log_relative_activity(end, end + 1) == pytest.approx(
        profile.log_relative_activity(a_year_on, a_year_on + 1), abs=0.5
    )


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(0.5, marks=pytest.mark.slow),
        pytest.param(1.0, marks=pytest.mark.soak),
        pytest.param(3.0, marks=pytest.mark.slow),
    ],
)
def test_eighty_percent_intervals_cover_eighty_percent(shape: float) -> None:
    """Independent gaps, from burstier to more regular than a Poisson process, at both kinds of origins."""
    rng = np.random.default_rng(7)
    posts = posts_at(np.cumsum(rng.gamma(shape, 4 / shape, 3000)), start="2022-01-03")
    model = PROPHET.train(posts.iloc[:2400], OPTIONS, "timing")
    rows = np.arange(2401, 3000)
    after_posts = Origins.before(posts, rows)
    by_clock = Origins.at(posts, utc_times(posts)[2400] + np.arange(600) * np.timedelta64(3, "h"))
    for origins in (after_posts, by_clock):
        quantiles = PROPHET.predict(model, posts, origins, OPTIONS, "timing").quantiles
        wait = (utc_times(posts)[origins.position + 1] - origins.time) / np.timedelta64(1, "h")
        assert 0.75 <= ((quantiles[:, 9] <= wait) & (wait <= quantiles[:, 89])).mean() <= 0.85


def test_a_forecast_does_not_depend_on_how_much_earlier_history_is_loaded() -> None:
    """It is the same alone, among others, and until the first checkpoint without the posts of months ago."""
    posts = sample_posts(count=3400, seed=5)[["post_id", "created_at"]]
    model = PROPHET.train(posts.iloc[:3000], OPTIONS, "timing")
    spread = PROPHET.predict(model, posts, Origins.before(posts, np.array([20, 3000, 3399])), OPTIONS, "timing")
    alone = PROPHET.predict(model, posts, Origins.before(posts, np.array([3399])), OPTIONS, "timing")
    assert spread.quantiles[2] == pytest.approx(alone.quantiles[0], rel=1e-6)
    before_the_checkpoint = PROPHET.predict(model, posts, Origins.before(posts, np.array([3080])), OPTIONS, "timing")
    recent = posts.iloc[800:].reset_index(drop=True)
    shortened = PROPHET.predict(model, recent, Origins.before(recent, np.array([2280])), OPTIONS, "timing")
    assert shortened.quantiles == pytest.approx(before_the_checkpoint.quantiles, rel=1e-6)


def test_the_regression_maximises_its_penalised_likelihood() -> None:
    """By the plain formula, no small step in any direction increases it."""
    rng = np.random.default_rng(11)
    history = History.from_hours(np.cumsum(rng.exponential(3, 400)), WeeklyProfile(np.full(168, 0.3)), 1.0)
    data = RegressionData.from_rows(GapRows.from_history(history, 0, 399, cell_shapes(np.diff(history.hours))))
    data = replace(data, features=(data.features - data.features.mean(axis=0)) / (data.features.std(axis=0) + 1e-9))
    baseline = np.log(_baseline_hazard(data))
    class_effects, coefficients = _fit_poisson(data, baseline, np.zeros(NUM_CLASSES + NUM_FEATURES))

    def penalised_likelihood(class_effects: np.ndarray, coefficients: np.ndarray) -> float:
        logarithm = (baseline + class_effects)[data.classes] + data.features @ coefficients + np.log(data.exposure)
        penalty = 10.0 * (class_effects**2).sum() + 100.0 * (coefficients**2).sum()
        return float((data.events * logarithm - np.exp(logarithm)).sum() - penalty / 2)

    maximum = penalised_likelihood(class_effects, coefficients)
    for _ in range(50):
        step = rng.normal(0, 0.01, len(class_effects)), rng.normal(0, 0.01, len(coefficients))
        assert penalised_likelihood(class_effects + step[0], coefficients + step[1]) < maximum


def test_the_pace_is_the_silence_in_recent_gaps() -> None:
    hours = np.append(np.arange(900) * 2.0, 1898.0)  # gaps of two hours, and one of a hundred
    history = History.from_hours(hours, WeeklyProfile(np.full(168, 0.3)), np.log(2))
    cells = np.array([0, NUM_CELLS // 2])
    steady, after_a_long_gap = (history.features(np.full(2, post), cells)[:, -len(HALF_LIVES) :] for post in (899, 900))
    assert steady == pytest.approx(np.log1p(MIDPOINTS[cells, None] / (2 + 1 / 60)) * np.ones(4), rel=1e-6)
    assert (after_a_long_gap < steady).all()
    assert (np.diff(after_a_long_gap) > 0).all(), "a longer memory forgets the usual gap more slowly"


def test_a_version_of_an_older_release_is_refused_with_a_hint() -> None:
    posts = regular_posts(60)
    with pytest.raises(ArtifactError, match="trained by an older release of `prophet`"):
        PROPHET.predict({"posts_an_hour": []}, posts, Origins.before(posts, np.array([59])), OPTIONS, "timing")


def test_an_unknown_holiday_country_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="Prophet knows no holidays of 'XX'"):
        PROPHET.check_ready(PROPHET.options({"holidays": "XX"}, "timing"))


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="timing_model.prophet.timezone: invalid value 'Mars/Olympus' \\(must be the"):
        PROPHET.options({"timezone": "Mars/Olympus"}, "timing")


def test_an_unknown_option_is_refused_with_a_near_match() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'timing_model.prophet.week'. Did you mean 'weeks'\?"):
        PROPHET.options({"week": 3}, "timing")


def test_a_wrong_option_says_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="timing_model.prophet.weeks: invalid value '1' \\(must be greater than"):
        PROPHET.options({"weeks": 1}, "timing")


def test_a_feed_that_posts_to_the_minute_is_forecast_to_the_minute() -> None:
    """Every six hours, give or take a minute: the 80% interval is minutes wide at both kinds of origins."""
    rng = np.random.default_rng(4)
    posts = posts_at(np.arange(1000) * 6 + rng.normal(0, 1 / 60, 1000))
    model = PROPHET.train(posts.iloc[:900], OPTIONS, "timing")
    for hours in (0, 3):
        origins = Origins.before(posts, np.arange(901, 1000))
        origins = Origins(origins.time + np.timedelta64(hours, "h"), origins.position)
        forecast = PROPHET.predict(model, posts, origins, OPTIONS, "timing")
        low, high = forecast.interval()
        assert np.median(high - low) < 0.2
        wait = (utc_times(posts)[origins.position + 1] - origins.time) / np.timedelta64(1, "h")
        assert 0.65 <= ((low <= wait) & (wait <= high)).mean() <= 0.95
