"""The chart of a study: what each trial reached, and the best so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.escapes import visible
from retrainer.model_types import get_model_type
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table
from retrainer.tuning.plan import METRIC_KEYS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from retrainer.render.charts.canvas import Canvas
    from retrainer.tuning.results import StudyReport, TrialResult

_BEST, _CONFIGURED = "best so far", "configured options"


def trials(report: StudyReport) -> Chart | None:
    """Return the value of each trial with its standard error, and the best so far; None without a complete trial."""
    plan, summary = report.summary.plan, report.summary
    complete = [trial for trial in report.trials if trial.state == "complete" and trial.value is not None]
    if not complete:
        return None
    metric = next(one for one in get_model_type(plan.model_type).metrics if one.key == METRIC_KEYS[plan.metric])
    names = [visible(algorithm.name) for algorithm in plan.algorithms]
    best = [complete[0]]
    for trial in complete[1:]:
        is_better = plan.improvement(_value(best[-1]), _value(trial)) > 0
        best.append(trial if is_better else best[-1])
    default = summary.default if summary.default is not None and summary.default.value is not None else None
    numbers = [trial.number for trial in complete]

    def draw(canvas: Canvas) -> None:
        labels = [*names, _BEST, *([_CONFIGURED] if default else [])]
        axes = canvas.axes(labels)
        _draw_trials(axes, complete, names)
        axes.step(
            numbers,
            [_value(trial) for trial in best],
            where="post",
            label=_BEST,
            **style.Line(style.TEXT, width=1.6).options(),
        )
        if default is not None:
            axes.axhline(_value(default), label=_CONFIGURED, **style.NAIVE.options())
        axes.locator_params(axis="x", integer=True)
        axes.margins(x=0.03, y=0.1)
        axes.set_xlabel("trial (bars: standard error)")
        unit = {"hours": " (hours)", "share": " (share)"}.get(metric.unit, "")
        axes.set_ylabel(f"{metric.label}{unit}, mean of {len(plan.folds)} folds")
        found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        canvas.legend(axes, [found[label] for label in labels if label in found])
        canvas.hover_points(axes, numbers, [_value(trial) for trial in complete], [", ".join(row) for row in rows])

    rows = [
        (
            str(trial.number),
            visible(str(trial.algorithm)),
            metric.format(trial.value),
            "-" if trial.standard_error is None else f"{trial.standard_error:.4f}",
        )
        for trial in complete
    ]
    reached = f"{metric.label} {metric.format(best[-1].value)} in trial {best[-1].number}"
    compared = f"; the configured options reach {metric.format(default.value)}" if default is not None else ""
    return Chart(
        f"{plan.model_type.capitalize()}: trials of the study {summary.name}",
        f"The best of {len(complete)} trials: {reached}{compared}.",
        Table(
            ("Trial", "Algorithm", metric.label, "Standard error"),
            rows,
            right=("Trial", metric.label, "Standard error"),
        ),
        draw,
        height=280,
    )


def _draw_trials(axes: Axes, complete: list[TrialResult], names: list[str]) -> None:
    for name, line in zip(names, style.series_lines(len(names)), strict=True):
        chosen = [trial for trial in complete if visible(str(trial.algorithm)) == name]
        axes.errorbar(
            [trial.number for trial in chosen],
            [_value(trial) for trial in chosen],
            yerr=np.array([trial.standard_error or 0.0 for trial in chosen]),
            fmt=line.marker,
            color=line.colour.light,
            markersize=6,
            elinewidth=1,
            label=name,
        )


def _value(trial: TrialResult) -> float:
    return trial.value or 0.0
