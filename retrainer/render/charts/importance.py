"""The charts of feature importance, and of what the parts of the context are worth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.escapes import visible
from retrainer.render import explanations
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.algorithms.hookspecs import Importance
    from retrainer.registry.tables import ModelExplanation
    from retrainer.render.charts.canvas import Canvas

_ROW = 30
_MAX_BARS = 15
_TITLES = {"left_out": "Context ablation", "permuted": "Permutation importance"}
_METHODS = {"left_out": "left out", "permuted": "permuted"}


def bars(importances: Sequence[Importance]) -> Chart | None:
    """Return the importances as bars, largest first, those of the most frequent unit; None without any.

    Values in different units cannot stand on one axis; the table has all of them.
    """
    if not importances:
        return None
    importances = [
        replace(one, label=visible(one.label), unit=visible(one.unit), note=visible(one.note)) for one in importances
    ]
    units = [one.unit for one in importances]
    unit = max(units, key=units.count)
    shown = sorted((one for one in importances if one.unit == unit), key=lambda one: -abs(one.value))[:_MAX_BARS]

    def draw(canvas: Canvas) -> None:
        axes = canvas.rows_axes([one.label for one in shown], right=70)
        values = [one.value for one in shown]
        axes.barh(range(len(shown)), values, height=0.62, color=style.BLUE.light)
        for index, value in enumerate(values):
            axes.annotate(
                f"{value:.3g}",
                (max(value, 0.0), index),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=style.SMALL,
            )
        axes.set_xlabel(f"importance ({unit})")
        axes.locator_params(axis="x", nbins=6)
        canvas.hover_rows(axes, [f"{one.label}: {one.value:.3g} {one.unit}. {one.note}".strip() for one in shown])

    first = shown[0]
    return Chart(
        "Feature importance",
        f"Most important: '{first.label}', {first.value:.3g} {first.unit}.",
        Table(
            ("Feature", "Value", "Unit", "Note"),
            [(one.label, f"{one.value:.4g}", one.unit, one.note) for one in importances],
            right=("Value",),
        ),
        draw,
        height=64 + _ROW * len(shown),
    )


def parts(explanation: ModelExplanation | None) -> list[Chart]:
    """Return what each part is worth with its 95% interval, a chart for each metric; none if nothing was measured."""
    if explanation is None:
        return []
    measured = [{**part, "label": visible(part["label"])} for part in explanation.parts if part["worth"]]
    return [_worth(explanation, name, measured) for name in explanation.metrics if measured]


def _worth(explanation: ModelExplanation, metric: str, measured: Sequence[dict[str, Any]]) -> Chart:
    values = [float(part["worth"][metric]["value"]) for part in measured]
    intervals = [part["worth"][metric]["interval"] for part in measured]
    label = explanations.METRIC_LABELS[metric]
    unit = " (hours)" if metric == "crps_hours" else ""
    shown = [explanations.format_value(metric, value, signed=True) for value in values]
    bounds = [explanations.format_interval(metric, interval) for interval in intervals]
    low, high = np.array([interval or (value, value) for interval, value in zip(intervals, values, strict=True)]).T

    def draw(canvas: Canvas) -> None:
        axes = canvas.rows_axes([part["label"] for part in measured])
        axes.axvline(0, color=style.TEXT.light, linewidth=1)
        axes.errorbar(
            values,
            range(len(values)),
            xerr=(np.maximum(values - low, 0), np.maximum(high - values, 0)),
            fmt=style.VERSION.marker,
            color=style.BLUE.light,
            markersize=7,
            elinewidth=2,
            capsize=3,
        )
        change = "rise in CRPS" if metric == "crps_hours" else f"drop in {label.lower()}"
        axes.set_xlabel(f"{change} when {_METHODS[explanation.method]}{unit}")
        axes.locator_params(axis="x", nbins=6)
        texts = zip(measured, shown, bounds, strict=True)
        canvas.hover_rows(axes, [f"{part['label']}: {value}, 95% interval {bound}" for part, value, bound in texts])

    largest = int(np.argmax(values))
    return Chart(
        f"{_TITLES[explanation.method]}: {label}",
        f"Largest: '{measured[largest]['label']}', {shown[largest]} ({bounds[largest]}).",
        Table(
            ("Part", label, "95% interval", "Posts"),
            [
                (part["label"], value, bound, str(part["num_predictions"]))
                for part, value, bound in zip(measured, shown, bounds, strict=True)
            ],
            right=(label, "Posts"),
        ),
        draw,
        height=64 + _ROW * len(measured),
    )
