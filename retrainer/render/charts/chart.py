"""A chart: how it is drawn, what it says in words, and its figures as a table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from retrainer.render.charts import style

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrainer.render.charts.canvas import Canvas


@dataclass(frozen=True)
class Table:
    """The figures of a chart as text.

    Attributes:
        headers: of the columns, with units.
        rows: the cells, one for each header.
        right: the headers of the columns that are aligned at the right.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows, as plain text.
        description: what can be seen, in a sentence or two, for who cannot see it.
        table: its figures.
        draw: draws it on a canvas. It sees data only, so that the same chart is always the same file.
        height: in pixels, at its natural width of 600.
    """

    title: str
    description: str
    table: Table
    draw: Callable[[Canvas], None]
    height: int = style.HEIGHT

    @cached_property
    def svg(self) -> str:
        """An `<svg>` element for an HTML page; it takes a tenth of a second to draw.

        It has no style attribute or element: colours are attributes, which the rules of `style.stylesheet` overrule by
        classes. Its IDs differ from those of other charts.
        """
        from retrainer.render.charts import drawing  # noqa: PLC0415  imports matplotlib

        return drawing.draw_inline(self)

    @cached_property
    def key(self) -> str:
        """A short name of the chart by its words and its table, for IDs and caches: they must determine its drawing."""
        parts = [self.title, self.description, *self.table.headers, *(cell for row in self.table.rows for cell in row)]
        return "chart-" + hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:10]
