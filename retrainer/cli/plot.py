"""The option `--plot FILE`: the charts of a result below each other in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from retrainer import console
from retrainer import project as projects
from retrainer.errors import UsageError
from retrainer.render.charts.files import require_format

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.render.charts.chart import Chart


def plot_option(what: str) -> Any:
    """Return the option that names the file of a plot.

    Args:
        what: it shows.
    """
    return typer.Option("--plot", metavar="FILE", help=f"Plot {what}, as PNG or SVG.")


def check_plot(plot: Path | None, context: typer.Context) -> None:
    """Check the name of the file before anything is done; see `require_format`.

    Raises:
        UsageError: it cannot be written, or belongs to the project.
    """
    if plot is not None:
        require_format(plot)
        projects.require_foreign("--plot", plot, context.obj)


def write_plot(plot: Path, charts: Sequence[Chart | None], nothing: str, hint: str = "Omit --plot") -> None:
    """Write the plot. To be called last: a plot that fails must not hide the result.

    Args:
        plot: the file.
        charts: those that are None are left out.
        nothing: the message if all are.
        hint: what to do then.

    Raises:
        UsageError: there is nothing to draw.
        RetrainerError: the file cannot be written.
    """
    drawn = [chart for chart in charts if chart is not None]
    if not drawn:
        raise UsageError(f"--plot: {nothing}", hint=hint)
    from retrainer.render.charts import drawing  # noqa: PLC0415  imports matplotlib

    with console.working():
        drawing.write(drawn, plot)
