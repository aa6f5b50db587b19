"""`FastProphet`: the parameters and forecasts of Prophet, with a trend to the last digit, else nearer to the mode."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HOURS = pd.date_range("2025-11-03 05:00", periods=5 * 168, freq="h")


@pytest.fixture(scope="module", autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _rows() -> pd.DataFrame:
    weekend = HOURS.day_of_week >= 5
    has_post = np.random.default_rng(1).random(len(HOURS)) < 0.2 + 0.1 * np.sin(HOURS.hour / 4)
    return pd.DataFrame({"ds": HOURS, "weekday": ~weekend, "weekend": weekend, "y": has_post.astype(float)})


def _prepared(prophet: Any, *, holidays: bool) -> Any:
    for days in ("weekday", "weekend"):
        prophet.add_seasonality(name=f"day_of_{days}", period=1, fourier_order=4, condition_name=days)
    if holidays:
        prophet.add_country_holidays(country_name="US")
    return prophet


@pytest.mark.filterwarnings("ignore")  # of Prophet and pandas
def test_with_a_trend_results_are_those_of_prophet() -> None:
    slow, fast, again = _fitted("linear", holidays=True)
    for fitted in (fast, again):
        for name, values in fitted.params.items():
            assert np.array_equal(values, slow.params[name]), name
        pd.testing.assert_frame_equal(fitted.predict(_rows()), slow.predict(_rows()), check_exact=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("holidays", [False, True])
def test_without_a_trend_results_are_those_of_prophet_but_closer_to_the_mode(*, holidays: bool) -> None:
    slow, fast, again = _fitted("flat", holidays=holidays)
    for name, values in fast.params.items():
        assert values == pytest.approx(slow.params[name], abs=1e-4), name
        assert np.array_equal(values, again.params[name]), name
    assert fast.predict(_rows())["yhat"].to_numpy() == pytest.approx(slow.predict(_rows())["yhat"].to_numpy(), abs=1e-4)
    assert _log_posterior(fast) >= _log_posterior(slow)
    for name in ("m", "sigma_obs", "beta"):  # it is the mode: no step leads higher
        for step in (-1e-4, 1e-4):
            moved = dict(fast.params)
            moved[name] = moved[name] + step
            assert _log_posterior(fast, moved) < _log_posterior(fast)


@pytest.mark.filterwarnings("ignore")
def test_multiplicative_components_are_left_to_stan() -> None:
    slow, fast, _ = _fitted("flat", holidays=False, seasonality_mode="multiplicative")
    assert np.array_equal(fast.params["beta"], slow.params["beta"])


def _fitted(growth: str, *, holidays: bool, **more: Any) -> list[Any]:
    """Return Prophet, and `FastProphet` twice, fitted to the same rows."""
    from prophet import Prophet

    from retrainer_prophet.fast_prophet import FastProphet

    options: dict[str, Any] = {"growth": growth, "daily_seasonality": False, "uncertainty_samples": 0, **more}
    return [
        _prepared(kind(**options), holidays=holidays).fit(_rows(), seed=0)
        for kind in (Prophet, FastProphet, FastProphet)
    ]


def _log_posterior(prophet: Any, params: dict[str, Any] | None = None) -> float:
    """Return the logarithm of the posterior density of parameters, by Prophet's model, but for a constant."""
    found = {name: np.ravel(values) for name, values in (params or prophet.params).items()}
    columns, scales, _, _ = prophet.make_all_seasonality_features(prophet.history)
    residuals = prophet.history["y_scaled"] - found["m"] - columns.to_numpy() @ found["beta"]
    sigma = float(found["sigma_obs"][0])
    prior = (found["m"][0] / 5) ** 2 + ((found["beta"] / np.array(scales)) ** 2).sum() + (sigma / 0.5) ** 2
    return float(-len(residuals) * np.log(sigma) - (residuals**2).sum() / sigma**2 / 2 - prior / 2)


@pytest.mark.filterwarnings("ignore")
def test_where_stan_fails_cmdstanpy_takes_over() -> None:
    from retrainer_prophet.fast_prophet import FastProphet

    fast, failing = (_prepared(FastProphet(growth="linear"), holidays=False) for _ in range(2))
    failing._stan_program = shutil.which("false")
    for prophet in (fast, failing):
        prophet.fit(_rows(), seed=0)
    assert np.array_equal(fast.params["beta"], failing.params["beta"])


@pytest.mark.filterwarnings("ignore")
def test_a_fit_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrainer_prophet.fast_prophet import FastProphet

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _prepared(FastProphet(growth="linear"), holidays=False).fit(_rows(), seed=0)
    assert not list(Path(tmp_path).iterdir())
