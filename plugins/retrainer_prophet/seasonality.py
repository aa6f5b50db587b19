"""The weekly profile, by Prophet: how likely it is that an hour has a post.

Prophet gets one row per hour of local time, 1 with a post and 0 without. Its forecast gives a weekly profile and, if
the options ask for them, a trend and the effects of holidays.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from retrainer.algorithms import hours_between, without_secrets
from retrainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from retrainer_prophet import ProphetOptions
    from retrainer_prophet.time_grid import Floats

HOURS_PER_WEEK = 168
_MIN_SHARE = 0.05  # no hour is quieter than this share of the average hour
_MIN_POSTS = 200
_MAX_WEEKS = 104
_HOLIDAY_YEARS = 5  # after the training posts, of which a model knows the holidays
_SATURDAY = 5
_MONDAY = np.datetime64("1970-01-05T00", "h")


@dataclass(frozen=True)
class WeeklyProfile:
    """How likely it is that an hour has a post.

    Attributes:
        week: (168,) the probability for each hour of a week of local time, Monday 00:00 first.
        timezone: the name of the local time zone.
        trend: hours of local time since the Monday, and what the trend adds to the average hour at each; both empty
            without a trend.
        holidays: what a holiday adds to the average hour, by the number of the local day since the Monday.
    """

    week: Floats
    timezone: str = "UTC"
    trend: list[list[float]] = field(default_factory=lambda: [[], []])
    holidays: dict[int, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain data."""
        return {
            "posts_an_hour": self.week.tolist(),
            "timezone": self.timezone,
            "trend": self.trend,
            "holidays": {str(day): effect for day, effect in self.holidays.items()},
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> WeeklyProfile:
        """Read the plain data back."""
        holidays = {int(day): effect for day, effect in stored["holidays"].items()}
        return cls(np.asarray(stored["posts_an_hour"], dtype=float), stored["timezone"], stored["trend"], holidays)

    def log_relative_activity(self, starts: Floats, ends: Floats) -> Floats:
        """Return the logarithm of the probability of a post in an hour over that in the average hour of the week.

        Args:
            starts: hours since the Monday, UTC; see `hours_since_monday`.
            ends: likewise, not before the starts. The probability is the mean over at least half an hour.
        """
        local = self.local_hours((starts + ends) / 2)
        half = np.maximum(ends - starts, 0.5) / 2
        probability = (self._integral(local + half) - self._integral(local - half)) / (2 * half)
        mean = self.week.mean()
        # Prophet adds the same effect to all hours of a holiday; multiplied, a quiet day is quieter in the busy hours.
        probability = probability * np.clip((mean + self._trend_and_holidays(local)) / mean, _MIN_SHARE, 1 / _MIN_SHARE)
        logarithm: Floats = np.log(np.clip(probability / mean, _MIN_SHARE, 1 / _MIN_SHARE))
        return logarithm

    def local_hours(self, hours: Floats) -> Floats:
        """Return hours of local time since the Monday, at hours since the Monday, UTC."""
        return hours + self._utc_offset(hours)

    def _trend_and_holidays(self, local: Floats) -> Floats:
        """Return what they add to the probability of the average hour at local hours."""
        added = np.zeros(len(local))
        if self.trend[0]:
            # Constant after training: extrapolated, it leaves the range of any stream within weeks.
            added += np.interp(local, self.trend[0], self.trend[1])
        if self.holidays:
            days, effects = np.array(sorted(self.holidays.items()), dtype=float).T
            index = np.minimum(np.searchsorted(days, np.floor(local / 24)), len(days) - 1)
            added += np.where(days[index] == np.floor(local / 24), effects[index], 0.0)
        return added

    def _integral(self, local: Floats) -> Floats:
        """Return the integral of the profile from the Monday to local hours."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.week)])
        weeks, within = np.divmod(local, HOURS_PER_WEEK)
        integral: Floats = weeks * cumulative[-1] + np.interp(within, np.arange(HOURS_PER_WEEK + 1.0), cumulative)
        return integral

    def _utc_offset(self, hours: Floats) -> Floats | float:
        """Return how many hours local time is ahead of UTC at hours since the Monday."""
        if self.timezone == "UTC":
            return 0.0
        distinct, inverse = np.unique(np.floor(hours).astype(np.int64), return_inverse=True)
        times = (_MONDAY + distinct).astype("datetime64[s]")
        return hours_between(times, _local_times(times, self.timezone))[inverse]


def fit_profile(times: NDArray[np.datetime64], options: ProphetOptions) -> WeeklyProfile:
    """Fit Prophet to whether each hour of the last weeks has a post.

    Uses the `options.weeks` weeks before the last post, and up to two years if these hold fewer than 200 posts.

    Args:
        times: (n,) datetime64, UTC, in order; n ≥ 2.
        options: `weeks`, `timezone`, `trend`, `holidays`.
    """
    hours = _local_times(times, options.timezone).astype("datetime64[h]")
    end = hours[-1] + 1
    start = max(hours[0], min(end - options.weeks * HOURS_PER_WEEK, hours[-min(_MIN_POSTS, len(hours))]))
    start = max(start, end - _MAX_WEEKS * HOURS_PER_WEEK)
    length = int((end - start).astype(int))
    recent = hours[hours >= start]
    has_post = np.zeros(length)
    has_post[np.clip((recent - start).astype(int), 0, length - 1)] = 1.0  # clip: local times fall when clocks go back
    level = float(has_post.mean())
    if length < 2 * HOURS_PER_WEEK or has_post.min() == has_post.max():
        # No week was seen twice, or all hours are alike: there is no rhythm to learn.
        return WeeklyProfile(np.full(HOURS_PER_WEEK, level), options.timezone)
    with _silenced_prophet(), without_secrets():  # Stan is a program of its own
        prophet = _build_prophet(options)
        prophet.fit(_hourly_rows(start, length).assign(y=has_post), seed=0)
        week = prophet.predict(_hourly_rows(_MONDAY, HOURS_PER_WEEK))
        first_day, days = int((start - _MONDAY).astype(int)) // 24, length // 24 + 1
        trend = _trend(prophet, start, first_day, days) if options.trend else [[], []]
        holidays = _holiday_effects(prophet, first_day, days) if options.holidays else {}
    seasonality = week["yhat"] - week["trend"] - week.get("holidays", 0.0)
    profile = np.maximum(seasonality.to_numpy() - seasonality.mean() + level, _MIN_SHARE * level)
    return WeeklyProfile(profile, options.timezone, trend, holidays)


def hours_since_monday(times: NDArray[np.datetime64]) -> Floats:
    """Return hours since Monday 1970-01-05 00:00 UTC, with fractions; modulo 168 they are the hour of the week."""
    return hours_between(np.asarray(_MONDAY), times)


def require_holidays(country: str) -> None:
    """Check that Prophet's holiday calendar knows this country.

    Raises:
        ConfigError: it does not.
    """
    from holidays import list_supported_countries  # noqa: PLC0415  slow to import; Prophet depends on it

    if country not in list_supported_countries():
        raise ConfigError(
            f"timing_model.prophet.holidays: Prophet knows no holidays of '{country}'",
            hint="Use a two-letter country code such as US",
        )


def _trend(prophet: Any, start: np.datetime64, first_day: int, days: int) -> list[list[float]]:
    """Return local hours since the Monday, weekly and at both ends of the training, and the centred trend there."""
    values = prophet.predict(_hourly_rows(start, days * 24).iloc[::24])["trend"].to_numpy()
    hours = (first_day + np.arange(len(values))) * 24.0
    weekly = np.unique(np.append(np.arange(0, len(values), 7), len(values) - 1))
    return [hours[weekly].tolist(), (values - values.mean())[weekly].tolist()]


def _holiday_effects(prophet: Any, first_day: int, days: int) -> dict[int, float]:
    """Return the effects of the holidays from the first day of the training to some years after it, by day."""
    hours = _hourly_rows(_MONDAY + np.timedelta64(first_day * 24, "h"), (days + _HOLIDAY_YEARS * 366) * 24)
    effects = prophet.predict(hours.iloc[12::24])["holidays"].to_numpy()
    return {first_day + int(day): float(effects[day]) for day in np.flatnonzero(effects)}


def _local_times(times: NDArray[np.datetime64], timezone: str) -> NDArray[np.datetime64]:
    if timezone == "UTC":
        return times
    return pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(timezone).tz_localize(None).to_numpy()


def _build_prophet(options: ProphetOptions) -> Any:
    from retrainer_prophet.fast_prophet import FastProphet  # noqa: PLC0415  logs when imported, which the caller silences

    prophet = FastProphet(
        growth="linear" if options.trend else "flat",
        weekly_seasonality=True,
        daily_seasonality=False,
        yearly_seasonality=False,
        uncertainty_samples=0,
    )
    for days in ("weekday", "weekend"):
        prophet.add_seasonality(name=f"day_of_{days}", period=1, fourier_order=4, condition_name=days)
    if options.holidays:
        prophet.add_country_holidays(country_name=options.holidays)
    return prophet


def _hourly_rows(start: np.datetime64, length: int) -> pd.DataFrame:
    """Return consecutive hours as Prophet takes them, with a column each for weekdays and weekends."""
    hours = pd.date_range(pd.Timestamp(start), periods=length, freq="h")
    weekend = hours.day_of_week >= _SATURDAY
    return pd.DataFrame({"ds": hours, "weekday": ~weekend, "weekend": weekend})


@contextmanager
def _silenced_prophet() -> Iterator[None]:
    """Keep messages of Prophet and Stan out of the log, such as that plotly is missing, which is not needed here."""
    loggers = [logging.getLogger(name) for name in ("prophet.plot", "prophet", "cmdstanpy", "matplotlib")]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings(action="ignore"):  # Prophet uses deprecated features of pandas
            yield
    finally:
        for logger in loggers:
            logger.disabled = False
