"""Charts of errors: by hour of the week and by the silence before the forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.bootstrap import score_interval
from retrainer.render.charts import style, week
from retrainer.render.charts.chart import Chart, Table
from retrainer.times import format_hours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer.render.charts.canvas import Canvas

    Floats = NDArray[np.float64]

_MAX_GROUPS, _MIN_IN_GROUP = 8, 10


def by_hour_of_week(times: NDArray[np.datetime64], errors: Floats) -> Chart | None:
    """Return the mean error by hour of the week as a heat map; None without forecasts.

    Args:
        times: (n,) datetime64, UTC: when each forecast was made.
        errors: (n,) non-negative, in hours.
    """
    if not len(times):
        return None
    cells = week.Cells.of(times)
    counts = np.bincount(cells.of_time, minlength=cells.count)
    means = np.bincount(cells.of_time, errors, minlength=cells.count) / np.where(counts, counts, np.nan)
    rows = [(cells.name(cell), f"{means[cell]:.2f}", str(counts[cell])) for cell in np.flatnonzero(counts).tolist()]
    texts = [
        f"{cells.name(cell)}: " + (f"{means[cell]:.2f} hours, {count} forecasts" if count else "no forecasts")
        for cell, count in enumerate(counts)
    ]

    def draw(canvas: Canvas) -> None:
        week.draw_heat(canvas, means, "mean error (hours)", texts, lambda value: f"{value:.3g}")

    worst = int(np.nanargmax(means))
    return Chart(
        "Error by hour of the week",
        f"The mean error is largest on {cells.name(worst)} UTC: {means[worst]:.2f} hours; overall it is "
        f"{errors.mean():.2f} hours. Empty cells have no forecasts.",
        Table(("When (UTC)", "Mean error (hours)", "Forecasts"), rows, right=("Mean error (hours)", "Forecasts")),
        draw,
        height=week.HEIGHT,
    )


def by_silence(silence_hours: Floats, errors: Floats, naive_errors: Floats | None = None) -> Chart | None:
    """Return the mean error by the silence before the forecast, with 95% intervals; None without enough forecasts.

    Args:
        silence_hours: (n,) the time since the post before the last known one or, if later, since the last known one.
        errors: (n,) non-negative, in hours.
        naive_errors: (n,) of the naive forecasts.
    """
    groups = _groups(silence_hours)
    if not groups:
        return None
    labels = [f"{_short(silence_hours[rows].min())} to\n{_short(silence_hours[rows].max())}" for rows in groups]
    names = [label.replace("\n", " ") for label in labels]
    sides = [("version", errors, style.VERSION)]
    if naive_errors is not None:
        sides.append(("naive forecast", naive_errors, style.NAIVE))
    means = [[float(values[rows].mean()) for rows in groups] for _, values, _ in sides]
    ends = [[_interval(values[rows]) for rows in groups] for _, values, _ in sides]

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes([name for name, *_ in sides] if len(sides) > 1 else (), bottom=58)
        for side, (name, _, line) in enumerate(sides):
            shift = (side - (len(sides) - 1) / 2) * 0.16
            places = np.arange(len(groups)) + shift
            low, high = np.array(ends[side]).T
            centre = np.array(means[side])
            axes.errorbar(
                places,
                centre,
                yerr=(np.maximum(centre - low, 0), np.maximum(high - centre, 0)),
                fmt=line.marker,
                color=line.colour.light,
                markersize=7,
                elinewidth=2,
                capsize=3,
                label=name,
            )
        axes.set_xticks(range(len(groups)), labels)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.margins(y=0.08)
        axes.set_ylim(0, None)
        axes.set_ylabel("mean error (hours)")
        axes.set_xlabel("silence before the forecast")
        if len(sides) > 1:
            canvas.legend(axes)
        canvas.hover_columns(axes, np.arange(len(groups)), [_text(row, headers) for row in rows])

    headers = ("Silence", "Forecasts", *(f"{name.capitalize()} (hours)" for name, *_ in sides))
    rows = [
        (name, f"{len(groups[index]):,}", *(f"{side[index]:.2f}" for side in means)) for index, name in enumerate(names)
    ]
    worst = int(np.argmax(means[0]))
    return Chart(
        "Error by silence before the forecast",
        f"The mean error is largest after {names[worst]}: {means[0][worst]:.2f} hours.",
        Table(headers, rows, right=headers[1:]),
        draw,
    )


def _groups(silence: Floats) -> list[NDArray[np.int64]]:
    """Return the rows of each group: equally many, ascending by silence; equal silences are in one group."""
    count = min(_MAX_GROUPS, len(silence) // _MIN_IN_GROUP)
    if count < 1:
        return []
    inner = np.unique(np.quantile(silence, np.linspace(0, 1, count + 1)[1:-1]))
    number = np.searchsorted(inner, silence, side="right")
    return [np.flatnonzero(number == group) for group in np.unique(number)]


def _interval(values: Floats) -> tuple[float, float]:
    found = score_interval(values[:, None], lambda means: means[..., 0])
    return (np.nan, np.nan) if found is None else found


def _short(hours: float) -> str:
    return format_hours(float(hours))


def _text(row: tuple[str, ...], headers: tuple[str, ...]) -> str:
    return ", ".join(f"{header.lower()} {cell}" for header, cell in zip(headers, row, strict=True))
