"""Charts of scores: of each run over time, and several side by side with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrainer.escapes import visible
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table
from retrainer.render.charts.times import format_axis, naive_utc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from matplotlib.axes import Axes

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.tables import LedgerEntry, TrainingRun
    from retrainer.render.charts.canvas import Canvas
    from retrainer.render.charts.style import Line

_ROW = 34
_SCORE_MARGIN = 0.06  # of the range of the scores


class ScoreInterval(NamedTuple):
    """A score with its 95% interval.

    Attributes:
        label: whose score it is.
        score: the overall score.
        interval: None if it is not known.
        line: how it is drawn.
    """

    label: str
    score: float
    interval: tuple[float, float] | None
    line: Line = style.VERSION


class _Kind(NamedTuple):
    label: str
    line: Line
    is_filled: bool


_KINDS = {  # by whether the version was promoted
    True: _Kind("promoted version", style.VERSION, is_filled=True),
    False: _Kind("version not promoted", style.OTHER, is_filled=False),
}
_PRODUCTION, _NAIVE, _ROLLBACK, _FAILED = "production, same posts", "naive, same posts", "rollback", "failed run"


def history(
    model_type: ModelTypeName,
    runs: Sequence[TrainingRun],
    entries: Sequence[LedgerEntry] = (),
    naive: Mapping[str, float] | None = None,
) -> Chart | None:
    """Return the score of the version of each run beside that of production on the same posts; None without a score.

    Args:
        model_type: the model type of all runs.
        runs: in any order.
        entries: of the ledger; rollbacks and promotions by hand are marked.
        naive: the score of the naive forecast on the same posts, by run.
    """
    scored = sorted((run for run in runs if run.test_overall_score is not None), key=_time)
    if not scored:
        return None
    failed = [run for run in runs if run.status == "failed"]
    rollbacks = [entry.at for entry in entries if entry.action == "rollback"]
    by_hand = [entry.at for entry in entries if entry.action == "promotion" and not entry.automatic]
    naive_scores = naive or {}

    def draw(canvas: Canvas) -> None:
        shown = {run.promoted_to_production for run in scored}
        labels = [kind.label for promoted, kind in _KINDS.items() if promoted in shown]
        labels += [_PRODUCTION] * any(run.production_score is not None for run in scored)
        labels += [_NAIVE] * any(run.run_id in naive_scores for run in scored)
        labels += [_ROLLBACK] * bool(rollbacks) + ["promotion by hand"] * bool(by_hand) + [_FAILED] * bool(failed)
        axes = canvas.axes(labels)
        _draw_runs(axes, scored, naive_scores)
        for times, label, line in (
            (rollbacks, _ROLLBACK, style.Line(style.VERMILION, (0, (6, 3)), 1.4)),
            (by_hand, "promotion by hand", style.Line(style.GREEN, (0, (8, 3, 2, 3)), 1.4)),
        ):
            for index, time in enumerate(naive_utc(times)):
                axes.axvline(time, label=label if not index else "", zorder=1, **line.options())
        if failed:
            axes.plot(
                naive_utc([_time(run) for run in failed]),
                np.zeros(len(failed)) + 0.03,
                "x",
                color=style.TEXT.light,
                markersize=7,
                markeredgewidth=2,
                transform=axes.get_xaxis_transform(),
                label=_FAILED,
            )
        axes.set_ylabel("test score (0 to 1)")
        axes.set_xlabel("time of the run (UTC)")
        axes.margins(x=0.04, y=0.12)
        format_axis(axes.xaxis)
        found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        canvas.legend(axes, [found[label] for label in labels])
        canvas.hover_points(
            axes,
            naive_utc([_time(run) for run in scored]),
            [run.test_overall_score or 0.0 for run in scored],
            [_describe(run) for run in scored],
        )

    promoted = sum(run.promoted_to_production for run in scored)
    latest = scored[-1]
    return Chart(
        f"{model_type.capitalize()}: score of each run's version",
        f"{len(scored)} versions were scored, {promoted} of them promoted, {len(rollbacks)} rolled back; {len(failed)} "
        f"runs failed. The latest: {_describe(latest)}. Different runs are scored on different posts.",
        Table(
            ("Run", "Version", "Score", "Production", "Naive", "Outcome"),
            [
                (
                    f"{_time(run):%Y-%m-%d %H:%M}",
                    run.model_version_id or "-",
                    _number(run.test_overall_score),
                    _number(run.production_score),
                    _number(naive_scores.get(run.run_id)),
                    "promoted" if run.promoted_to_production else "not promoted",
                )
                for run in reversed(scored)
            ],
            right=("Score", "Production", "Naive"),
        ),
        draw,
        height=280,
    )


def intervals(title: str, rows: Sequence[ScoreInterval]) -> Chart | None:
    """Return scores on the same posts below each other, each with its 95% interval; None without any.

    Args:
        title: of the chart.
        rows: from top to bottom.
    """
    if not rows:
        return None
    rows = [row._replace(label=visible(row.label)) for row in rows]

    def draw(canvas: Canvas) -> None:
        axes = canvas.rows_axes([row.label for row in rows], right=70)
        for index, row in enumerate(rows):
            colour = row.line.colour.light
            if row.interval is not None:
                axes.plot(row.interval, (index, index), color=colour, linewidth=7, alpha=0.3, solid_capstyle="round")
            axes.plot(
                [row.score], [index], row.line.marker, color=colour, markersize=9, markeredgecolor=style.SURFACE.light
            )
            axes.annotate(
                f"{row.score:.4f}",
                (1.015, index),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=style.SMALL,
            )
        ends = [end for row in rows for end in (row.score, *(row.interval or ()))]
        margin = max((max(ends) - min(ends)) * _SCORE_MARGIN, 0.01)
        axes.set_xlim(max(min(ends) - margin, -0.01), min(max(ends) + margin, 1.01))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("score, with 95% interval (0 to 1)")
        canvas.hover_rows(axes, [f"{row.label}: {row.score:.4f}, {_interval(row)}" for row in rows])

    return Chart(
        title,
        "; ".join(f"{row.label} {row.score:.4f} ({_interval(row)})" for row in rows) + ".",
        Table(
            ("", "Score", "95% interval"),
            [(row.label, f"{row.score:.4f}", _interval(row)) for row in rows],
            right=("Score", "95% interval"),
        ),
        draw,
        height=60 + _ROW * len(rows),
    )


def _draw_runs(axes: Axes, runs: Sequence[TrainingRun], naive: Mapping[str, float]) -> None:
    """Draw each run's version, and what it was compared with, joined by a line."""
    times = naive_utc([_time(run) for run in runs])
    for time, run in zip(times, runs, strict=True):
        others = [score for score in (run.production_score, naive.get(run.run_id)) if score is not None]
        ends = [run.test_overall_score or 0.0, *others]
        axes.plot([time, time], [min(ends), max(ends)], color=style.AXIS.light, linewidth=1, zorder=1)
    other_scores = (
        ([run.production_score for run in runs], _PRODUCTION, "_", style.TEXT),
        ([naive.get(run.run_id) for run in runs], _NAIVE, style.NAIVE.marker, style.MUTED),
    )
    for scores, label, marker, colour in other_scores:
        values = np.array([np.nan if score is None else score for score in scores])
        if not np.isnan(values).all():
            size = 20 if marker == "_" else 5
            axes.plot(
                times,
                values,
                marker,
                color=colour.light,
                markersize=size,
                markeredgewidth=2.5 if marker == "_" else 0,
                label=label,
            )
    for promoted, kind in _KINDS.items():
        is_of = [run.promoted_to_production == promoted for run in runs]
        if any(is_of):
            shade = kind.line.colour.light
            axes.plot(
                times[is_of],
                [run.test_overall_score or 0.0 for run, chosen in zip(runs, is_of, strict=True) if chosen],
                kind.line.marker,
                color=shade,
                markersize=8,
                markerfacecolor=shade if kind.is_filled else style.SURFACE.light,
                markeredgewidth=2,
                label=kind.label,
                zorder=3,
            )


def _time(run: TrainingRun) -> datetime:
    return run.as_of or run.started_at


def _describe(run: TrainingRun) -> str:
    outcome = "promoted" if run.promoted_to_production else "not promoted"
    against = "" if run.production_score is None else f", production {run.production_score:.4f}"
    return f"{_time(run):%Y-%m-%d}, {run.model_version_id}: {_number(run.test_overall_score)}{against}, {outcome}"


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def _interval(row: ScoreInterval) -> str:
    return "-" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}"
