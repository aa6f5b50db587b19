"""The plot of a replay: the live score over time of each policy, its promotions marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import RetrainerError, UsageError
from retrainer.model_types import kind_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from matplotlib.axes import Axes

    from retrainer.replay.report import PolicyReport, ReplayReport

FORMATS = (".png", ".svg")
POINTS_SMOOTHED = 20  # a line is the score of the posts around, of about one part in so many of all
_NAIVE_COLOUR = "0.6"


def require_format(path: Path) -> None:
    """Check that a plot can be written under this name.

    Raises:
        UsageError: its ending names no known format, or its folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot: '{path.name}' ends in none of {', '.join(FORMATS)}", hint="Name it like replay.svg")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot: there is no folder '{path.parent}'", hint="Make it, or choose another")


def draw(report: ReplayReport, path: Path) -> None:
    """Write the plot as PNG or SVG, by the name's ending.

    Raises:
        RetrainerError: it cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "retrainer", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        for place, one in enumerate(report.policies):
            _draw_policy(axes, report, one, f"C{place}")
        _draw_naive(axes, report)
        axes.set_ylabel("live score")
        axes.set_title(f"{report.model_type.capitalize()}: what each policy would have scored", loc="left")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        figure.autofmt_xdate()
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(path, metadata=metadata, dpi=120)
        except OSError as error:
            raise RetrainerError(
                f"cannot write the plot '{path}': {error.strerror}", hint="Choose another file"
            ) from error


def _draw_policy(axes: Axes, report: ReplayReport, one: PolicyReport, colour: str) -> None:
    times, scores = _smoothed(report, one, "figures")
    if not times:
        return
    style = "--" if not one.policy.retrains else "-"
    axes.plot(times, scores, style, color=colour, label=f"{one.policy.name} ({one.promotions} promoted)")  # type: ignore[arg-type]  # times are drawn as dates
    promoted = [record.at for record in one.records if record.promoted]
    heights = np.interp([when.timestamp() for when in promoted], [when.timestamp() for when in times], scores)
    axes.plot(promoted, heights, "o", color=colour, markersize=4)  # type: ignore[arg-type]


def _draw_naive(axes: Axes, report: ReplayReport) -> None:
    first = next((one for one in report.policies if one.live is not None), None)
    if first is not None:
        times, scores = _smoothed(report, first, "naive_figures")
        axes.plot(times, scores, ":", color=_NAIVE_COLOUR, label="naive forecast")  # type: ignore[arg-type]


def _smoothed(report: ReplayReport, one: PolicyReport, which: str) -> tuple[list[datetime], list[float]]:
    """Return for each step the middle of its time, and the score of the posts of the steps around it."""
    records = [record for record in one.records if record.rows]
    half = len(records) // POINTS_SMOOTHED // 2
    kind = kind_of(report.model_type)
    times, scores = [], []
    for place, record in enumerate(records):
        around = records[max(0, place - half) : place + half + 1]
        figures = np.concatenate([np.array(getattr(near, which)) for near in around])
        times.append(record.at + (record.until - record.at) / 2)
        scores.append(float(kind.overall(figures.mean(axis=0))))
    return times, scores
