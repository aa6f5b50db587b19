"""Charts of forecasts: of the next post and the next days, and of past ones beside what came."""

from __future__ import annotations

import math
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.model_types.timing import TimingForecasts
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
    unit = _bin_name(size)

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
        f"Half of the posts come by {_format(at + timedelta(hours=median))} UTC, and {level} between "
        f"{_format(at + timedelta(hours=low))} and {_format(at + timedelta(hours=high))} UTC. "
        f"The likeliest {unit} begins at {_format(starts[best])} UTC, with {chances[best]:.1%}.",
        Table(
            ("From (UTC)", f"Chance per {unit}", "Chance by its end"),
            [
                (_format(start), f"{chance:.1%}", f"{total:.1%}")
                for start, chance, total in zip(starts[:-1], chances, np.cumsum(chances), strict=True)
            ],
            right=(f"Chance per {unit}", "Chance by its end"),
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


def _bin_name(hours: float) -> str:
    return format_hours(hours).removeprefix("1 ") if hours != 1 else "hour"


def _format(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
