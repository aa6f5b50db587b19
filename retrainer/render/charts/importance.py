"""The chart of feature importance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.algorithms.hookspecs import Importance
    from retrainer.render.charts.canvas import Canvas

_ROW = 30
_MAX_BARS = 15
_MAX_LABEL = 30


def bars(importances: Sequence[Importance]) -> Chart | None:
    """Return the importances as bars, largest first, those of the most frequent unit; None without any.

    Values in different units cannot stand on one axis; the table has all of them.
    """
    if not importances:
        return None
    units = [one.unit for one in importances]
    unit = max(units, key=units.count)
    shown = sorted((one for one in importances if one.unit == unit), key=lambda one: -abs(one.value))[:_MAX_BARS]

    def draw(canvas: Canvas) -> None:
        labels = [_shorten(one.label) for one in shown]
        axes = canvas.axes(left=min(30 + 7.0 * max(map(len, labels)), 250), right=70)
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
        axes.set_yticks(range(len(shown)), labels)
        axes.tick_params(axis="y", labelcolor=style.TEXT.light)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.set_xlabel(f"importance ({unit})")
        axes.locator_params(axis="x", nbins=6)
        canvas.hover_rows(axes, [f"{one.label}: {one.value:.3g} {one.unit}. {one.note}".strip() for one in shown])

    first = shown[0]
    return Chart(
        "What the forecasts depend on most",
        f"Most on '{first.label}': {first.value:.3g} {first.unit}.",
        Table(
            ("Feature", "Value", "Unit", "Note"),
            [(one.label, f"{one.value:.4g}", one.unit, one.note) for one in importances],
            right=("Value",),
        ),
        draw,
        height=64 + _ROW * len(shown),
    )


def _shorten(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"
