"""Charts of a stream of posts: how many come, at which hours of the week, at which gaps, and whether that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.model_types.base import hours_between
from retrainer.render.charts import style, week
from retrainer.render.charts.chart import Chart, Table
from retrainer.render.charts.times import format_axis
from retrainer.times import format_hours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.live.drift import Drift
    from retrainer.render.charts.canvas import Canvas

_MAX_BINS = 80
_STEPS: dict[str, np.timedelta64] = {
    "day": np.timedelta64(1, "D"),
    "week": np.timedelta64(7, "D"),
    "month": np.timedelta64(1, "M"),
    "year": np.timedelta64(1, "Y"),
}
_GAP_BINS = 40
_GAP_TICKS = (1 / 3600, 1 / 60, 10 / 60, 1.0, 6.0, 24.0, 7 * 24.0, 30 * 24.0, 365.25 * 24)
_ROW = 34
_DRIFT_NAMES = {
    "rate": "posts a day",
    "gaps": "gaps between posts",
    "hours": "hours of the week",
    "length": "length of texts",
    "no_text": "posts without text",
}


def rate(times: NDArray[np.datetime64]) -> Chart | None:
    """Return the number of posts a day over time, by day, week, month or year; None without posts.

    The first and the last bar may be of a part of such a time.

    Args:
        times: (n,) datetime64, UTC, ascending.
    """
    if not len(times):
        return None
    period, edges, counts = _count(times)
    days = np.diff(edges.astype("datetime64[D]")).astype(np.int64)
    rates = counts / days

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(left=66)
        axes.stairs(rates, edges, fill=True, color=style.BLUE.light, alpha=0.8)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, max(float(rates.max()) * 1.06, 0.1))
        axes.set_ylabel("posts a day")
        axes.set_xlabel(f"{period} (UTC)")
        format_axis(axes.xaxis)
        middles = edges[:-1] + (edges[1:] - edges[:-1]) // 2
        texts = [f"{_name(one, period)}: {rate:.3g} a day, {count} posts" for one, rate, count in rows]
        canvas.hover_columns(axes, middles, texts)

    rows = list(zip(edges[:-1], rates.tolist(), counts.tolist(), strict=True))
    busiest = int(rates.argmax())
    return Chart(
        f"Posts a day, by {period}",
        f"{len(times):,} posts from {str(times[0])[:10]} to {str(times[-1])[:10]}. The busiest {period}: "
        f"{_name(edges[busiest], period)}, {rates[busiest]:.3g} a day.",
        Table(
            (period.capitalize(), "Posts", "Posts a day"),
            [(_name(one, period), f"{count:,}", f"{rate:.2f}") for one, rate, count in rows],
            right=("Posts", "Posts a day"),
        ),
        draw,
        height=220,
    )


def hours_of_week(times: NDArray[np.datetime64]) -> Chart | None:
    """Return the posts by hour of the week as a heat map; None without posts.

    Args:
        times: (n,) datetime64, UTC.
    """
    if not len(times):
        return None
    cells = week.Cells.of(times)
    counts = np.bincount(cells.of_time, minlength=cells.count)
    weeks = max(float((times.max() - times.min()) / np.timedelta64(7, "D")), 1.0)
    rates = counts / weeks
    texts = [f"{cells.name(cell)}: {rates[cell]:.2f} posts a week" for cell in range(cells.count)]

    def draw(canvas: Canvas) -> None:
        week.draw_heat(canvas, rates, "posts per week", texts, lambda value: f"{value:.2g}")

    busiest, quietest = int(counts.argmax()), int(counts.argmin())
    return Chart(
        "Posts by hour of the week",
        f"Most posts come on {cells.name(busiest)} UTC ({rates[busiest]:.2f} a week), fewest on "
        f"{cells.name(quietest)} UTC ({rates[quietest]:.2f}).",
        Table(
            ("Hours (UTC)", *week.WEEKDAYS),
            [
                (cells.hours_name(part), *(f"{rate:.2f}" for rate in rates[part :: cells.parts]))
                for part in range(cells.parts)
            ],
            right=week.WEEKDAYS,
        ),
        draw,
        height=week.HEIGHT,
    )


def gaps(times: NDArray[np.datetime64]) -> Chart | None:
    """Return the distribution of the gaps between posts, on a logarithmic axis; None with fewer than three posts.

    Args:
        times: (n,) datetime64, UTC, ascending.
    """
    if len(times) < 3:  # noqa: PLR2004
        return None
    hours = np.maximum(hours_between(times[:-1], times[1:]), 1 / 3600)
    low, high = float(hours.min()), float(hours.max())
    edges = np.geomspace(low / 1.05, high * 1.05, _GAP_BINS + 1)
    shares = np.histogram(hours, edges)[0] / len(hours)
    median, long = (float(one) for one in np.quantile(hours, [0.5, 0.9]))

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(["gaps", "median", "90% are shorter"])
        bars = axes.stairs(100 * shares, edges, fill=True, color=style.BLUE.light, alpha=0.75, label="gaps")
        middle = axes.axvline(median, color=style.TEXT.light, linewidth=1.6, linestyle=(0, (5, 2)), label="median")
        far = axes.axvline(
            long, color=style.VERMILION.light, linewidth=1.6, linestyle=(0, (1.5, 2)), label="90% are shorter"
        )
        axes.set_xscale("log")
        ticks = [tick for tick in _GAP_TICKS if edges[0] <= tick <= edges[-1]]
        axes.set_xticks(ticks, [format_hours(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 100 * float(shares.max()) * 1.06)
        axes.set_ylabel("share of gaps (%)")
        axes.set_xlabel("gap between posts (log scale)")
        canvas.legend(axes, [bars, middle, far])
        canvas.hover_columns(axes, np.sqrt(edges[1:] * edges[:-1]), [": ".join(row) for row in rows])

    rows = [
        (f"{format_hours(start)} to {format_hours(stop)}", f"{share:.1%}")
        for start, stop, share in zip(edges[:-1], edges[1:], shares, strict=True)
    ]
    return Chart(
        "Gaps between posts",
        f"Half of {len(hours):,} gaps are shorter than {format_hours(median)}, 90% shorter than {format_hours(long)}; "
        f"the longest is {format_hours(high)}.",
        Table(("Gap", "Share of gaps"), rows, right=("Share of gaps",)),
        draw,
        height=240,
    )


def drift(found: Sequence[Drift]) -> Chart | None:
    """Return the evidence that the stream has changed since the live fit was trained; None if nothing was measured."""
    shown = [one for one in found if one.evidence is not None]
    if not shown:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.rows_axes([_DRIFT_NAMES[one.kind] for one in shown], right=120)
        values = [max(one.evidence or 0.0, 1.0) for one in shown]
        threshold = shown[0].threshold
        for index, (one, value) in enumerate(zip(shown, values, strict=True)):
            line = style.OTHER if one.alarm else style.VERSION
            axes.plot((1, min(value, threshold * 100)), (index, index), color=line.colour.light, linewidth=3, alpha=0.6)
            axes.plot([min(value, threshold * 100)], [index], line.marker, color=line.colour.light, markersize=9)
            axes.annotate(
                _drift_word(one),
                (1.015, index),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=style.SMALL,
            )
        axes.axvline(threshold, color=style.TEXT.light, linewidth=1.6, linestyle=(0, (5, 2)))
        axes.set_xscale("log")
        axes.set_xlim(0.8, max(threshold * 3, min(max(values), threshold * 100) * 1.5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xticks([], minor=True)
        axes.set_xlabel(f"evidence of a change (dashed: alarm at {threshold:,.0f})")
        canvas.hover_rows(axes, [one.sentence for one in shown])

    alarms = [one for one in shown if one.alarm]
    return Chart(
        "Have the posts changed since training?",
        ". ".join(one.sentence for one in alarms or shown) + ".",
        Table(
            ("Check", "Evidence", "Alarm", "Finding"),
            [
                (
                    _DRIFT_NAMES[one.kind],
                    "-" if one.evidence is None else f"{one.evidence:,.3g}",
                    f"since {one.since}" if one.alarm else "no",
                    one.sentence,
                )
                for one in found
            ],
            right=("Evidence",),
        ),
        draw,
        height=64 + _ROW * len(shown),
    )


def _drift_word(one: Drift) -> str:
    if one.alarm:
        return "changed"
    return "change too small for an alarm" if (one.evidence or 0.0) >= one.threshold else "unchanged"


def _count(times: NDArray[np.datetime64]) -> tuple[str, NDArray[np.datetime64], NDArray[np.int64]]:
    """Return the period of a bar, the (k + 1,) edges of the bars as dates, and (k,) the posts in each."""
    for period, step in _STEPS.items():
        first, last = (_start(time, period) for time in (times[0], times[-1]))
        edges = np.arange(first, last + 2 * step, step)[: int((last - first) / step) + 2]
        if len(edges) <= _MAX_BINS + 1 or period == "year":
            break
    counts = np.diff(np.searchsorted(times, edges.astype("datetime64[us]")))
    return period, edges.astype("datetime64[D]"), counts.astype(np.int64)


def _start(time: np.datetime64, period: str) -> np.datetime64:
    if period == "week":
        day = np.datetime64(str(time)[:10], "D")
        return np.datetime64(day - np.timedelta64((int(day.astype(np.int64)) + 3) % 7, "D"))  # the epoch: a Thursday
    return np.datetime64(str(time)[: {"day": 10, "month": 7, "year": 4}[period]])


def _name(day: np.datetime64, period: str) -> str:
    text = str(day)
    return {"day": text, "week": f"week of {text}", "month": text[:7], "year": text[:4]}[period]
