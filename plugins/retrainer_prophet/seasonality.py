"""The rhythm of the week, by Prophet: how likely it is that an hour has a post.

Prophet gets one row an hour, 1 where there was a post and 0 where there was none, in local time. Its forecast is a
weekly profile and, where the options ask for them, a trend and the effects of holidays.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from retrainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from retrainer_prophet import ProphetOptions

    Floats = NDArray[np.float64]

HOURS_OF_WEEK = 168

_LOWEST_SHARE = 0.05  # no hour is quieter than this share of the average hour
_FEWEST_POSTS = 200
_MOST_WEEKS = 104
_HOLIDAY_YEARS = 5  # how far ahead of the training the holidays are known to a model
_SATURDAY = 5
_MONDAY = np.datetime64("1970-01-05T00", "h")


@dataclass(frozen=True)
class Rhythm:
    """How likely it is that an hour has a post.

    Attributes:
        week: (168,) the likelihood in each hour of a week of local time, Monday 00:00 first.
        timezone: the name of the local time zone.
        trend: what is added to the average hour, at local hours since a Monday long ago: hours and values; empty
            without a trend.
        holidays: what is added to the average hour of a local day, by the number of the day since that Monday.
    """

    week: Floats
    timezone: str = "UTC"
    trend: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    holidays: dict[int, float] | None = None

    def document(self) -> dict[str, Any]:
        """Return the rhythm as plain data."""
        return {
            "posts_an_hour": self.week.tolist(),
            "timezone": self.timezone,
            "trend": [list(row) for row in self.trend],
            "holidays": {str(day): effect for day, effect in (self.holidays or {}).items()},
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Rhythm:
        """Read the plain data back."""
        hours, values = document["trend"]
        return cls(
            np.asarray(document["posts_an_hour"], dtype=float),
            document["timezone"],
            (tuple(hours), tuple(values)),
            {int(day): effect for day, effect in document["holidays"].items()},
        )

    def log_likelihood(self, starts: Floats, ends: Floats) -> Floats:
        """Return the logarithm of the likelihood of an hour with a post, against the average hour of the week.

        Args:
            starts: hours since the Monday, UTC; see `since_monday`.
            ends: likewise, not before the starts; the mean over at least half an hour is taken.
        """
        middle = (starts + ends) / 2
        local = middle + self._offset(middle)
        half = np.maximum(ends - starts, 0.5) / 2
        likelihood = (self._until(local + half) - self._until(local - half)) / (2 * half)
        mean = self.week.mean()
        # Prophet's effect of a holiday is the same for all hours of the day; a quiet day is quiet where others are not.
        likelihood = likelihood * np.clip((mean + self._over_time(local)) / mean, _LOWEST_SHARE, 1 / _LOWEST_SHARE)
        logarithm: Floats = np.log(np.clip(likelihood / mean, _LOWEST_SHARE, 1 / _LOWEST_SHARE))
        return logarithm

    def _over_time(self, local: Floats) -> Floats:
        """Return what trend and holidays add to the likelihood of the average hour, at local hours."""
        added = np.zeros(len(local))
        if self.trend[0]:
            # After the training it is held where it was: carried on, it leaves what any stream does after some weeks.
            added += np.interp(local, self.trend[0], self.trend[1])
        if self.holidays:
            days, effects = np.array(sorted(self.holidays.items()), dtype=float).T
            place = np.minimum(np.searchsorted(days, np.floor(local / 24)), len(days) - 1)
            added += np.where(days[place] == np.floor(local / 24), effects[place], 0.0)
        return added

    def _until(self, local: Floats) -> Floats:
        """Return the integral of the weekly profile from the Monday to local hours."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.week)])
        weeks, within = np.divmod(local, HOURS_OF_WEEK)
        integral: Floats = weeks * cumulative[-1] + np.interp(within, np.arange(HOURS_OF_WEEK + 1.0), cumulative)
        return integral

    def _offset(self, hours: Floats) -> Floats | float:
        """Return how many hours local time is ahead of UTC, at hours since the Monday."""
        if self.timezone == "UTC":
            return 0.0
        full, inverse = np.unique(np.floor(hours).astype(np.int64), return_inverse=True)
        utc = pd.DatetimeIndex((_MONDAY + full).astype("datetime64[s]"))
        local = utc.tz_localize("UTC").tz_convert(self.timezone).tz_localize(None)
        offsets: Floats = ((local - utc) / pd.Timedelta(hours=1)).to_numpy(dtype=float)
        return offsets[inverse]


