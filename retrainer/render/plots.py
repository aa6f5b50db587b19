"""Plots as files; that of a replay: the live score of each policy over time, with its promotions below."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import RetrainerError, UsageError
from retrainer.files import is_possible_output, open_output
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from retrainer.replay.results import PolicyReport, ReplayReport

FORMATS = (".png", ".svg")
# Each point of a line is the score of a moving window: one part in 12 of all posts, but at least 50.
WINDOW_FRACTION = 12
MIN_WINDOW = 50
NAIVE_COLOUR = "0.6"


def require_format(path: Path) -> None:
    """Check that a plot can be written to a file.

    Raises:
        UsageError: the extension is not a supported format, the folder does not exist, or it is no regular file.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"--plot: unsupported format '{path.name}'", hint=f"Choose a name that ends in {' or '.join(FORMATS)}"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot: folder '{path.parent}' does not exist", hint="Create it, or choose another")
    if not is_possible_output(path):
        raise UsageError(f"--plot: cannot write '{path}'", hint="Choose another file")


def draw(report: ReplayReport, path: Path) -> None:
    """Write the plot of a replay as PNG or SVG, depending on the extension.

    Raises:
        RetrainerError: the file cannot be written.
    """

    def draw_on(figure: Figure) -> None:
        scores, promotions = figure.subplots(2, sharex=True, height_ratios=(4, 1))
        for index, policy in enumerate(report.policies):
            _draw_policy(scores, report, policy, f"C{index}")
        _draw_naive(scores, report)
        _draw_promotions(promotions, report)
        scores.set_ylabel("live score")
        scores.set_title(f"{report.model_type.capitalize()}: what each policy would have scored", loc="left")
        scores.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    write_figure(draw_on, path, (9, 5))


def write_figure(draw_on: Callable[[Figure], None], path: Path, size: tuple[float, float]) -> None:
    """Write a figure as PNG or SVG, depending on the extension.

    Args:
        draw_on: draws on the empty figure.
        size: width and height in inches.

    Raises:
        RetrainerError: the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "retrainer", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=size, layout="constrained")
        draw_on(figure)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        try:
            with open_output(path) as file:
                figure.savefig(file, format=path.suffix[1:].lower(), metadata=metadata, dpi=120)
        except OSError as error:
            raise RetrainerError(
                f"cannot write the plot '{path}': {error.strerror}", hint="Choose another file"
            ) from error


def _draw_policy(axes: Axes, report: ReplayReport, policy: PolicyReport, colour: str) -> None:
    if policy.live is None:
        return
    times, scores = _moving_score(report, policy.live.rows, policy.live.figures)
    axes.plot(times, scores, "-" if policy.policy.retrains else "--", color=colour, label=policy.policy.name)


def _draw_promotions(axes: Axes, report: ReplayReport) -> None:
    """Draw a row for each policy, with a mark for each promotion."""
    names = []
    for index, policy in enumerate(report.policies):
        times = np.array([_utc(step.at) for step in policy.steps if step.promoted], dtype="datetime64[us]")
        axes.plot(times, np.full(len(times), index), "|", color=f"C{index}", markersize=8)
        names.append(f"{policy.policy.name} ({policy.promotions})")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title("promotions", loc="left", fontsize="medium")


def _draw_naive(axes: Axes, report: ReplayReport) -> None:
    live = next((policy.live for policy in report.policies if policy.live is not None), None)
    if live is not None:
        times, scores = _moving_score(report, live.rows, live.naive_figures)
        axes.plot(times, scores, ":", color=NAIVE_COLOUR, label="naive forecast")


def _moving_score(
    report: ReplayReport, rows: NDArray[np.int64], figures: NDArray[np.float64]
) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return (m,) times and (m,) scores of a moving window of posts, each at the time of the middle post."""
    window = min(max(len(rows) // WINDOW_FRACTION, MIN_WINDOW), len(rows))
    sums = np.concatenate([np.zeros((1, figures.shape[1])), np.cumsum(figures, axis=0)])
    means = (sums[window:] - sums[:-window]) / window
    middle = rows[(window - 1) // 2 : (window - 1) // 2 + len(means)]
    return report.times[middle], get_model_type(report.model_type).overall_score(means)


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)
