"""Charts of live scores: the scores by week, by how much the error is smaller so far, and the evidence."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.sequential import ROLLBACK_THRESHOLD, VERDICT_THRESHOLD
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table
from retrainer.render.charts.times import format_axis, naive_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from retrainer.live.report import LiveReport, LiveWeek
    from retrainer.live.summary import Against
    from retrainer.render.charts.canvas import Canvas
    from retrainer.render.charts.style import Line

_END_OF_WEEK = timedelta(days=6, hours=23, minutes=59)
_LOWEST, _HIGHEST = -1.5, 0.375  # the ends of what an interval can tell apart
_MAX_PERCENT = 60
_WIDE = 2.8
_FEW_WEEKS = 20
_SHOWN_E = (0.01, 1e6)
_BY_EVIDENCE: tuple[Against, ...] = ("naive", "previous", "challenger")
_OTHERS: dict[Against, tuple[str, Line]] = {
    "previous": ("previous version", style.OTHER),
    "challenger": ("challenger", style.CHALLENGER),
    "naive": ("naive forecast", style.NAIVE),
}


def scores(report: LiveReport) -> Chart | None:
    """Return the scores by week beside those of the other forecasts; None without live posts."""
    weeks = report.weeks
    if not weeks:
        return None
    others: dict[str, tuple[str, Line]] = {
        name: _OTHERS[name] for name in _OTHERS if any(getattr(week, name) for week in weeks)
    }

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(["production version", *(label for label, _ in others.values())])
        times = _times(weeks)
        lines = {"live": ("production version", style.VERSION), **others}  # naive last: its dots hide least
        for name, (label, line) in lines.items():
            found = [getattr(week, name) for week in weeks]
            values = [np.nan if score is None else score.score for score in found]
            is_live = name == "live"  # it is drawn first and wide, so that it shows below lines that coincide with it
            axes.plot(
                *_break_at_gaps(times, values),
                marker=line.marker,
                markersize=(8 if is_live else 5) if len(weeks) <= _FEW_WEEKS else (5 if is_live else 3.5),
                markeredgecolor=style.SURFACE.light,
                label=label,
                **(line._replace(width=_WIDE) if is_live else line).options(cased=not is_live),
            )
        axes.set_ylabel("score of the week (0 to 1)")
        _finish(axes, times)
        canvas.legend(axes)
        texts = [
            f"Week of {week.start:%Y-%m-%d}, {week.live.num_posts} posts: live {week.live.score:.4f}, "
            f"naive {week.naive.score:.4f}"
            for week in weeks
        ]
        canvas.hover_columns(axes, times, texts)

    better = sum(week.live.score > week.naive.score for week in weeks)
    headers = ("Posts", "Live", *(label.capitalize() for label, _ in others.values()))
    return Chart(
        f"Live scores of {report.version_id} by week",
        f"In {better} of {len(weeks)} weeks the production version scored better than the naive forecast.",
        Table(
            ("Week of", *headers),
            [
                (
                    f"{week.start:%Y-%m-%d}",
                    str(week.live.num_posts),
                    *(
                        "-" if score is None else f"{score.score:.4f}"
                        for score in (week.live, *(getattr(week, name) for name in others))
                    ),
                )
                for week in weeks
            ],
            right=headers,
        ),
        draw,
    )


def errors(report: LiveReport) -> Chart | None:
    """Return by how much the error differs from the naive forecast's so far, with its 95% interval.

    None without live posts.
    """
    weeks = report.weeks
    if not weeks:
        return None
    intervals = [week.so_far for week in weeks]
    low = [_percent(_HIGHEST if one.high is None else one.high) for one in intervals]
    high = [_percent(_LOWEST if one.low is None else one.low) for one in intervals]
    estimate = [np.nan if one.estimate is None else _percent(one.estimate) for one in intervals]

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(["cumulative error", "95% interval", "as good as naive"])
        times = _times(weeks)
        band = axes.fill_between(times, low, high, color=style.BLUE.light, alpha=0.2, linewidth=0, label="95% interval")
        zero = axes.axhline(0, label="as good as naive", **style.NAIVE.options())
        (line,) = axes.plot(times, estimate, label="cumulative error", **style.VERSION.options())
        axes.set_ylim(max(np.nanmin([*low, *estimate]), -_MAX_PERCENT) - 2, min(max(high), _MAX_PERCENT) + 2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
        axes.set_ylabel("error relative to naive (%)")
        _finish(axes, times)
        canvas.legend(axes, [line, band, zero])
        canvas.hover_columns(axes, times, [f"{week.start:%Y-%m-%d}: {_describe(week)}" for week in weeks])

    return Chart(
        "Cumulative live error relative to the naive forecast",
        f"After all live posts: {_describe(weeks[-1])}. The interval stays valid however often you look.",
        Table(
            ("Up to the week of", "Error relative to naive", "95% interval"),
            [
                (f"{week.start:%Y-%m-%d}", _signed(value), f"{_signed(lower)} to {_signed(upper)}")
                for week, value, lower, upper in zip(weeks, estimate, low, high, strict=True)
            ],
            right=("Error relative to naive", "95% interval"),
        ),
        draw,
    )


def evidence(report: LiveReport) -> Chart | None:
    """Return the evidence (e-values) that the live version is worse or better; None without live posts."""
    weeks = report.weeks
    if not weeks:
        return None
    rows = [
        (f"worse than {label}" if side == "worse" else f"better than {label}", name, side, line)
        for name in _BY_EVIDENCE
        for label, line in [_OTHERS[name]]
        if any(name in week.evidence for week in weeks)
        for side in ("better", "worse")
        if side == "worse" or name != "previous"
    ]

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes([label for label, *_ in rows], left=84)
        times = _times(weeks)
        for (label, name, side, _), line in zip(rows, style.series_lines(len(rows)), strict=True):
            values = [getattr(week.evidence.get(name), side, np.nan) for week in weeks]
            axes.plot(
                times,
                np.clip(values, *_SHOWN_E),
                marker=line.marker,
                markersize=4,
                markevery=max(len(weeks) // 6, 1),
                label=label,
                **line.options(cased=True),
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axes.minorticks_off()
        lowest, highest = axes.get_ylim()
        axes.set_ylim(lowest, max(highest, 2 * ROLLBACK_THRESHOLD))
        for threshold, what in ((VERDICT_THRESHOLD, "significant"), (ROLLBACK_THRESHOLD, "rollback")):
            axes.axhline(threshold, color=style.TEXT.light, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                f"{what} at {threshold:.0f}",
                (0.995, threshold),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=style.SMALL,
                color=style.MUTED.light,
            )
        axes.set_ylabel("evidence (e-value)")
        _finish(axes, times)
        canvas.legend(axes)
        canvas.hover_columns(axes, times, [f"{week.start:%Y-%m-%d}: {_list_evidence(week)}" for week in weeks])

    headers = tuple(label.capitalize() for label, *_ in rows)
    return Chart(
        "Evidence that the production version is worse or better",
        f"After all live posts: {_list_evidence(weeks[-1])}. {VERDICT_THRESHOLD:.0f} or more is significant "
        f"(95% confidence), and {ROLLBACK_THRESHOLD:.0f} or more is enough for a rollback.",
        Table(
            ("Up to the week of", *headers),
            [
                (
                    f"{week.start:%Y-%m-%d}",
                    *(_e_value(getattr(week.evidence.get(name), side, None)) for _, name, side, _ in rows),
                )
                for week in weeks
            ],
            right=headers,
        ),
        draw,
        height=280,
    )


def _finish(axes: Axes, times: NDArray[np.datetime64]) -> None:
    margin = max((times[-1] - times[0]) // 60, np.timedelta64(1, "D"))
    axes.set_xlim(times[0] - margin, times[-1] + margin)
    axes.set_xlabel("end of the week (UTC)")
    format_axis(axes.xaxis)


def _break_at_gaps(
    times: NDArray[np.datetime64], values: Sequence[float]
) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return times and values of a line that is broken where weeks without posts are between two."""
    gaps = np.flatnonzero(np.diff(times) > np.timedelta64(7, "D")) + 1
    return np.insert(times, gaps, times[gaps]), np.insert(np.array(values, dtype=float), gaps, np.nan)


def _times(weeks: Sequence[LiveWeek]) -> NDArray[np.datetime64]:
    return naive_utc([week.start + _END_OF_WEEK for week in weeks])


def _percent(smaller: float) -> float:
    return -100 * smaller


def _signed(percentage: float) -> str:
    return "-" if np.isnan(percentage) else f"{percentage:+.1f}%"


def _describe(week: LiveWeek) -> str:
    return f"the error is {week.so_far.describe(None)} that of the naive forecast"


def _list_evidence(week: LiveWeek) -> str:
    return ", ".join(
        f"worse than the {_OTHERS[name][0]} {_e_value(pair.worse)}, better {_e_value(pair.better)}"
        for name, pair in week.evidence.items()
    )


def _e_value(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= _SHOWN_E[1]:
        return f"over {_SHOWN_E[1]:,.0f}"
    # Not rounded up to a threshold that it has not reached.
    return f"{math.floor(value):,}" if value >= VERDICT_THRESHOLD else f"{math.floor(100 * value) / 100:g}"
