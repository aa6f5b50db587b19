"""The plot of live scores: weekly scores, by how much the error is smaller so far, and the evidence."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import UsageError
from retrainer.evaluation.sequential import ROLLBACK_THRESHOLD, VERDICT_THRESHOLD
from retrainer.render.plots import NAIVE_COLOUR, write_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from retrainer.live.report import LiveReport
    from retrainer.live.summary import Against

_END_OF_WEEK = timedelta(days=6, hours=23, minutes=59)
_LOWEST, _HIGHEST = -1.5, 0.375  # the ends of what an interval can tell apart
_SHOWN_E = (0.01, 1e6)
_OTHERS: dict[Against, tuple[str, str, str]] = {
    "naive": ("naive forecast", NAIVE_COLOUR, ":"),
    "previous": ("version before", "C1", "--"),
    "challenger": ("challenger", "C2", "--"),
}


def draw(report: LiveReport, path: Path) -> None:
    """Write the plot as PNG or SVG, depending on the extension.

    Raises:
        UsageError: there is nothing to draw.
        RetrainerError: the file cannot be written.
    """
    if not report.weeks:
        raise UsageError("--plot: no live post has been scored yet", hint="Try again when posts have come")

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415  slow to import

    def draw_on(figure: Figure) -> None:
        scores, errors, evidence = figure.subplots(3, sharex=True, height_ratios=(3, 2, 2))
        _draw_scores(scores, report)
        _draw_errors(errors, report)
        _draw_evidence(evidence, report)
        for axes in (scores, evidence):
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        locator = AutoDateLocator(maxticks=9)  # type: ignore[no-untyped-call]
        evidence.xaxis.set_major_locator(locator)
        evidence.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        figure.align_ylabels()

    write_figure(draw_on, path, (9, 6.5))


def _draw_scores(axes: Axes, report: LiveReport) -> None:
    times = _times(report)
    live = [week.live.score for week in report.weeks]
    axes.plot(*_break_at_gaps(times, live), "o-", markersize=3, color="C0", label="live")
    for name, (label, colour, style) in _OTHERS.items():
        scores = [getattr(week, name) for week in report.weeks]
        if any(scores):
            values = [np.nan if score is None else score.score for score in scores]
            axes.plot(*_break_at_gaps(times, values), style, color=colour, label=label)
    axes.set_ylabel("score of the week")
    axes.set_title(f"{report.model_type.capitalize()}: {report.version_id} on live posts", loc="left")


def _draw_errors(axes: Axes, report: LiveReport) -> None:
    """Draw the interval of the error against the naive forecast, which narrows as posts come."""
    times = _times(report)
    intervals = [week.so_far for week in report.weeks]
    low = [_percent(_HIGHEST if one.high is None else one.high) for one in intervals]
    high = [_percent(_LOWEST if one.low is None else one.low) for one in intervals]
    estimate = [np.nan if one.estimate is None else _percent(one.estimate) for one in intervals]
    axes.fill_between(times, low, high, color="C0", alpha=0.25, linewidth=0)
    axes.plot(times, estimate, color="C0")
    axes.axhline(0, color=NAIVE_COLOUR, linewidth=0.8)
    axes.set_ylim(max(min(low), -60), min(max(high), 60))
    axes.set_ylabel("error so far,\n% over naive")


def _draw_evidence(axes: Axes, report: LiveReport) -> None:
    times = _times(report)
    for name, (label, colour, style) in _OTHERS.items():
        pairs = [week.evidence.get(name) for week in report.weeks]
        if any(pairs):
            worse = [np.nan if pair is None else pair.worse for pair in pairs]
            better = [np.nan if pair is None else pair.better for pair in pairs]
            axes.plot(
                times,
                np.clip(worse, *_SHOWN_E),
                style,
                color="C3" if name == "naive" else colour,
                label=f"worse than {label}",
            )
            if name == "naive":
                axes.plot(times, np.clip(better, *_SHOWN_E), "-", color="C2", label=f"better than {label}")
    axes.set_yscale("log")
    for threshold in (VERDICT_THRESHOLD, ROLLBACK_THRESHOLD):
        axes.axhline(threshold, color=NAIVE_COLOUR, linewidth=0.8)
        place = (0.995, threshold)
        axes.annotate(
            f"{threshold:.0f}",
            place,
            xycoords=("axes fraction", "data"),
            color=NAIVE_COLOUR,
            fontsize="small",
            ha="right",
            va="bottom",
        )
    axes.set_ylabel("evidence (e-value)")


def _break_at_gaps(
    times: NDArray[np.datetime64], values: Sequence[float]
) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return times and values of a line that is broken where weeks without posts are between two."""
    gaps = np.flatnonzero(np.diff(times) > np.timedelta64(7, "D")) + 1
    return np.insert(times, gaps, times[gaps]), np.insert(np.array(values, dtype=float), gaps, np.nan)


def _times(report: LiveReport) -> NDArray[np.datetime64]:
    return np.array([(week.start + _END_OF_WEEK).replace(tzinfo=None) for week in report.weeks], dtype="datetime64[us]")


def _percent(smaller: float) -> float:
    return -100 * smaller
