"""Charts of forecasts: of the next post and the next days, and of past ones with the actual waits."""

from __future__ import annotations

import math
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.model_types.base import evenly_spaced
from retrainer.model_types.timing import INTERVAL_LEVEL, TimingForecasts
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table
from retrainer.render.charts.times import format_axis, naive_utc
from retrainer.times import format_hours

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from retrainer.pipeline.forecast import NextPost
    from retrainer.render.charts.canvas import Canvas

_SHOWN_LEVEL = 0.97  # of the distribution; the rest comes later
_BINS = (1 / 12, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0)  # hours; longer ones are whole days
_MAX_BINS = 72
_SAMPLE, _SAMPLE_ROW = 20, 17
_WAIT_TICKS = (0.0, 0.5, 1.0, 3.0, 6.0, 12.0, 24.0, 3 * 24.0, 7 * 24.0, 30 * 24.0, 90 * 24.0, 365.25 * 24)


def next_post(forecast: NextPost) -> Chart | None:
    """Return the chance of the next post by hour, with the interval and the median; None for content."""
    if forecast.quantiles_hours is None or forecast.interval_hours is None:
        return None
    quantiles = np.array([forecast.quantiles_hours])
    distribution = TimingForecasts(quantiles, np.zeros(1))
    at, size, edges = _edges(distribution, forecast.at)
    chances = np.diff(_probability_by(distribution, edges))
    low, high = forecast.interval_hours
    median = forecast.median_hours or 0.0
    level = f"{100 * (forecast.interval_level or 0.0):.4g}%"
    starts = [at + timedelta(hours=float(edge)) for edge in edges]
    unit = "hour" if size == 1 else format_hours(size).removeprefix("1 ")

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes([f"chance per {unit}", f"{level} interval", "median"])
        times = naive_utc(starts)
        axes.axvspan(*_both(at, low, high), color=style.OCHRE.light, alpha=0.18, linewidth=0, label=f"{level} interval")
        axes.stairs(100 * chances, times, fill=True, color=style.BLUE.light, alpha=0.75, label=f"chance per {unit}")
        axes.axvline(_both(at, median)[0], color=style.TEXT.light, linewidth=1.6, linestyle=(0, (5, 2)), label="median")
        axes.set_xlim(times[0], times[-1])
        axes.set_ylim(0, 100 * float(chances.max()) * 1.08)
        axes.set_ylabel(f"chance per {unit} (%)")
        axes.set_xlabel("time (UTC)")
        format_axis(axes.xaxis)
        handles = {handle.get_label(): handle for handle in axes.get_legend_handles_labels()[0]}
        canvas.legend(axes, [handles[name] for name in (f"chance per {unit}", f"{level} interval", "median")])
        middles = [time + timedelta(hours=size / 2) for time in starts[:-1]]
        canvas.hover_columns(
            axes,
            naive_utc(middles),
            [f"{_format(time)} UTC: {chance:.1%}" for time, chance in zip(starts[:-1], chances, strict=True)],
        )

    best = int(chances.argmax())
    return Chart(
        f"Next post: chance per {unit}",
        f"It comes by {_format(at + timedelta(hours=median))} UTC with a chance of 50%, and with {level} between "
        f"{_format(at + timedelta(hours=low))} and {_format(at + timedelta(hours=high))} UTC. "
        f"The likeliest {unit} begins at {_format(starts[best])} UTC, with {chances[best]:.1%}.",
        Table(
            ("From (UTC)", f"Chance per {unit}", "Cumulative chance"),
            [
                (_format(start), f"{chance:.1%}", f"{total:.1%}")
                for start, chance, total in zip(starts[:-1], chances, np.cumsum(chances), strict=True)
            ],
            right=(f"Chance per {unit}", "Cumulative chance"),
        ),
        draw,
    )


