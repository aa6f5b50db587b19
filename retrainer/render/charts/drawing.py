"""Draw charts: as an SVG element for a page, or below each other as a PNG or SVG file."""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure

from retrainer.errors import RetrainerError
from retrainer.escapes import shorten, visible
from retrainer.files import write_output
from retrainer.render.charts import style, svg
from retrainer.render.charts.canvas import Canvas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from retrainer.render.charts.chart import Chart

_HEADER = 30  # the height of a title in a file
_GAP = 14
_MAX_TITLE = 66
_PNG_SCALE = 2  # pixels of a PNG per pixel of a chart

_lock = threading.Lock()  # matplotlib's settings and its fonts are shared by all threads


def draw_inline(chart: Chart) -> str:
    """Return a chart as an SVG element for a page; see `Chart.svg`."""
    with _settings():
        figure = _figure(chart.height)
        canvas = Canvas(figure, chart.height)
        chart.draw(canvas)
        drawn = _save(figure, "svg")
    return svg.to_element(drawn, chart.key, visible(chart.title), visible(chart.description), canvas.hits)


def write(charts: Sequence[Chart], path: Path) -> None:
    """Write charts below each other, with their titles, as PNG or SVG, depending on the extension.

    Raises:
        RetrainerError: the file cannot be written.
    """
    heights = [chart.height + _HEADER for chart in charts]
    with _settings():
        figure = _figure(sum(heights) + _GAP)
        figure.set_facecolor(style.SURFACE.light)
        bottom = float(_GAP)
        for chart, height in reversed(list(zip(charts, heights, strict=True))):
            chart.draw(Canvas(figure, chart.height, bottom))
            bottom += height
            _draw_title(figure, chart.title, bottom)
        suffix = path.suffix[1:].lower()
        drawn = _save(figure, suffix)
    content = svg.to_file(drawn, charts[0].key, visible(charts[0].title)) if suffix == "svg" else drawn
    try:
        write_output(path, content)
    except OSError as error:
        raise RetrainerError(f"cannot write the plot '{path}': {error.strerror}", hint="Choose another file") from error


def _draw_title(figure: Figure, title: str, bottom: float) -> None:
    """Draw a title whose upper edge is at a height, in pixels."""
    figure.text(
        _GAP / style.WIDTH,
        (bottom - _GAP) / (figure.get_figheight() * style.PIXELS_PER_INCH),
        shorten(visible(title), _MAX_TITLE),
        va="top",
        fontsize=style.FONT_SIZE + 1,
        weight="bold",
    )


@contextmanager
def _settings() -> Iterator[None]:
    with _lock, mpl.rc_context(cast("Any", style.settings())):
        # A character without a glyph is drawn as a box; a page shows it in a font of its own.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


def _figure(height: float) -> Figure:
    return Figure(
        figsize=(style.WIDTH / style.PIXELS_PER_INCH, height / style.PIXELS_PER_INCH), dpi=style.PIXELS_PER_INCH
    )


def _save(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {}
    figure.savefig(
        buffer, format=suffix, metadata=metadata, dpi=style.PIXELS_PER_INCH * (_PNG_SCALE if suffix == "png" else 1)
    )
    return buffer.getvalue()
