"""The commands that score versions: evaluate and compare."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.completion import complete_versions
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, Origin, VersionArgument, VersionStreamOption
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.pipeline import comparing, evaluations
from retrainer.render import documents, scores
from retrainer.render.charts import results

app = typer.Typer(rich_markup_mode=None)


@app.command()
def evaluate(
    context: typer.Context,
    version: VersionArgument,
    *,
    stream: VersionStreamOption = None,
    origin: Origin = None,
    plot: Annotated[Path | None, plot_option("the scores, the forecasts against actual posts, and calibration")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a version on posts later than its training data.

    The naive forecast is scored on the same posts. If the version states probabilities, they are compared with what
    happened.

    Example: retrainer evaluate prophet_timing_20251106_120000_a3f2
    """
    check_plot(plot, context)
    with open_project(context) as (opened, runtime):
        project, found = opened.find_version(version, stream)
        version_id = found.version_id
        evaluation = evaluations.evaluate_version(project, runtime, version_id, datetime.now(UTC), origin)
    if as_json:
        console.document(documents.evaluations.EvaluationDocument.from_result(evaluation, version_id))
    else:
        scores.show_evaluation(version_id, evaluation)
    if plot is not None:
        write_plot(plot, results.of_evaluation(evaluation), "no forecast could be scored")


@app.command()
def compare(
    context: typer.Context,
    version_a: Annotated[
        str, typer.Argument(metavar="A", autocompletion=complete_versions, help="The version to compare with.")
    ],
    version_b: Annotated[
        str, typer.Argument(metavar="B", autocompletion=complete_versions, help="The version to judge.")
    ],
    *,
    stream: VersionStreamOption = None,
    origin: Origin = None,
    plot: Annotated[
        Path | None, plot_option("the scores, the uncertainty of the difference, and where it comes from")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score two versions on the same posts.

    The posts are those later than the training data of both.

    Example: retrainer compare prophet_timing_20251106_120000_a3f2 baseline_timing_20251113_120000_09be
    """
    check_plot(plot, context)
    with open_project(context) as (opened, runtime):
        (project, a), (_, b) = (opened.find_version(version, stream) for version in (version_a, version_b))
        comparison = comparing.compare_versions(project, runtime, a, b, datetime.now(UTC), origin)
    if as_json:
        console.document(documents.evaluations.ComparisonDocument.from_result(comparison))
    else:
        scores.show_comparison(comparison)
    if plot is not None:
        write_plot(plot, results.of_comparison(comparison), "nothing could be compared")
