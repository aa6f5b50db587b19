"""The forecasts, metrics and files of timing."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.errors import ArtifactError, InsufficientData
from retrainer.model_types import base
from retrainer.model_types.base import Origins, evenly_spaced
from retrainer.model_types.timing import LEVELS, Timing, TimingForecasts, TimingTargets, score_maximising_point
from tests.conftest import regular_posts

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMING = Timing()
# 99 waits in steps of 1e-3 h: waits that differ by less than their rounding have no levels in between
WAITS = st.lists(st.integers(0, 500_000).map(lambda thousandths: thousandths / 1000), min_size=99, max_size=99)


def constant(point: float, count: int) -> TimingForecasts:
    return TimingForecasts(np.full((count, 99), point), np.full(count, point))


def test_the_metrics_follow_their_formulas() -> None:
    targets = TimingTargets(np.array([1.0, 10.0, 20.0, 40.0]))
    metrics = TIMING.score(constant(10.0, 4), targets)  # errors 9, 0, 10, 30
    assert metrics["mae_hours"] == pytest.approx(12.25)
    assert metrics["rmse_hours"] == pytest.approx(np.sqrt((81 + 0 + 100 + 900) / 4))
    assert metrics["median_error_hours"] == pytest.approx(9.5)
    assert metrics["within_6h_accuracy"] == 0.25
    assert metrics["within_12h_accuracy"] == 0.75
    assert metrics["within_24h_accuracy"] == 0.75
    assert metrics["overall_score"] == pytest.approx(0.7 * 0.25 + 0.3 * (1 - 12.25 / 24))


def test_an_error_of_more_than_a_day_counts_as_a_day() -> None:
    metrics = TIMING.score(constant(0.0, 2), TimingTargets(np.array([100.0, 200.0])))
    assert metrics["overall_score"] == 0.0


def test_a_perfect_forecast_scores_one() -> None:
    wait = np.array([1.0, 5.0, 30.0])
    metrics = TIMING.score(TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait), TimingTargets(wait))
    assert metrics["overall_score"] == 1.0
    assert metrics["crps_hours"] == pytest.approx(0.0)


def test_the_crps_of_a_certain_forecast_is_its_absolute_error() -> None:
    metrics = TIMING.score(constant(10.0, 2), TimingTargets(np.array([4.0, 13.0])))
    assert metrics["crps_hours"] == pytest.approx((6 + 3) / 2)


def test_the_interval_covers_what_lies_between_the_outer_tenths() -> None:
    quantiles = np.tile(LEVELS * 100, (4, 1))
    targets = TimingTargets(np.array([5.0, 11.0, 89.0, 95.0]))
    metrics = TIMING.score(TimingForecasts(quantiles, quantiles[:, 49]), targets)
    assert metrics["interval_coverage"] == 0.5


def test_an_interval_covers_waits_equal_to_its_bounds_whatever_was_rounded() -> None:
    wait = np.array([1 / 3600, 1.0, 24.0, 8760.0])
    quantiles = np.repeat(wait[:, None], 99, axis=1)
    for rounded in (quantiles * (1 + 1e-7), quantiles * (1 - 1e-7)):
        assert TIMING.score(TimingForecasts(rounded, rounded[:, 49]), TimingTargets(wait))["interval_coverage"] == 1.0
    missed = quantiles * 1.001
    assert TIMING.score(TimingForecasts(missed, missed[:, 49]), TimingTargets(wait))["interval_coverage"] == 0.0


def test_predicting_the_busiest_hour_instead_of_the_first_arrival_scores_badly() -> None:
    """The error is measured from the actual wait, not from the nearest point of a grid."""
    wait = np.full(50, 2.0)
    busiest = TIMING.score(constant(20.0, 50), TimingTargets(wait))
    first = TIMING.score(constant(2.5, 50), TimingTargets(wait))
    assert busiest["overall_score"] < 0.1
    assert first["overall_score"] > 0.95


def test_skill_is_zero_for_the_naive_forecast_itself_and_negative_for_a_worse_one() -> None:
    targets = TimingTargets(np.array([1.0, 10.0, 20.0]))
    naive = TIMING.score(constant(10.0, 3), targets)
    worse = TIMING.score(constant(50.0, 3), targets)
    assert TIMING.skill_scores(naive, naive) == {"skill": 0.0, "crps_skill": 0.0}
    assert TIMING.skill_scores(worse, naive)["skill"] < 0
    assert TIMING.skill_scores(worse, naive)["crps_skill"] < 0


@given(
    WAITS,
    st.lists(st.floats(0, 500), min_size=50, max_size=50),
)
def test_no_point_has_a_higher_expected_score_than_the_score_maximising_one(
    values: list[float], others: list[float]
) -> None:
    quantiles = np.sort(np.array(values))[None, :]

    def expected(point: float, within: float) -> float:
        error = np.abs(quantiles[0] - point)
        return float(0.7 * (error <= within).mean() - 0.3 * error.mean() / 24)

    best = expected(score_maximising_point(quantiles)[0], 6)
    candidates = [*quantiles[0], *(quantiles[0] + 5.9999), *np.maximum(quantiles[0] - 5.9999, 0), *others]
    assert all(best >= expected(point, 5.999) - 1e-5 for point in candidates)


@pytest.mark.parametrize(
    ("quantiles", "point", "problem"),
    [
        (np.zeros((2, 98)), np.zeros(2), "shape"),
        (np.zeros((3, 99)), np.zeros(3), "shape"),
        (np.zeros((2, 99)), np.zeros(3), "shape"),
        (np.full((2, 99), np.nan), np.zeros(2), "finite"),
        (np.zeros((2, 99)), np.array([0, np.inf]), "finite"),
        (np.full((2, 99), -1.0), np.zeros(2), "negative"),
        (np.full((2, 99), 1e12), np.zeros(2), "thousand years"),
        (np.tile(np.arange(99.0)[::-1], (2, 1)), np.zeros(2), "decrease"),
    ],
)
def test_invalid_forecasts_are_refused(quantiles: np.ndarray, point: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TIMING.validate(TimingForecasts(quantiles, point), 2)


def test_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="list instead of TimingForecasts"):
        TIMING.validate([1.0, 2.0], 2)


def test_targets_are_the_hours_since_the_post_before() -> None:
    posts = regular_posts(10, gap_hours=5.5)
    rows = np.array([1, 9])
    assert TIMING.targets(posts, Origins.before(posts, rows), rows).wait_hours.tolist() == [5.5, 5.5]


def test_a_forecasts_file_round_trips() -> None:
    posts = regular_posts(10)
    rows = np.array([4, 7])
    origins = Origins.before(posts, rows)
    targets = TIMING.targets(posts, origins, rows)
    forecasts = TimingForecasts(np.tile(LEVELS, (2, 1)), np.array([1.0, 2.0]))
    naive = constant(3.0, 2)
    data = TIMING.dump(forecasts, targets, origins, ["a", "ü"], naive)
    again, true, ids, reference, times = TIMING.parse(data)
    assert TIMING.are_equal(forecasts, again)
    assert reference is not None
    assert TIMING.are_equal(naive, reference)
    assert true.wait_hours.tolist() == targets.wait_hours.tolist()
    assert ids == ["a", "ü"]
    assert times.tolist() == origins.time.tolist()


def test_posts_that_all_have_one_time_cannot_be_trained_on() -> None:
    posts = regular_posts(60, gap_hours=0)
    with pytest.raises(InsufficientData, match="all 60 training posts have the same time, '2024-11-15T12:00:00"):
        TIMING.require_trainable(posts)


@given(st.integers(1, 300), st.integers(1, 50))
def test_evenly_spaced_covers_the_whole_range(count: int, max_count: int) -> None:
    chosen = evenly_spaced(count, max_count)
    assert len(chosen) == min(count, max_count)
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen[-1] == count - 1
    if max_count > 1:
        assert chosen[0] == 0
        assert np.ptp(np.diff(chosen)) <= 1 if len(chosen) > 1 else True


def exponential(rates: np.ndarray) -> TimingForecasts:
    """Return forecasts of exponential waits with these rates per hour."""
    return TimingForecasts.from_quantiles(-np.log(1 - LEVELS)[None, :] / rates[:, None])


@given(WAITS, st.floats(0.01, 0.99))
def test_the_probability_within_a_quantile_is_at_least_its_level(values: list[float], level: float) -> None:
    """It is exactly its level if the quantiles increase."""
    forecast = constant(0.0, 1)
    forecast = TimingForecasts(np.sort(np.array(values))[None, :], forecast.point)
    probability = forecast.probability_within(forecast.quantile(level))[0]
    assert probability >= level - 1e-6
    if np.diff(forecast.quantiles).min() > 1e-6:
        assert probability == pytest.approx(level, abs=1e-6)


@given(
    WAITS,
    st.lists(st.floats(0, 600), min_size=2, max_size=2),
)
def test_the_probability_rises_with_the_hours_from_0_to_99_percent(values: list[float], hours: list[float]) -> None:
    forecast = TimingForecasts(np.sort(np.array(values))[None, :], np.zeros(1))
    less, more = (float(forecast.probability_within(value)[0]) for value in sorted(hours))
    assert 0 <= less <= more <= 0.99


def test_an_interval_of_any_level() -> None:
    forecast = exponential(np.array([0.2]))
    low, high = forecast.interval(0.8)
    assert (low[0], high[0]) == (forecast.quantiles[0, 9], forecast.quantiles[0, 89])
    low, high = forecast.interval(0.5)
    assert low[0] == pytest.approx(-np.log(0.75) / 0.2, rel=0.01)
    assert high[0] == pytest.approx(-np.log(0.25) / 0.2, rel=0.01)


def test_the_reliability_of_a_calibrated_forecast_is_on_the_diagonal() -> None:
    rng = np.random.default_rng(8)
    rates = rng.uniform(0.02, 1, 4000)
    rows = TIMING.reliability(exponential(rates), TimingTargets(rng.exponential(1 / rates)))
    assert len(rows) == 13
    for row in rows:
        error = np.sqrt(row.stated * (1 - row.stated) / row.num_predictions)
        assert abs(row.stated - row.observed) < 4 * error + 0.01, row


def test_the_reliability_of_an_overconfident_forecast_is_not() -> None:
    rng = np.random.default_rng(8)
    rows = TIMING.reliability(exponential(np.full(1000, 1.0)), TimingTargets(rng.exponential(6, 1000)))
    by_name = {row.what: row for row in rows}
    assert by_name["wait within the 90% quantile"].observed < 0.5
    assert by_name["post within 6 h"].stated > 0.95
    assert by_name["post within 6 h"].observed == pytest.approx(1 - np.exp(-1), abs=0.05)


def test_segments_depend_only_on_what_the_origin_knows() -> None:
    posts = regular_posts(60, start=datetime(2024, 1, 1, tzinfo=UTC))  # a Monday
    posts["created_at"] += pd.to_timedelta(np.where(np.arange(60) < 50, 0, 5), unit="D")
    weekend = [time.weekday() >= 5 for time in posts["created_at"]]
    rows = np.arange(30, 60)
    origins = Origins.before(posts, rows)
    found = TIMING.segments(posts, origins)
    parts = [found[f"from {start:02d}:00 to {start + 6:02d}:00 UTC"] for start in (0, 6, 12, 18)]
    assert (np.sum(parts, axis=0) == 1).all()
    assert (found["on a weekday"] != found["on a weekend"]).all()
    assert found["on a weekend"].tolist() == [weekend[row] for row in rows - 1]
    (after_a_silence,) = (mask for name, mask in found.items() if name.startswith("after a silence of over 5 h"))
    assert (rows[after_a_silence] == 51).all(), "every gap is five hours here, but for the one before row 50"
    assert after_a_silence.sum() == 1
    # The post to forecast does not matter.
    other = posts.assign(created_at=posts["created_at"] + pd.to_timedelta(np.arange(60) // 59 * 300, unit="D"))
    assert all((TIMING.segments(other, origins)[name] == mask).all() for name, mask in found.items())


def bomb(start: bytes, expanded: int) -> bytes:
    """Return a small .npz whose array starts with a header and expands to zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("quantiles.npy", "w") as member:
        member.write(start)
        for _ in range(expanded // 2**20):
            member.write(bytes(2**20))
    return buffer.getvalue()


def header(count: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (count,)})
    return buffer.getvalue()


