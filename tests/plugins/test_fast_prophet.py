"""`FastProphet`: the same parameters and forecasts as Prophet, to the last digit."""

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
@pytest.mark.parametrize(("growth", "holidays"), [("flat", False), ("linear", True)])
def test_results_are_those_of_prophet(growth: str, *, holidays: bool) -> None:
    from prophet import Prophet

    from retrainer_prophet.fast_prophet import FastProphet

    options: dict[str, Any] = {"growth": growth, "daily_seasonality": False, "uncertainty_samples": 0}
    slow, fast, again = (_prepared(kind(**options), holidays=holidays) for kind in (Prophet, FastProphet, FastProphet))
    for prophet in (slow, fast, again):
        prophet.fit(_rows(), seed=0)
    for fitted in (fast, again):
        for name, values in fitted.params.items():
            assert np.array_equal(values, slow.params[name]), name
        pd.testing.assert_frame_equal(fitted.predict(_rows()), slow.predict(_rows()), check_exact=True)


@pytest.mark.filterwarnings("ignore")
def test_where_stan_fails_cmdstanpy_takes_over() -> None:
    from retrainer_prophet.fast_prophet import FastProphet

    fast, failing = (_prepared(FastProphet(growth="flat"), holidays=False) for _ in range(2))
    failing._stan_program = shutil.which("false")
    for prophet in (fast, failing):
        prophet.fit(_rows(), seed=0)
    assert np.array_equal(fast.params["beta"], failing.params["beta"])


@pytest.mark.filterwarnings("ignore")
def test_a_fit_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrainer_prophet.fast_prophet import FastProphet

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _prepared(FastProphet(growth="flat"), holidays=False).fit(_rows(), seed=0)
    assert not list(Path(tmp_path).iterdir())