def _edges(distribution: TimingForecasts, at: datetime) -> tuple[datetime, float, NDArray[np.float64]]:
    """Return the time from which hours count, the hours of a bin, and the edges of the bins in hours."""
    shown = max(float(distribution.quantile(_SHOWN_LEVEL)[0]), _BINS[0])
    size = next((size for size in _BINS if shown / size <= _MAX_BINS), 24.0 * math.ceil(shown / 24 / _MAX_BINS))
    since_midnight = (at - at.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(hours=1)
    first = since_midnight // size * size - since_midnight  # the bins begin at round times
    edges = first + size * np.arange(math.ceil((shown - first) / size) + 1, dtype=np.float64)
    return at, float(size), np.asarray(edges, dtype=np.float64)


def _probability_by(distribution: TimingForecasts, hours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) the probability of a post by each of n times; none has come by the first."""
    repeated = TimingForecasts(np.repeat(distribution.quantiles, len(hours), axis=0), np.zeros(len(hours)))
    probability = repeated.probability_within(np.maximum(hours, 0.0))
    probability[0] = 0.0
    return probability


def _both(at: datetime, *hours: float) -> NDArray[np.datetime64]:
    return naive_utc([at + timedelta(hours=one) for one in hours])


def _format(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def beside_posts(
    origins: NDArray[np.datetime64],
    forecasts: TimingForecasts,
    wait_hours: NDArray[np.float64],
) -> Chart | None:
    """Return a sample of the forecasts with their intervals, and the actual waits; None without forecasts.

    Args:
        origins: (n,) datetime64, UTC: when each forecast was made.
        forecasts: n.
        wait_hours: (n,) the actual waits.
    """
    if not len(forecasts):
        return None
    rows = evenly_spaced(len(forecasts), _SAMPLE)
    low, high = (side[rows] for side in forecasts.interval())
    point, wait = forecasts.point[rows], wait_hours[rows]
    covered = (low <= wait) & (wait <= high)
    is_long = origins[rows[-1]] - origins[rows[0]] > np.timedelta64(300, "D")
    shown = slice(0, 10) if is_long else slice(5, 16)  # the date, or the time without the year
    names = [str(origin)[shown].replace("T", " ") for origin in origins[rows].astype("datetime64[m]")]
    percent = f"{INTERVAL_LEVEL:.0%}"

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes([f"{percent} interval", "forecast", "actual wait", "actual wait, outside"], left=100)
        places = np.arange(len(rows))
        handles = [
            axes.barh(
                places,
                high - low,
                left=low,
                height=0.55,
                color=style.BLUE.light,
                alpha=0.3,
                label=f"{percent} interval",
            ),
            *axes.plot(
                point, places, "|", color=style.BLUE.light, markersize=10, markeredgewidth=2.5, label="forecast"
            ),
            *axes.plot(wait[covered], places[covered], "o", color=style.TEXT.light, markersize=6, label="actual wait"),
            *axes.plot(
                wait[~covered],
                places[~covered],
                "D",
                color=style.VERMILION.light,
                markerfacecolor=style.SURFACE.light,
                markeredgewidth=2,
                markersize=6.5,
                label="actual wait, outside",
            ),
        ]
        axes.set_xscale("symlog", linthresh=1, linscale=0.6)
        highest = float(max(high.max(), wait.max(), 1.0)) * 1.15
        ticks = [tick for tick in _WAIT_TICKS if tick <= highest]
        axes.set_xlim(-0.04, highest)
        axes.set_xticks(ticks, [format_hours(tick) if tick else "0" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_yticks(places, names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.set_ylabel("forecast made (UTC)")
        axes.set_xlabel("wait until the post (log scale above 1 h)")
        canvas.legend(axes, handles)
        canvas.hover_rows(axes, [", ".join(cells) for cells in table_rows])

    table_rows = [
        (
            str(origin)[:16].replace("T", " "),
            f"{format_hours(first)} to {format_hours(last)}",
            format_hours(one),
            format_hours(actual),
            "inside" if inside else "outside",
        )
        for origin, first, last, one, actual, inside in zip(
            origins[rows], low.tolist(), high.tolist(), point.tolist(), wait.tolist(), covered, strict=True
        )
    ]
    return Chart(
        "Forecast and actual waits",
        f"{int(covered.sum())} of {len(rows)} evenly spaced posts came within the {percent} interval.",
        Table(("Made (UTC)", f"{percent} interval", "Forecast", "Actual wait", ""), table_rows, right=()),
        draw,
        height=86 + _SAMPLE_ROW * len(rows),
    )


def days(forecast: NextPost) -> Chart | None:
    """Return the posts a day that the simulation of a forecast expects, with intervals; None without days."""
    simulation = forecast.simulation
    if simulation is None or not simulation.days:
        return None
    counts = simulation.days
    level = f"{100 * (forecast.interval_level or 0.0):.4g}%"
    names = [f"{day.day:%m-%d}" for day in counts]

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(["expected", f"{level} interval"])
        places = np.arange(len(counts))
        expected = np.array([day.expected for day in counts])
        low, high = np.array([day.interval for day in counts]).T
        bars = axes.bar(
            places, expected, width=0.1 * min(len(counts), 7), color=style.BLUE.light, alpha=0.75, label="expected"
        )
        lines = axes.errorbar(
            places,
            expected,
            yerr=(np.maximum(expected - low, 0), np.maximum(high - expected, 0)),
            fmt="none",
            color=style.TEXT.light,
            elinewidth=1.8,
            capsize=4,
            label=f"{level} interval",
        )
        step = max(math.ceil(len(names) / 10), 1)
        axes.set_xticks(places[::step], names[::step])
        axes.set_ylim(0, None)
        axes.margins(y=0.08)
        axes.set_ylabel("posts")
        axes.set_xlabel(f"day ({simulation.timezone}); the first and last may be partial")
        canvas.legend(axes, [bars, lines])
        canvas.hover_columns(axes, places, [": ".join(row[:2]) + f" ({row[2]})" for row in rows])

    rows = [(f"{day.day}", f"{day.expected:.1f}", f"{day.interval[0]} to {day.interval[1]}") for day in counts]
    return Chart(
        "Posts a day",
        ". ".join(f"{name}: {row[1]} posts, {row[2]} ({level} interval)" for name, row in zip(names, rows, strict=True))
        + ".",
        Table(
            (f"Day ({simulation.timezone})", "Posts", f"{level} interval"), rows, right=("Posts", f"{level} interval")
        ),
        draw,
    )
