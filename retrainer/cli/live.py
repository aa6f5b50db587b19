"""The command that shows how production does on the posts that came since."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, OptionalTypeArgument, StreamsOption, time_option
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.errors import NothingInProduction, UsageError
from retrainer.live import refresh, report
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.render import documents
from retrainer.render import live as live_text
from retrainer.render.charts import live as charts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.project import Project
    from retrainer.runtime import Runtime

app = typer.Typer(rich_markup_mode=None)


@app.command()
def live(
    context: typer.Context,
    model_type: OptionalTypeArgument = None,
    *,
    stream: StreamsOption = None,
    since: Annotated[datetime | None, time_option("Only the weeks from this time on (ISO 8601, UTC).")] = None,
    plot: Annotated[Path | None, plot_option("the weekly scores, the cumulative error and the evidence")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the next `train` would do, and decide nothing.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Show how production does on new posts.

    It scores the new posts, decides a running A/B test if its evidence is enough, and says whether the production
    version is fine, worse than the naive forecast, or worse than the previous version. However often you look,
    each verdict is wrong with a probability of at most 5%. With several streams, it shows a verdict for each.

    Example: retrainer live timing --plot live.svg
    """
    check_plot(plot, context)
    now = datetime.now(UTC)
    with open_project(context) as (project, runtime):
        one = project.select_one(stream)
        if one is None:
            _require_one_stream(since=since, plot=plot, dry_run=dry_run)
            found, failed = refresh.refresh_streams(project, runtime, project.select_streams(stream), model_type, now)
            short_ids = project.registry.short_ids()
        else:
            reports, previews = _report(project.for_stream(one), runtime, model_type, now, since, dry_run=dry_run)
    if one is None and as_json:
        console.document(documents.live.LiveModelsDocument.from_summaries(found))
    elif one is None:
        if found or not failed:
            live_text.show_summaries(found, short_ids)
    else:
        _show(reports, previews, plot, since=since, as_json=as_json)
    return 1 if one is None and failed else 0


def _require_one_stream(**options: object) -> None:
    """Check that no option is given that applies to one stream only."""
    for name, value in options.items():
        if value:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} applies to one stream only", hint="Choose it with --stream NAME")


def _report(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName | None,
    now: datetime,
    since: datetime | None,
    *,
    dry_run: bool,
) -> tuple[list[report.LiveReport], dict[ModelTypeName, refresh.NextTrain]]:
    """Bring the scores of a stream up to date, and report on its production versions."""
    reports: list[report.LiveReport] = []
    previews: dict[ModelTypeName, refresh.NextTrain] = {}
    for name in [model_type] if model_type else MODEL_TYPE_NAMES:
        if model_type is None and project.registry.get_production(name) is None:
            continue
        refresh.refresh_live(project, runtime, name, now, decide=not dry_run, calls=not dry_run)
        reports.append(report.report_live(project, name, now, since))
        if dry_run:
            previews[name] = refresh.preview_train(project, runtime, name, now)
    if not reports:
        raise NothingInProduction("no version is in production", hint="Run `retrainer train`")
    return reports, previews


def _show(
    reports: Sequence[report.LiveReport],
    previews: Mapping[ModelTypeName, refresh.NextTrain],
    plot: Path | None,
    *,
    since: datetime | None,
    as_json: bool,
) -> None:
    if plot is not None and len(reports) > 1:
        raise UsageError("--plot applies to one model type only", hint="Choose timing or content")
    if as_json:
        console.document(documents.live.LiveModelsDocument.from_reports(reports, previews))
    else:
        for index, one in enumerate(reports):
            if index:
                console.text()
            live_text.show_live(one, previews.get(one.model_type), since=since)
    if plot is not None:
        drawn = [draw(reports[0]) for draw in (charts.scores, charts.errors, charts.evidence)]
        write_plot(plot, drawn, "no live post has been scored yet", "Try again when new posts have arrived")
