"""The command that forecasts the next post."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, TypeArgument
from retrainer.errors import UsageError
from retrainer.model_types.timing import INTERVAL_LEVEL
from retrainer.pipeline.forecast import predict_next
from retrainer.render import documents, tables

LOWEST_LEVEL, HIGHEST_LEVEL = 0.02, 0.98  # between the first and the last of a forecast's quantiles

app = typer.Typer(rich_markup_mode=None)


@app.command()
def predict(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    interval: Annotated[
        float | None,
        typer.Option(metavar="LEVEL", help="Timing: the probability of the interval, 0.02 to 0.98. By default, 0.8."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next post with the production version.

    Example: retrainer predict timing --interval 0.5
    """
    if interval is not None and model_type != "timing":
        raise UsageError("--interval applies to timing only", hint="Remove it, or run `retrainer predict timing`")
    if interval is not None and not LOWEST_LEVEL <= interval <= HIGHEST_LEVEL:
        raise UsageError(f"--interval: '{interval:g}' is not between {LOWEST_LEVEL} and {HIGHEST_LEVEL}")
    with open_project(context) as (project, runtime):
        level = INTERVAL_LEVEL if interval is None else interval
        forecast = predict_next(project, runtime, model_type, datetime.now(UTC), level)
    if as_json:
        console.document(documents.forecasts.next_post_document(forecast))
    else:
        tables.show_next_post(forecast)
