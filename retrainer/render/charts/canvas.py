"""The area on which a chart is drawn: axes placed by pixels, the legend above them, texts shown on hovering."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retrainer.escapes import shorten, visible
from retrainer.render.charts import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 28, 12, 44
_LABEL = 22  # from the left to the right end of the label of the y axis
_LEGEND_ROW = 19
_CHARACTER = 6.4  # the mean width of one in the legend, at most
_LEGEND_HANDLE = 48
_MAX_HITS = 400
_MAX_LEGEND_LABEL, _MAX_LEGEND_LEFT = 70, 100
_MAX_ROW_LABEL = 36
_ROW_CHARACTER, _ROW_LABEL_GAP = 6.7, 24
_POINT = 7  # half the size of the area of a point, in pixels


class Hit(NamedTuple):
    """An area that shows a text when a pointer is over it; in pixels from the left upper corner."""

    left: float
    top: float
    width: float
    height: float
    text: str


class Canvas:
    """Where one chart is drawn.

    Attributes:
        height: in pixels.
        hits: the areas with texts.
    """

    def __init__(self, figure: Figure, height: float, below: float = 0) -> None:
        """Take a part of a figure that is 600 pixels wide.

        Args:
            figure: the figure.
            height: of the part, in pixels.
            below: the height of what is below the part, in pixels.
        """
        self.hits: list[Hit] = []
        self._figure = figure
        self.height = height
        self._below = below
        self._total = figure.get_figheight() * style.PIXELS_PER_INCH

    def axes(
        self,
        legend: Sequence[str] = (),
        *,
        left: float = _LEFT,
        right: float = _RIGHT,
        top: float = _TOP,
        bottom: float = _BOTTOM,
    ) -> Axes:
        """Add axes with margins in pixels.

        Args:
            legend: the labels that `legend` will show; there is room for them above the axes.
        """
        above = top + (_LEGEND_ROW * math.ceil(len(legend) / _legend_columns(legend)) if legend else 0)
        width, height = style.WIDTH - left - right, self.height - above - bottom
        axes = self._figure.add_axes(
            (left / style.WIDTH, (self._below + bottom) / self._total, width / style.WIDTH, height / self._total)
        )
        axes.yaxis.set_label_coords((_LABEL - left) / width, 0.5)
        return axes

    def rows_axes(self, labels: Sequence[str], legend: Sequence[str] = (), *, right: float = _RIGHT) -> Axes:
        """Add axes of n rows, at y = 0, 1, …, n - 1 from the top, with a label beside each.

        Args:
            labels: of the rows, of one or more lines; the end of a long line is left out.
            legend: see `axes`.
            right: the margin at the right.
        """
        shown = ["\n".join(shorten(line, _MAX_ROW_LABEL) for line in label.split("\n")) for label in labels]
        longest = max(len(line) for label in shown for line in label.split("\n"))
        axes = self.axes(legend, left=_ROW_LABEL_GAP + _ROW_CHARACTER * longest, right=right)
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.tick_params(axis="y", labelcolor=style.TEXT.light)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        return axes

    def legend(self, axes: Axes, handles: Sequence[Any] | None = None) -> None:
        """Add the legend of the axes above them, from the left.

        Args:
            handles: artists with labels; None for all artists of the axes with one.
        """
        found = list(axes.get_legend_handles_labels()[0] if handles is None else handles)
        labels = [shorten(visible(str(handle.get_label())), _MAX_LEGEND_LABEL) for handle in found]
        columns = _legend_columns(labels)
        # matplotlib fills columns first, a reader reads rows first
        order = [index for column in range(columns) for index in range(column, len(found), columns)]
        box = axes.get_position()
        left = box.x0 * style.WIDTH
        place = (min(left, _MAX_LEGEND_LEFT) - left) / (box.width * style.WIDTH), 1 + 8 / (box.height * self._total)
        axes.legend(
            [found[index] for index in order],
            [labels[index] for index in order],
            loc="lower left",
            bbox_to_anchor=place,
            ncols=columns,
        )

    def hover_points(
        self, axes: Axes, x: NDArray[Any] | Sequence[Any], y: NDArray[Any] | Sequence[float], texts: Sequence[str]
    ) -> None:
        """Show a text for each of n points, given in data coordinates."""
        places = self._pixels(axes, x, y)
        for (across, down), text in list(zip(places, texts, strict=True))[:_MAX_HITS]:
            if np.isfinite(across) and np.isfinite(down):
                self.hits.append(Hit(across - _POINT, down - _POINT, 2 * _POINT, 2 * _POINT, visible(text)))

    def hover_columns(self, axes: Axes, x: NDArray[Any] | Sequence[Any], texts: Sequence[str]) -> None:
        """Show a text for each of n ascending places on the x axis, on the whole height of the axes."""
        left, top, right, bottom = self._edges(axes)
        across = self._pixels(axes, x, [axes.get_ylim()[0]] * len(texts))[:, 0]
        bounds = np.concatenate([[left], (across[1:] + across[:-1]) / 2, [right]])
        if len(texts) > _MAX_HITS:
            return
        for index, text in enumerate(texts):
            start, stop = max(bounds[index], left), min(bounds[index + 1], right)
            if stop > start:
                self.hits.append(Hit(start, top, stop - start, bottom - top, visible(text)))

    def hover_rows(self, axes: Axes, texts: Sequence[str]) -> None:
        """Show a text for each of n rows of the axes, at y = 0, 1, …, n - 1, on their whole width."""
        left, _, right, _ = self._edges(axes)
        for index, text in enumerate(texts):
            (_, one), (_, other) = self._pixels(axes, [axes.get_xlim()[0]] * 2, [index - 0.5, index + 0.5])
            self.hits.append(Hit(left, min(one, other), right - left, abs(one - other), visible(text)))

    def hover_cells(
        self, axes: Axes, places: Sequence[tuple[float, float]], width: float, texts: Sequence[str]
    ) -> None:
        """Show a text for each of n cells of height 1, whose left lower corners are given in data coordinates."""
        x, y = (list(side) for side in zip(*places, strict=True))
        starts = self._pixels(axes, x, y)
        stops = self._pixels(axes, [one + width for one in x], [one + 1 for one in y])
        for (x0, y0), (x1, y1), text in zip(starts, stops, texts, strict=True):
            self.hits.append(Hit(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0), visible(text)))

    def _pixels(
        self, axes: Axes, x: NDArray[Any] | Sequence[Any], y: NDArray[Any] | Sequence[float]
    ) -> NDArray[np.float64]:
        """Return (n, 2) places in pixels from the left upper corner."""
        sides = axes.convert_xunits(x), axes.convert_yunits(y)  # type: ignore[no-untyped-call]
        numbers = np.column_stack(sides).astype(np.float64)
        places = np.asarray(axes.transData.transform(numbers), dtype=np.float64)
        places[:, 1] = self._below + self.height - places[:, 1]
        return places

    def _edges(self, axes: Axes) -> tuple[float, float, float, float]:
        box = axes.get_position()
        top = self._below + self.height
        return (
            box.x0 * style.WIDTH,
            top - self._total * box.y1,
            box.x1 * style.WIDTH,
            top - self._total * box.y0,
        )


def _legend_columns(labels: Sequence[str]) -> int:
    """Return how many entries fit on a row."""
    for columns in range(len(labels), 1, -1):
        longest = [max(map(len, labels[column::columns])) for column in range(columns)]
        widths = [min(length, _MAX_LEGEND_LABEL) * _CHARACTER + _LEGEND_HANDLE for length in longest]
        if sum(widths) <= style.WIDTH - _LEFT:
            return columns
    return 1
