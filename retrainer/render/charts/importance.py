"""The chart of feature importance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from retrainer.escapes import visible
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.algorithms.hookspecs import Importance
    from retrainer.render.charts.canvas import Canvas

_ROW = 30
_MAX_BARS = 15


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
