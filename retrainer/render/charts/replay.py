"""Charts of a replay: the live score of each policy over time with its band, and the promotions of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.escapes import visible
from retrainer.evaluation.bootstrap import score_interval
from retrainer.model_types import get_model_type
from retrainer.model_types.base import evenly_spaced
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table
from retrainer.render.charts.times import format_axis, naive_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.render.charts.canvas import Canvas
    from retrainer.replay.results import Figure, PolicyReport, ReplayReport

# Each point of a line is the score of a moving window: one part in 12 of all posts, but at least 50.
WINDOW_FRACTION = 12
MIN_WINDOW = 50
_BAND_POINTS = 16
_MAX_POINTS = 300


def scores(report: ReplayReport) -> Chart | None:
    """Return the moving live score of each policy and of the naive forecast; None if no post was forecast."""
    policies = [policy for policy in report.policies if policy.live is not None]
    if not policies:
        return None
    window = _window(max(len(policy.live) for policy in policies if policy.live is not None))
    lines = dict(zip(_labels(policies), style.series_lines(len(policies)), strict=True))

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes([*lines, "naive forecast"])
        for index, (policy, (label, line)) in enumerate(zip(policies, lines.items(), strict=True)):
            live = policy.live
            if live is None:
                continue
            times, low, high = _band(report, live.rows, live.figures)
            axes.fill_between(times, low, high, color=line.colour.light, alpha=0.28 / (len(policies) + 1), linewidth=0)
            times, values = _moving_score(report, live.rows, live.figures)
            step = max(len(times) // 5, 1)
            axes.plot(
                times,
                values,
                marker=line.marker,
                markersize=5,
                markeredgecolor=style.SURFACE.light,
                markevery=(index * step // len(policies), step),
                label=label,
                **line.options(cased=index > 0),
            )
        first = policies[0].live
        if first is not None:
            axes.plot(
                *_moving_score(report, first.rows, first.naive_figures),
                label="naive forecast",
                **style.NAIVE.options(cased=True),
            )
        axes.set_ylabel(f"score over {window} posts (0 to 1)")
        axes.set_xlabel("time of the posts (UTC)")
        axes.set_xlim(*_limits(report))
        format_axis(axes.xaxis)
        canvas.legend(axes)

    return Chart(
        f"Replay of {report.model_type}: live score of each policy, with 95% interval",
        report.conclusion,
        Table(
            ("Policy", "Posts", "Live score", "95% interval", "Naive score"),
            [_row(policy) for policy in policies],
            right=("Posts", "Live score", "95% interval", "Naive score"),
        ),
        draw,
        height=320,
    )


def promotions(report: ReplayReport) -> Chart | None:
    """Return when each policy promoted a version; None without policies."""
    names = [_name(policy) for policy in report.policies]
    if not names:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.rows_axes(names, right=60)
        for index, (policy, line) in enumerate(zip(report.policies, style.series_lines(len(names)), strict=True)):
            times = naive_utc([step.at for step in policy.steps if step.promoted])
            axes.plot(
                times,
                np.full(len(times), index),
                linestyle="none",
                marker="|",
                markersize=13,
                markeredgewidth=2,
                color=line.colour.light,
            )
            axes.annotate(
                str(policy.promotions),
                (1.02, index),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=style.SMALL,
            )
        axes.set_xlabel("time of promotion (UTC); number of promotions at the right")
        axes.set_xlim(*_limits(report))
        format_axis(axes.xaxis)
        canvas.hover_rows(
            axes, [f"{name}: {policy.promotions}" for name, policy in zip(names, report.policies, strict=True)]
        )

    return Chart(
        "Promotions by policy",
        ", ".join(f"{_name(policy)}: {policy.promotions}" for policy in report.policies) + ".",
        Table(
            ("Policy", "Trainings", "Promotions", "Wrong in hindsight"),
            [
                (_name(policy), str(policy.trainings), str(policy.promotions), str(policy.reversed_promotions))
                for policy in report.policies
            ],
            right=("Trainings", "Promotions", "Wrong in hindsight"),
        ),
        draw,
        height=60 + 26 * len(names),
    )


def _labels(policies: Sequence[PolicyReport]) -> list[str]:
    """Return a label for each policy, which says whether its line is that of one before it."""
    labels: list[str] = []
    seen: dict[bytes, str] = {}
    for policy in policies:
        name, live = _name(policy), policy.live
        key = b"" if live is None else live.rows.tobytes() + live.figures.tobytes()
        labels.append(f"{name} (same as {seen[key]})" if key in seen else name)
        seen.setdefault(key, name)
    return labels


def _name(policy: PolicyReport) -> str:
    return visible(policy.policy.name)


def _limits(report: ReplayReport) -> NDArray[np.datetime64]:
    margin = (report.end - report.start) / 80
    return naive_utc([report.start - margin, report.end + margin])


def _row(policy: PolicyReport) -> tuple[str, ...]:
    if policy.live is None:
        return _name(policy), "0", "-", "-", "-"
    score = policy.live.score
    return (
        _name(policy),
        f"{len(policy.live):,}",
        f"{score.value:.4f}",
        _interval(score),
        f"{policy.live.naive_score.value:.4f}",
    )


def _interval(figure: Figure) -> str:
    return "-" if figure.interval is None else f"{figure.interval[0]:.4f} to {figure.interval[1]:.4f}"


def _window(count: int) -> int:
    return min(max(count // WINDOW_FRACTION, MIN_WINDOW), count)


def _middles(report: ReplayReport, rows: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Return (m,) the time of the middle post of each window."""
    window = _window(len(rows))
    middle: NDArray[np.datetime64] = report.times[rows[(window - 1) // 2 :][: len(rows) - window + 1]]
    return middle


def _moving_score(
    report: ReplayReport, rows: NDArray[np.int64], figures: NDArray[np.float64]
) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return (m,) times and (m,) scores of a moving window of posts, each at the time of the middle post."""
    window = _window(len(rows))
    sums = np.concatenate([np.zeros((1, figures.shape[1])), np.cumsum(figures, axis=0)])
    means = (sums[window:] - sums[:-window]) / window
    shown = evenly_spaced(len(means), _MAX_POINTS)
    return _middles(report, rows)[shown], get_model_type(report.model_type).overall_score(means[shown])


def _band(
    report: ReplayReport, rows: NDArray[np.int64], figures: NDArray[np.float64]
) -> tuple[NDArray[np.datetime64], list[float], list[float]]:
    """Return the times of a few windows, and the ends of the 95% intervals of their scores."""
    window = _window(len(rows))
    starts = evenly_spaced(len(rows) - window + 1, _BAND_POINTS)
    overall = get_model_type(report.model_type).overall_score
    found = [score_interval(figures[start : start + window], overall) for start in starts]
    low, high = zip(*(one or (np.nan, np.nan) for one in found), strict=True)
    return _middles(report, rows)[starts], [max(one, 0.0) for one in low], [min(one, 1.0) for one in high]