def fit(times: NDArray[np.datetime64], options: ProphetOptions) -> Rhythm:
    """Fit Prophet to the hours of the last weeks, each with a post or without.

    Looks back `options.weeks` weeks from the last post, further (up to two years) where these hold under 200 posts.

    Args:
        times: (n,) datetime64, UTC, in order; n ≥ 2.
        options: `weeks`, `timezone`, `trend`, `holidays`.
    """
    hours = _local(times, options.timezone).astype("datetime64[h]")
    end = hours[-1] + 1
    start = max(hours[0], min(end - options.weeks * HOURS_OF_WEEK, hours[-min(_FEWEST_POSTS, len(hours))]))
    start = max(start, end - _MOST_WEEKS * HOURS_OF_WEEK)
    length = int((end - start).astype(int))
    inside = hours[hours >= start]  # where clocks go back, local time does not rise everywhere
    has_post = np.zeros(length)
    has_post[np.clip((inside - start).astype(int), 0, length - 1)] = 1.0
    if length < 2 * HOURS_OF_WEEK or has_post.min() == has_post.max():
        # No week was seen twice, or every hour is like any other: no rhythm to learn.
        return Rhythm(np.full(HOURS_OF_WEEK, has_post.mean()), options.timezone)
    with _quiet():
        model = _prophet(options)
        model.fit(_hours(start, length).assign(y=has_post), seed=0)
        parts = model.predict(_hours(_MONDAY, HOURS_OF_WEEK))
        seasons = parts["yhat"] - parts["trend"] - parts.get("holidays", 0.0)
        over_time = _over_time(model, start, length, options)
    level = float(has_post.mean())
    week = np.maximum(seasons.to_numpy() - seasons.mean() + level, _LOWEST_SHARE * level)
    return Rhythm(week, options.timezone, *over_time)


def since_monday(times: NDArray[np.datetime64]) -> Floats:
    """Return hours since a Monday 00:00 UTC long ago, with fractions; modulo 168 it is the hour of the week."""
    hours: Floats = (times - _MONDAY) / np.timedelta64(3_600_000_000, "us")
    return hours


def require_holidays(country: str) -> None:
    """Check that the calendar that Prophet takes its holidays from has this country.

    Raises:
        ConfigError: it does not.
    """
    from holidays import list_supported_countries  # noqa: PLC0415  slow to import; Prophet depends on it

    if country not in list_supported_countries():
        raise ConfigError(
            f"timing_model.prophet.holidays: Prophet knows no holidays of '{country}'",
            hint="Give a country by its two letters, such as US",
        )


def _over_time(
    model: Any, start: np.datetime64, length: int, options: ProphetOptions
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], dict[int, float]]:
    """Return the trend, about its mean, and the effects of the holidays of the training weeks and of years to come."""
    first_day = int((start - _MONDAY).astype(int)) // 24
    days = length // 24 + 1
    trend: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    holidays: dict[int, float] = {}
    if options.trend:
        values = model.predict(_hours(start, days * 24).iloc[::24])["trend"].to_numpy()
        hours = (first_day + np.arange(len(values))) * 24.0
        chosen = np.unique(np.append(np.arange(0, len(values), 7), len(values) - 1))  # it bends little within a week
        trend = (tuple(hours[chosen].tolist()), tuple((values - values.mean())[chosen].tolist()))
    if options.holidays:
        ahead = days + _HOLIDAY_YEARS * 366
        noons = _hours(_MONDAY + np.timedelta64(first_day * 24, "h"), ahead * 24).iloc[12::24]
        effects = model.predict(noons)["holidays"].to_numpy()
        holidays = {first_day + int(day): float(effects[day]) for day in np.flatnonzero(effects)}
    return trend, holidays


def _local(times: NDArray[np.datetime64], timezone: str) -> NDArray[np.datetime64]:
    if timezone == "UTC":
        return times
    local: NDArray[np.datetime64] = (
        pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(timezone).tz_localize(None).to_numpy()
    )
    return local


def _prophet(options: ProphetOptions) -> Any:
    from prophet import Prophet  # noqa: PLC0415  quieted below, which must happen before it is used

    model = Prophet(
        growth="linear" if options.trend else "flat",
        weekly_seasonality=True,
        daily_seasonality=False,
        yearly_seasonality=False,
        uncertainty_samples=0,
    )
    for part in ("weekday", "weekend"):  # Saturdays have hours of their own
        model.add_seasonality(name=f"day_of_{part}", period=1, fourier_order=4, condition_name=part)
    if options.holidays:
        model.add_country_holidays(country_name=options.holidays)
    return model


def _hours(start: np.datetime64, length: int) -> pd.DataFrame:
    """Return consecutive hours as Prophet wants them, told apart by weekday and weekend."""
    hours = pd.date_range(pd.Timestamp(start), periods=length, freq="h")
    weekend = hours.day_of_week >= _SATURDAY
    return pd.DataFrame({"ds": hours, "weekday": ~weekend, "weekend": weekend})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Prophet's and Stan's remarks out of the log, such as that plotly is missing, which nothing here needs."""
    loggers = [logging.getLogger(name) for name in ("prophet.plot", "prophet", "cmdstanpy", "matplotlib")]
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
