"""The command that measures what the forecasts of a version depend on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, MaxCostOption, VersionArgument, VersionStreamOption
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.pipeline import explaining, loading
from retrainer.render import documents, explanations
from retrainer.render.charts import importance as charts

INCOMPLETE = 1

app = typer.Typer(rich_markup_mode=None)


@app.command()
def explain(
    context: typer.Context,
    version: VersionArgument,
    *,
    stream: VersionStreamOption = None,
    max_cost: MaxCostOption = None,
    posts: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=10_000,
            help="The number of posts to forecast. By default, 100 for timing and 20 for content.",
        ),
    ] = None,
    plot: Annotated[Path | None, plot_option("what each part is worth, and the feature importance")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure what the forecasts of a version depend on.

    Content forecasts are repeated without each part of the context, timing forecasts with each input taken from another
    forecast. `show` shows the latest result.

    Example: retrainer explain content@production --max-cost 0.10
    """
    check_plot(plot, context)
    with open_project(context) as (opened, runtime):
        project, found = opened.find_version(version, stream)
        now = datetime.now(UTC)
        explanation = explaining.explain_version(project, runtime, found, now, max_cost=max_cost, max_posts=posts)
        importance = loading.feature_importance(project, runtime, found) or []
    if as_json:
        console.document(documents.explanations.ExplainedVersionDocument.from_result(explanation, importance))
    else:
        console.text(f"{found.version_id}")
        explanations.show_importance(importance)
        explanations.show_explanation(explanation)
    if plot is not None:
        write_plot(plot, [*charts.parts(explanation), charts.bars(importance)], "nothing was measured")
    return INCOMPLETE if explanation.problem else 0
