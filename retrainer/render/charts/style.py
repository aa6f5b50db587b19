"""The look of all charts: sizes, colours with their counterparts in the dark, and the lines of what is drawn often.

The colours are after Okabe and Ito (2008), "Color universal design", somewhat darker where theirs have a contrast below
3 on white. No meaning depends on a colour alone: lines differ in dashes and markers too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_CASING = 0.8
WIDTH = 600  # of a chart, in pixels at its natural size
HEIGHT = 260
PIXELS_PER_INCH = 72  # so that matplotlib's points are pixels
FONT_SIZE = 12.0
SMALL = 11.0

Dashes = tuple[float, tuple[float, ...]]
SOLID: Dashes = (0, ())


class Colour(NamedTuple):
    """A colour of charts.

    Attributes:
        name: its name, of which CSS classes are made.
        light: on a light background, as #rrggbb.
        dark: on a dark background.
    """

    name: str
    light: str
    dark: str


# As on the pages: ink, faint, strong line, line, paper.
TEXT = Colour("text", "#1a2028", "#e3e7ec")
MUTED = Colour("muted", "#586270", "#a2adba")
AXIS = Colour("axis", "#8a94a1", "#76818f")
GRID = Colour("grid", "#dde2e8", "#303843")
SURFACE = Colour("surface", "#ffffff", "#13171c")

BLUE = Colour("blue", "#0072b2", "#5db2ec")
VERMILION = Colour("vermilion", "#d55e00", "#ff9457")
GREEN = Colour("green", "#00896a", "#35cfa0")
PURPLE = Colour("purple", "#b3588e", "#eba6cf")
OCHRE = Colour("ochre", "#a87400", "#f0b93a")
SKY = Colour("sky", "#3290c8", "#a3daf8")
SERIES = (BLUE, VERMILION, GREEN, PURPLE, OCHRE, SKY)

# The steps of a heat map, from nothing to most; the lightness alone tells them apart.
HEAT = (
    Colour("heat-0", "#eaf1f7", "#202a33"),
    Colour("heat-1", "#d2e3f0", "#20374c"),
    Colour("heat-2", "#b6d3e8", "#21455f"),
    Colour("heat-3", "#93c0de", "#265579"),
    Colour("heat-4", "#63a3ce", "#2f6d98"),
    Colour("heat-5", "#3b83b9", "#468bb9"),
    Colour("heat-6", "#1c619c", "#74acd3"),
    Colour("heat-7", "#0a3d70", "#b5dbf3"),
)
COLOURS = (TEXT, MUTED, AXIS, GRID, SURFACE, *SERIES, *HEAT)


class Line(NamedTuple):
    """How a line is drawn.

    Attributes:
        dashes: offset and lengths of dashes and gaps, in pixels; see matplotlib's linestyle.
        marker: of matplotlib's markers; few points of a line bear one.
    """

    colour: Colour
    dashes: Dashes = SOLID
    width: float = 1.8
    marker: str = "o"

    def options(self, *, cased: bool = False) -> dict[str, Any]:
        """Return the options of `Axes.plot`, without markers.

        Args:
            cased: with a light edge, so that a line on top of another is seen without colours too.
        """
        found: dict[str, Any] = {"color": self.colour.light, "linestyle": self.dashes, "linewidth": self.width}
        if cased:
            from matplotlib.patheffects import withStroke  # noqa: PLC0415  slow to import

            found["path_effects"] = [withStroke(linewidth=self.width + 2 * _CASING, foreground=SURFACE.light)]
        return found


# What is drawn often looks the same everywhere. Where lines coincide, the gaps of the upper one show the lower one.
VERSION = Line(BLUE, SOLID, 2.0, "o")
OTHER = Line(VERMILION, (0, (6, 3)), 1.8, "s")
CHALLENGER = Line(GREEN, (0, (8, 3, 2, 3)), 1.8, "^")
NAIVE = Line(MUTED, (0, (1.6, 2.6)), 1.8, "D")

_DASHES: tuple[Dashes, ...] = (
    SOLID,
    (0, (6, 3)),
    (0, (8, 3, 2, 3)),
    (0, (2, 2)),
    (0, (12, 4)),
    (0, (4, 2, 1, 2, 1, 2)),
)
_MARKERS = "os^vDP"
_NARROWEST, _STEP, _WIDEST = 1.6, 0.5, 3.4  # the widths of lines


def series_lines(count: int) -> list[Line]:
    """Return the lines of so many series that are equally important.

    Each is narrower than those below it, so that they show where they coincide.
    """
    step = min(_STEP, (_WIDEST - _NARROWEST) / max(count - 1, 1))
    return [
        Line(
            SERIES[index % len(SERIES)],
            _DASHES[(index + index // len(SERIES)) % len(_DASHES)],
            _NARROWEST + (count - 1 - index) * step if count > 1 else VERSION.width,
            _MARKERS[(index + 2 * (index // len(SERIES))) % len(_MARKERS)],
        )
        for index in range(count)
    ]


def settings() -> dict[str, Any]:
    """Return matplotlib's settings for all charts."""
    return {
        "figure.dpi": PIXELS_PER_INCH,
        "font.family": ["DejaVu Sans"],
        "font.size": FONT_SIZE,
        "text.parse_math": False,
        "text.color": TEXT.light,
        "axes.edgecolor": AXIS.light,
        "axes.labelcolor": MUTED.light,
        "axes.labelsize": SMALL,
        "axes.linewidth": 1.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": False,
        "figure.facecolor": "none",
        "grid.color": GRID.light,
        "grid.linewidth": 1.0,
        "xtick.color": AXIS.light,
        "ytick.color": AXIS.light,
        "xtick.labelcolor": MUTED.light,
        "ytick.labelcolor": MUTED.light,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.fontsize": SMALL,
        "legend.handlelength": 2.6,
        "legend.borderpad": 0,
        "legend.borderaxespad": 0,
        "legend.columnspacing": 1.6,
        "lines.solid_capstyle": "butt",
        "lines.scale_dashes": False,
        "path.simplify_threshold": 0.3,
        "svg.fonttype": "none",
    }


def stylesheet() -> str:
    """Return the CSS of charts in pages: every colour, light and dark, by the system's wish.

    Each SVG element of a colour has a class `fill-NAME` or `stroke-NAME`.
    """
    rules = [
        ".chart-svg { display: block; width: 100%; height: auto; font-family: inherit; }",
        ".chart-svg .hit { fill: transparent; stroke: none; pointer-events: all; }",
        ".chart-svg .hit:hover { fill: currentColor; fill-opacity: 0.08; }",
    ]
    light = "".join(_rules(colour.name, colour.light) for colour in COLOURS)
    dark = "".join(_rules(colour.name, colour.dark) for colour in COLOURS)
    return "\n".join(rules) + f"\n{light}@media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n"


def _rules(name: str, value: str) -> str:
    return f".fill-{name} {{ fill: {value}; }} .stroke-{name} {{ stroke: {value}; }}\n"
