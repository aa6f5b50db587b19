"""A forecast of the next post, as lines and a picture for a terminal."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from retrainer import console
from retrainer.model_types.timing import TimingForecasts
from retrainer.render import histogram
from retrainer.render.cells import format_expected_score, format_minute
from retrainer.times import format_hours

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.pipeline.forecast import NextPost
    from retrainer.pipeline.simulation import PostCount, Simulation

_MIN_SHOWN, _MAX_SHOWN = 0.02, 0.985  # probabilities between which a horizon is telling
_MAX_HORIZONS = 5
_DAY, _YEAR = 24.0, 24 * 365.25
_HORIZONS = (
    *(minutes / 60 for minutes in (1, 5, 15, 30)),
    *(1.0, 3.0, 6.0, 12.0, 24.0),
    *(days * _DAY for days in (3, 7, 30, 90)),
    *(years * _YEAR for years in (1, 3, 10, 30, 100, 300)),
)


def show_next_post(forecast: NextPost) -> None:
    """Print the forecast of the next post; if the posts are stale, that first, and both forecasts."""
    silence = format_hours((forecast.at - forecast.origin_at).total_seconds() / 3600)
    if forecast.stale:
        now = forecast.at == forecast.made_at
        stale = f"are stale: the newest is {silence} old" if now else f"were stale: the newest was {silence} old"
        console.text(console.Styled(f"The posts {stale}. Are newer ones missing?", "warning"))
    side = f" ({forecast.side} of the A/B test)" if forecast.side else ""
    console.text(f"Version {forecast.version_id}{side}, last post {format_minute(forecast.origin_at)} UTC")
    if forecast.model_type == "content":
        _show_text(forecast)
        return
    earlier = forecast.as_of_last_post
    if earlier is not None:
        console.text("", f"Now, after {silence} without a post:")
    _show_distribution(forecast)
    if forecast.simulation is not None:
        console.text()
        _show_simulation(forecast.simulation, _format_level(forecast))
    if earlier is not None:
        console.text("", "As of the last post (`--at last`):")
        _show_distribution(earlier)


def _show_text(forecast: NextPost) -> None:
    # Before the text, which could imitate these lines.
    if forecast.expected_score is not None:
        console.text(format_expected_score(forecast.expected_score))
    if forecast.agreement is not None:
        console.text(f"Agreement of samples: {forecast.agreement:.2f} (1: all are the same)")
    console.text(f"Next post, written for {format_minute(forecast.next_post_at)} UTC:")
    text = f"(no text: {forecast.outcome})" if forecast.text is None else forecast.text
    console.text(*text.split("\n"))


def _show_distribution(forecast: NextPost) -> None:
    """Print the point, the median, the interval, a picture of the distribution and some of its probabilities."""
    point, median = forecast.point_hours or 0.0, forecast.median_hours or 0.0
    low, high = forecast.interval_hours or (0.0, 0.0)
    distribution = TimingForecasts(np.array([forecast.quantiles_hours]), np.array([point]))
    console.text(
        f"Next post: {_time(forecast, point)} (best expected score, within 6 h)",
        f"Median: {_time(forecast, median)} (half of the posts come earlier)",
        f"{_format_level(forecast)} interval: {format_hours(low)} to {format_hours(high)}",
    )
    characters = console.bar_characters()
    if characters:
        title, *columns, axis, labels = histogram.draw(distribution, forecast.at, characters)
        console.text("", title, *(console.Styled(row, "bar") for row in columns), axis, labels, "")
    chances = ", ".join(f"{format_hours(hours)} {share:.0%}" for hours, share in _telling_chances(distribution))
    console.text(f"Chance within {chances}")


def _time(forecast: NextPost, wait_hours: float) -> str:
    """Return the time after a wait from the moment of the forecast, and the wait."""
    time = forecast.at + timedelta(hours=wait_hours)
    wait = format_hours(wait_hours)
    return f"{format_minute(time)} UTC, {f'in {wait}' if forecast.at == forecast.made_at else f'{wait} later'}"


def _telling_chances(distribution: TimingForecasts) -> list[tuple[float, float]]:
    """Return a few horizons in hours at which a post is neither nearly certain nor nearly impossible."""
    found = [(hours, float(distribution.probability_within(hours)[0])) for hours in _HORIZONS]
    telling = [chance for chance in found if _MIN_SHOWN <= chance[1] <= _MAX_SHOWN]
    if not telling:
        return [next((chance for chance in found if chance[1] > _MAX_SHOWN), found[-1])]
    chosen = np.unique(np.linspace(0, len(telling) - 1, _MAX_HORIZONS).round().astype(int))
    return [telling[index] for index in chosen]


def _format_level(forecast: NextPost) -> str:
    return f"{100 * (forecast.interval_level or 0.0):.4g}%"  # 80%, or 97.5%


def _show_simulation(simulation: Simulation, level: str) -> None:
    """Print the posts a day and the coming posts."""
    if simulation.until is not None and simulation.total is not None:
        rows = [_count_cells(_describe_day(simulation, index), day) for index, day in enumerate(simulation.days)]
        if len(rows) > 1:
            rows.append(_count_cells("Total", simulation.total))
        interval = f"{level} interval"
        console.table([f"Day ({simulation.timezone})", "Posts", interval], rows, right=["Posts", interval])
    if simulation.posts:
        rows = [
            (str(post.number), _or_later(post.median_at), " to ".join(map(_or_later, post.interval_at)))
            for post in simulation.posts
        ]
        console.table(["Post", "Median (UTC)", f"{level} interval (UTC)"], rows, right=["Post"])


def _describe_day(simulation: Simulation, index: int) -> str:
    """Return the date, with the time where only a part of the day is forecast."""
    day, zone = simulation.days[index], ZoneInfo(simulation.timezone)
    start, end = (time.astimezone(zone) for time in (day.start, day.end))
    since = f" from {start:%H:%M}" if index == 0 else ""
    until = f" until {end:%H:%M}" if index == len(simulation.days) - 1 and end.date() == day.day else ""
    return f"{day.day}{since}{until}"


def _count_cells(label: str, count: PostCount) -> tuple[str, str, str]:
    low, high = count.interval
    return label, f"{count.expected:.1f}", f"{low} to {high}"


def _or_later(time: datetime | None) -> str:
    return "later" if time is None else format_minute(time)
