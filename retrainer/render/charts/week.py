"""The heat map of a week: one cell for each hour of each weekday, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.render.charts import style

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.patches import PathPatch
    from numpy.typing import NDArray

    from retrainer.render.charts.canvas import Canvas

HOURS = 24
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HEIGHT = 262
_THURSDAY = 3  # the epoch
_NEEDED = {24: 400, 8: 100}  # values for so many parts of a day
_FEWEST = 4
_LEGEND_HEIGHT = 12
_LEGEND_WIDTH = 30


@dataclass(frozen=True)
class Cells:
    """The cells of a week: parts of the days, Monday first, as long as there are enough values for them.

    Attributes:
        parts: of a day: 24, 8 or 4.
        of_time: (n,) the cell of each time.
    """

    parts: int
    of_time: NDArray[np.int64]

    @classmethod
    def of(cls, times: NDArray[np.datetime64]) -> Cells:
        """Return the cells of (n,) times in UTC."""
        parts = next((parts for parts, needed in _NEEDED.items() if len(times) >= needed), _FEWEST)
        hours = times.astype("datetime64[h]").astype(np.int64) + _THURSDAY * HOURS
        return cls(parts, np.asarray(hours % (7 * HOURS) // (HOURS // parts), dtype=np.int64))

    @property
    def count(self) -> int:
        return 7 * self.parts

    def name(self, cell: int) -> str:
        """Return the weekday and the hours of a cell."""
        return f"{WEEKDAYS[cell // self.parts]} {self.hours_name(cell % self.parts)}"

    def hours_name(self, part: int) -> str:
        """Return the hours of a part of a day."""
        hours = HOURS // self.parts
        return f"{part * hours:02d}:00" + ("" if hours == 1 else f" to {(part + 1) * hours:02d}:00")


def draw_heat(
    canvas: Canvas, values: NDArray[np.float64], what: str, texts: list[str], number: Callable[[float], str]
) -> None:
    """Draw a heat map with its legend of colours.

    Args:
        canvas: an empty one.
        values: (7 k,) by part of the week; NaN where nothing is known, which is left empty.
        what: the values are, with their unit.
        texts: (7 k,) shown on hovering.
        number: formats a value for the legend.
    """
    axes = canvas.axes(top=_LEGEND_HEIGHT + 26, left=88)
    steps = len(style.HEAT)
    limits = _limits(values, steps)
    cells = np.full(values.shape, -1)
    known = ~np.isnan(values)
    cells[known] = np.clip(np.searchsorted(limits[1:-1], values[known], side="right"), 0, steps - 1)
    parts = len(values) // 7
    width = HOURS / parts
    places = [(cell % parts * width, float(cell // parts)) for cell in range(len(values))]
    for step, colour in enumerate(style.HEAT):
        chosen = [place for place, cell in zip(places, cells, strict=True) if cell == step]
        if chosen:
            axes.add_patch(_boxes(chosen, width, colour.light))
    axes.set_xlim(0, HOURS)
    axes.set_ylim(7, 0)
    axes.set_xticks(range(0, HOURS + 1, 3), [f"{hour:02d}:00" for hour in range(0, HOURS + 1, 3)])
    axes.set_yticks(np.arange(7) + 0.5, WEEKDAYS)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", labelcolor=style.TEXT.light)
    axes.set_xlabel("hour of the day (UTC)")
    canvas.hover_cells(axes, places, width, texts)
    labels = [number(float(limit)) for limit in limits]
    labels[-1] += "+" if np.nanmax(values, initial=0.0) > limits[-1] else ""
    _draw_legend(canvas, labels, what)


def _limits(values: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Return the limits of the steps: equal ones up to the 95% quantile, so that a few cells do not hide the rest."""
    highest = float(np.nanquantile(values, 0.95)) if not np.isnan(values).all() else 1.0
    return np.linspace(0, highest if highest > 0 else 1.0, steps + 1)


def _boxes(places: Sequence[tuple[float, float]], width: float, colour: str) -> PathPatch:
    """Return boxes of height 1 at their left lower corners, as one shape."""
    from matplotlib.patches import PathPatch  # noqa: PLC0415  slow to import
    from matplotlib.path import Path  # noqa: PLC0415

    boxes = [Path([(x, y), (x + width, y), (x + width, y + 1), (x, y + 1), (x, y)], closed=True) for x, y in places]
    shape = Path.make_compound_path(*boxes)
    return PathPatch(shape, facecolor=colour, edgecolor=style.SURFACE.light, linewidth=1, clip_on=False)


def _draw_legend(canvas: Canvas, labels: list[str], what: str) -> None:
    """Draw a box for each step, with the limits between them, above the map."""
    width = _LEGEND_WIDTH * len(style.HEAT)
    axes = canvas.axes(left=88, right=style.WIDTH - 88 - width, top=4, bottom=canvas.height - 4 - _LEGEND_HEIGHT)
    for step, colour in enumerate(style.HEAT):
        axes.add_patch(_boxes([(step, 0)], 1, colour.light))
    axes.set_xlim(0, len(style.HEAT))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_xticks(range(0, len(labels), 2), labels[::2])
    axes.tick_params(axis="x", size=0, pad=2)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.annotate(
        what,
        (1, 0.5),
        xycoords="axes fraction",
        xytext=(14, 0),
        textcoords="offset points",
        va="center",
        fontsize=style.SMALL,
    )