def test_a_small_file_of_forecasts_cannot_exhaust_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_ARRAY_BYTES", 50 * 2**20)
    data = bomb(header(2**23), 2**26)
    assert len(data) < 100_000
    with pytest.raises(ArtifactError, match=r"expands from 65,441 to 67,108,992 bytes, more than 52,428,800"):
        TIMING.parse(data)


@pytest.mark.parametrize("data", [b"", b"PK", bomb(header(10**14), 0), bomb(header(2**23), 2**20)])
def test_damaged_forecasts_are_one_error(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="a file of arrays is damaged"):
        TIMING.parse(data)


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in ("quantiles", "point", "wait_hours", "post_id", "baseline_quantiles")),
        {"quantiles": np.zeros((2, 98))},
        {"point": np.zeros(3)},
        {"wait_hours": np.zeros(1)},
        {"post_id": np.array(["a"])},
        {"wait_hours": np.array(["a", "b"])},
        {"point": np.array(5.0)},
    ],
)
def test_forecasts_that_lack_something_are_one_error(change: dict[str, NDArray[Any] | None]) -> None:
    arrays: dict[str, NDArray[Any] | None] = {
        "quantiles": np.zeros((2, 99)),
        "point": np.zeros(2),
        "wait_hours": np.zeros(2),
        "post_id": np.array(["a", "b"]),
        "baseline_quantiles": np.zeros((2, 99)),
        "baseline_point": np.zeros(2),
    }
    buffer = io.BytesIO()
    kept: dict[str, Any] = {name: array for name, array in (arrays | change).items() if array is not None}
    np.savez(buffer, **kept)
    with pytest.raises(ArtifactError, match="a file of forecasts is damaged"):
        TIMING.parse(buffer.getvalue())


def test_forecasts_with_code_in_them_are_refused() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, quantiles=np.array([print], dtype=object))
    with pytest.raises(ArtifactError, match="allow_pickle=False"):
        TIMING.parse(buffer.getvalue())
