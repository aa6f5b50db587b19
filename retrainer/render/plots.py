"""The plot of a replay: the live score over time of each policy, and below it when each promoted a version."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import RetrainerError, UsageError
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from retrainer.replay.results import PolicyReport, ReplayReport

FORMATS = (".png", ".svg")
PARTS_SMOOTHED = 12  # a point of a line is the score of one part in so many of all posts, …
FEWEST_SMOOTHED = 50  # … but of no fewer than these
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
        figure = Figure(figsize=(9, 5), layout="constrained")
        scores, promotions = figure.subplots(2, sharex=True, height_ratios=(4, 1))
        for place, one in enumerate(report.policies):
            _draw_policy(scores, report, one, f"C{place}")
        _draw_naive(scores, report)
        _draw_promotions(promotions, report)
        scores.set_ylabel("live score")
        scores.set_title(f"{report.model_type.capitalize()}: what each policy would have scored", loc="left")
        scores.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(path, metadata=metadata, dpi=120)
        except OSError as error:
            raise RetrainerError(
                f"cannot write the plot '{path}': {error.strerror}", hint="Choose another file"
            ) from error


def _draw_policy(axes: Axes, report: ReplayReport, one: PolicyReport, colour: str) -> None:
    if one.live is None:
        return
    times, scores = _smoothed(report, one.live.rows, one.live.figures)
    axes.plot(times, scores, "-" if one.policy.retrains else "--", color=colour, label=one.policy.name)


def _draw_promotions(axes: Axes, report: ReplayReport) -> None:
    """Draw a mark for each promotion, a row a policy."""
    names = []
    for place, one in enumerate(report.policies):
        when = np.array([_utc(record.at) for record in one.steps if record.promoted], dtype="datetime64[us]")
        axes.plot(when, np.full(len(when), place), "|", color=f"C{place}", markersize=8)
        names.append(f"{one.policy.name} ({one.promotions})")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title("promotions", loc="left", fontsize="medium")


def _draw_naive(axes: Axes, report: ReplayReport) -> None:
    live = next((one.live for one in report.policies if one.live is not None), None)
    if live is not None:
        times, scores = _smoothed(report, live.rows, live.naive_figures)
        axes.plot(times, scores, ":", color=_NAIVE_COLOUR, label="naive forecast")


def _smoothed(
    report: ReplayReport, rows: NDArray[np.int64], figures: NDArray[np.float64]
) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return (m,) times and (m,) scores: those of so many neighbouring posts, at the time of the middle one."""
    together = min(max(len(rows) // PARTS_SMOOTHED, FEWEST_SMOOTHED), len(rows))
    sums = np.concatenate([np.zeros((1, figures.shape[1])), np.cumsum(figures, axis=0)])
    means = (sums[together:] - sums[:-together]) / together
    middle = rows[(together - 1) // 2 : (together - 1) // 2 + len(means)]
    return report.times[middle], get_model_type(report.model_type).overall_score(means)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
