"""The command `retrainer predict`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from retrainer import console
from retrainer.cli.context import open_stream
from retrainer.cli.options import AsJson, StreamOption, TypeArgument, parse_time_or_delay, parse_time_or_last
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.errors import UsageError
from retrainer.model_types import timing
from retrainer.pipeline import forecast
from retrainer.render import documents, forecasts
from retrainer.render.charts import forecasts as charts

LOWEST_LEVEL, HIGHEST_LEVEL = 0.02, 0.98  # between the first and the last of a forecast's quantiles

app = typer.Typer(rich_markup_mode=None)


@app.command()
def predict(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    stream: StreamOption = None,
    at: Annotated[
        Any,
        typer.Option(
            metavar="TIME|last",
            parser=parse_time_or_last,
            help="Forecast as of this past time (ISO 8601, UTC), knowing the posts up to it, or right after the last "
            "post. By default, now.",
        ),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(metavar="LEVEL", help="Timing: the probability of the intervals, 0.02 to 0.98. By default, 0.8."),
    ] = None,
    until: Annotated[
        Any,
        typer.Option(
            metavar="TIME",
            parser=parse_time_or_delay,
            help="Timing: also the posts per day up to TIME, at most 31 days ahead: ISO 8601 (UTC), or a delay such "
            "as 36h or 3d.",
        ),
    ] = None,
    next_posts: Annotated[
        int | None,
        typer.Option(
            "--next",
            metavar="N",
            min=1,
            help="Timing: also when each of the next N posts comes, 100 at most. By default, 10 with --until.",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The ID of the caller. During an A/B test, the same ID always gets the same version."
        ),
    ] = None,
    plot: Annotated[
        Path | None, plot_option("timing: the chance of the next post over time and, with --until, the posts per day")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next post, or the next days, with the production version.

    If the last post is unusually old, the forecast right after it is printed too.

    Example: retrainer predict timing --until 3d
    """
    for name, value in (("interval", interval), ("until", until), ("next", next_posts), ("plot", plot)):
        if value is not None and model_type != "timing":
            raise UsageError(f"--{name} applies to timing only", hint="Remove it, or run `retrainer predict timing`")
    if interval is not None and not LOWEST_LEVEL <= interval <= HIGHEST_LEVEL:
        raise UsageError(f"--interval: '{interval:g}' is not between {LOWEST_LEVEL} and {HIGHEST_LEVEL}")
    check_plot(plot, context)
    with open_stream(context, stream) as (project, runtime):
        level = timing.INTERVAL_LEVEL if interval is None else interval
        next_post = forecast.predict_next(
            project,
            runtime,
            model_type,
            datetime.now(UTC),
            level,
            at=at,
            until=until,
            next_posts=next_posts,
            subject=subject,
        )
    if as_json:
        console.document(documents.forecasts.next_post_document(next_post))
    else:
        forecasts.show_next_post(next_post)
    if plot is not None:
        write_plot(plot, [charts.next_post(next_post), charts.days(next_post)], "there is no forecast")
