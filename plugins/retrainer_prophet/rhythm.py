"""The rhythm of the week: Prophet's expected posts an hour, for each of the 168 hours of a week in UTC."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

HOURS_OF_WEEK = 168
LOWEST_SHARE = 0.01  # no hour of the week is quieter than this share of the average hour

_FEWEST_POSTS = 200
_MOST_WEEKS = 104
_SATURDAY = 5
_MONDAY = np.datetime64("1970-01-05T00", "h")


def fit(times: NDArray[np.datetime64], weeks: int, seasonality_prior_scale: float) -> NDArray[np.float64]:
    """Fit Prophet to hourly counts and return (168,) expected posts an hour, Monday 00:00 UTC first.

    Growth is flat and the only seasonalities are the week's and those of a weekday and a weekend day, so the 168
    values are all that Prophet's forecast for any later hour consists of.

    Args:
        times: (n,) datetime64, UTC, in order; n ≥ 2.
        weeks: how far back to look from the last post; further, up to two years, where that holds under 200 posts.
        seasonality_prior_scale: Prophet's option of that name.
    """
    hours = times.astype("datetime64[h]")
    end = hours[-1] + 1
    start = max(hours[0], min(end - weeks * HOURS_OF_WEEK, hours[-min(_FEWEST_POSTS, len(hours))]))
    start = max(start, end - _MOST_WEEKS * HOURS_OF_WEEK)
    length = int((end - start).astype(int))
    counts = np.bincount((hours[hours >= start] - start).astype(int), minlength=length).astype(float)
    if length < 2 * HOURS_OF_WEEK or counts.min() == counts.max():
        return np.full(HOURS_OF_WEEK, max(float(counts.mean()), 1e-6))  # no week was seen twice: no rhythm to learn
    # A burst of hundreds of posts in one hour would bend the rhythm; what matters is that there were posts.
    frame = _hours(start, length).assign(y=np.sqrt(counts))
    with _quiet():
        model = _prophet(seasonality_prior_scale)
        model.fit(frame, seed=0)
        level = np.clip(model.predict(_hours(_MONDAY, HOURS_OF_WEEK))["yhat"].to_numpy(), 0, None) ** 2
    rate = counts.mean() / max(level.mean(), 1e-12) * level
    floored: NDArray[np.float64] = np.maximum(rate, LOWEST_SHARE * counts.mean())
    return floored


def since_monday(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return hours since a Monday 00:00 UTC long ago, with fractions; modulo 168 it is the hour of the week."""
    hours: NDArray[np.float64] = (times - _MONDAY) / np.timedelta64(3_600_000_000, "us")
    return hours


def _prophet(seasonality_prior_scale: float) -> Any:
    from prophet import Prophet  # noqa: PLC0415  quieted below, which must happen before it is used

    model = Prophet(
        growth="flat",
        weekly_seasonality=True,
        daily_seasonality=False,
        yearly_seasonality=False,
        seasonality_prior_scale=seasonality_prior_scale,
        uncertainty_samples=0,
    )
    for part in ("weekday", "weekend"):  # Saturdays have hours of their own
        model.add_seasonality(name=f"day_of_{part}", period=1, fourier_order=4, condition_name=part)
    return model


def _hours(start: np.datetime64, length: int) -> pd.DataFrame:
    """Return consecutive hours as Prophet wants them, told apart by weekday and weekend."""
    hours = pd.date_range(pd.Timestamp(start), periods=length, freq="h")
    weekend = hours.day_of_week >= _SATURDAY
    return pd.DataFrame({"ds": hours, "weekday": ~weekend, "weekend": weekend})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Prophet's and Stan's remarks out of the log, such as that plotly is missing, which nothing here needs."""
    loggers = [logging.getLogger(name) for name in ("prophet.plot", "prophet", "cmdstanpy")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            # Prophet calls pandas in ways that pandas will drop in its next major release, which is not allowed here.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
