"""Charts of calibration: whether what was forecast with a probability comes that often."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.model_types.base import Reliability
    from retrainer.render.charts.canvas import Canvas

_MANY = 20  # forecasts; with fewer, a share says little
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
        axes = canvas.axes(["perfect calibration", *labels], left=68)
        axes.plot([0, 1], [0, 1], label="perfect calibration", **style.NAIVE.options())
        for beginning, label, line in _GROUPS:
            for is_many in (True, False):
                points = [row for row in rows if row.what.startswith(beginning) and _is_many(row) == is_many]
                axes.plot(
                    [row.stated for row in points],
                    [row.observed for row in points],
                    line.marker,
                    color=line.colour.light,
                    alpha=1.0 if is_many else 0.4,
                    markersize=8,
                    markeredgecolor=style.SURFACE.light,
                    label=label if is_many else "",
                )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        faint = "" if all(map(_is_many, rows)) else f" (pale: fewer than {_MANY} forecasts)"
        axes.set_xlabel(f"forecast probability{faint}")
        axes.set_ylabel("observed frequency")
        ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])
        canvas.legend(axes)
        canvas.hover_points(
            axes,
            [row.stated for row in rows],
            [row.observed for row in rows],
            [f"{row.what}: forecast {row.stated:.0%}, observed {row.observed:.0%}" for row in rows],
        )

    largest = max(rows, key=lambda row: abs(row.observed - row.stated))
    return Chart(
        "Reliability: forecast probability and observed frequency",
        f"The largest deviation: {largest.what} was forecast at {largest.stated:.0%} and observed in "
        f"{largest.observed:.0%} of {largest.num_predictions:,} cases.",
        Table(
            ("Event", "Forecast", "Observed", "Forecasts"),
            [(row.what, f"{row.stated:.1%}", f"{row.observed:.1%}", f"{row.num_predictions:,}") for row in rows],
            right=("Forecast", "Observed", "Forecasts"),
        ),
        draw,
        height=310,
    )


def _is_many(row: Reliability) -> bool:
    return row.num_predictions >= _MANY


def pit(values: NDArray[np.float64], naive: NDArray[np.float64] | None = None) -> Chart | None:
    """Return the histogram of the PIT, which is flat if the forecasts are calibrated; None without forecasts.

    Args:
        values: (n,) the probability that each forecast gave to a shorter wait, 0 to 1.
        naive: (m,) the same of the naive forecasts.
    """
    if not len(values):
        return None
    bins = min(max(len(values) // 10, 4), 20)
    edges = np.linspace(0, 1, bins + 1)
    shares = _shares(values, edges)
    expected = 1 / bins
    error = NormalDist().inv_cdf(0.975) * math.sqrt(expected * (1 - expected) / len(values))
    low, high = max(expected - error, 0.0), expected + error

    def draw(canvas: Canvas) -> None:
        labels = ["posts", "95% range if calibrated", *([] if naive is None else ["naive forecast"])]
        axes = canvas.axes(labels)
        middles = (edges[1:] + edges[:-1]) / 2
        band = axes.axhspan(100 * low, 100 * high, color=style.OCHRE.light, alpha=0.22, linewidth=0, label=labels[1])
        bars = axes.bar(middles, 100 * shares, 0.92 / bins, color=style.BLUE.light, alpha=0.75, label=labels[0])
        handles: list[Any] = [bars, band]
        if naive is not None:
            marks = axes.plot(
                middles,
                100 * _shares(naive, edges),
                style.NAIVE.marker,
                color=style.MUTED.light,
                markeredgecolor=style.SURFACE.light,
                markersize=7,
                label=labels[2],
            )
            handles.extend(marks)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, None)
        axes.set_xticks(np.linspace(0, 1, 6), [f"{tick:.0%}" for tick in np.linspace(0, 1, 6)])
        axes.set_xlabel("quantile of the actual wait in its forecast (0%: early, 100%: late)")
        axes.set_ylabel("share of posts (%)")
        canvas.legend(axes, handles)
        canvas.hover_columns(axes, middles, [": ".join(row[:2]) for row in rows])

    rows = [
        (f"{start:.0%} to {stop:.0%}", f"{share:.1%}")
        for start, stop, share in zip(edges[:-1], edges[1:], shares, strict=True)
    ]
    outside = int(((shares < low) | (shares > high)).sum())
    return Chart(
        "Calibration: PIT histogram",
        f"{outside} of {bins} bars are outside the 95% range of calibrated forecasts. High at both "
        "ends: the forecasts are too narrow; high in the middle: too wide.",
        Table(("Quantile in the forecast", "Share of posts"), rows, right=("Share of posts",)),
        draw,
    )


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts, _ = np.histogram(np.clip(values, 0, 1), edges)
    return np.asarray(counts / max(len(values), 1), dtype=np.float64)
