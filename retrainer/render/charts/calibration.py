"""Charts of calibration: whether what was forecast with a probability comes that often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.model_types.base import Reliability
    from retrainer.render.charts.canvas import Canvas

_GROUPS = (
    ("wait within the", "quantile of the wait", style.VERSION),
    ("post within", "post within some hours", style.OTHER),
)


def reliability(rows: Sequence[Reliability]) -> Chart | None:
    """Return the reliability diagram of stated probabilities; None without any."""
    if not rows:
        return None

    def draw(canvas: Canvas) -> None:
        labels = [label for beginning, label, _ in _GROUPS if any(row.what.startswith(beginning) for row in rows)]
        axes = canvas.axes([*labels, "perfect"], right=230)
        axes.plot([0, 1], [0, 1], label="perfect", **style.NAIVE.options())
        for beginning, label, line in _GROUPS:
            points = sorted((row.stated, row.observed) for row in rows if row.what.startswith(beginning))
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    linestyle="none",
                    marker=line.marker,
                    color=line.colour.light,
                    markersize=7,
                    markeredgecolor=style.SURFACE.light,
                    label=label,
                )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("forecast probability (%)")
        axes.set_ylabel("came true (%)")
        ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])
        canvas.legend(axes)
        canvas.hover_points(
            axes,
            [row.stated for row in rows],
            [row.observed for row in rows],
            [f"{row.what}: forecast {row.stated:.0%}, came true {row.observed:.0%}" for row in rows],
        )

    largest = max(rows, key=lambda row: abs(row.observed - row.stated))
    return Chart(
        "Reliability: forecast probability and what came true",
        f"The largest deviation: {largest.what} was forecast with {largest.stated:.0%} and came true in "
        f"{largest.observed:.0%} of {largest.num_predictions:,} cases.",
        Table(
            ("Event", "Forecast", "Came true", "Forecasts"),
            [(row.what, f"{row.stated:.1%}", f"{row.observed:.1%}", f"{row.num_predictions:,}") for row in rows],
            right=("Forecast", "Came true", "Forecasts"),
        ),
        draw,
        height=330,
    )
