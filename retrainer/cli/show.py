"""The commands that show something: production, versions, show, history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.completion import complete_versions_and_runs
from retrainer.cli.context import has_several_streams, open_project
from retrainer.cli.options import (
    AsJson,
    Limit,
    StreamsOption,
    TypeOption,
    VersionStreamOption,
    choice,
    time_option,
)
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.errors import UnknownName, UsageError
from retrainer.live import summary
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline import loading
from retrainer.project import require_stream
from retrainer.registry import promotions, runs
from retrainer.registry import tables as registry_tables
from retrainer.render import documents, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.algorithms.hookspecs import Importance
    from retrainer.project import Project
    from retrainer.render.charts.chart import Chart

SHOWN_RUNS = 10
ALL_RUNS = 1_000_000

app = typer.Typer(rich_markup_mode=None)


@app.command()
def production(
    context: typer.Context,
    *,
    stream: StreamsOption = None,
    at: Annotated[datetime | None, time_option("What was live at this time (ISO 8601, UTC).", past=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Show the production versions, now or at a past time.

    Example: retrainer production --at 2025-11-06T12:00
    """
    with open_project(context) as (project, _):
        one = project.select_one(stream)
        short_ids = project.registry.short_ids()
        if one is None:
            registry = project.registry.across(project.select_streams(stream))
            found = registry.list_production() if at is None else registry.list_production_at(at)
            all_holds = registry.list_holds() if at is None else []
        else:
            registry = project.for_stream(one).registry
            live = {
                name: registry.get_production(name) if at is None else registry.get_production_at(name, at)
                for name in MODEL_TYPE_NAMES
            }
            holds = {name: registry.get_hold(name) if at is None else None for name in MODEL_TYPE_NAMES}
    if one is None and as_json:
        console.document(documents.versions.ProductionsDocument.from_rows(found))
    elif one is None:
        tables.show_productions(found, all_holds, short_ids)
    elif as_json:
        console.document(documents.versions.ProductionDocument.from_rows(live, one))
    else:
        tables.show_production(live, holds, short_ids)


@app.command()
def versions(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    stream: StreamsOption = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List versions, newest first.

    Example: retrainer versions --type timing
    """
    with open_project(context) as (project, _):
        rows = project.registry.across(project.select_streams(stream)).list_versions(model_type, limit)
        short_ids, several = project.registry.short_ids(), has_several_streams(project)
    if as_json:
        console.document(documents.versions.VersionsDocument.from_rows(rows))
    else:
        tables.show_versions(rows, short_ids, with_stream=several)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="VERSION|RUN",
            autocompletion=complete_versions_and_runs,
            help="A version or a run: its ID, a unique beginning or end of it, or @production, @previous, @latest.",
        ),
    ],
    *,
    stream: VersionStreamOption = None,
    plot: Annotated[Path | None, plot_option("a version's scores, calibration and feature importance")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: training, scores, decisions.

    It also shows the feature importance, and the latest result of `explain`. With the ID of a run, show the run.

    Example: retrainer show timing@production
    """
    check_plot(plot, context)
    with open_project(context) as (opened, runtime):
        project, found = _find(opened, name, stream)
        several = has_several_streams(project)
        if isinstance(found, registry_tables.ModelVersion):
            evaluations = project.registry.list_evaluations(found.version_id)
            entries = project.registry.version_history(found.version_id)
            importance = loading.feature_importance(project, runtime, found) or []
            scored = project.registry.list_scored_versions([found.version_id])
            explanation = project.registry.get_explanation(found.version_id)
            live = summary.score_versions(scored).get(found.version_id) if scored else None
            drawn = [] if plot is None else _draw_version(project, found, evaluations, importance, explanation)
            if as_json:
                evaluated = [(row, loading.load_reliability(project, found, row) or []) for row in evaluations]
    if isinstance(found, registry_tables.TrainingRun):
        if as_json:
            console.document(documents.runs.RunDocument.model_validate(found))
        else:
            tables.show_run(found, with_stream=several)
    elif as_json:
        life = documents.versions.VersionLifeDocument
        console.document(life.from_rows(found, evaluated, entries, importance, live, explanation))
    else:
        tables.show_version(found, evaluations, entries, importance, live, explanation, with_stream=several)
    if plot is not None:
        if isinstance(found, registry_tables.TrainingRun):
            raise UsageError("--plot requires a version, not a run", hint="Choose the version of the run")
        write_plot(plot, drawn, "the version has not been evaluated", f"Run `retrainer evaluate {found.version_id}`")


def _draw_version(
    project: Project,
    version: registry_tables.ModelVersion,
    evaluations: Sequence[registry_tables.ModelEvaluation],
    importance: Sequence[Importance],
    explanation: registry_tables.ModelExplanation | None,
) -> list[Chart | None]:
    """Return the charts of a version: of its latest evaluation, and of what its forecasts depend on."""
    from retrainer.render.charts import importance as importance_charts  # noqa: PLC0415  imports numpy
    from retrainer.render.charts import results  # noqa: PLC0415

    charts: list[Chart | None] = [importance_charts.bars(importance), *importance_charts.parts(explanation)]
    if not evaluations:
        return charts
    latest = evaluations[0]
    intervals = loading.load_score_intervals(project, version, latest)
    forecasts = loading.load_forecasts(project, version, latest)
    return [*results.of_recorded(latest, intervals, forecasts), *charts]


def _find(
    project: Project, name: str, stream: str | None
) -> tuple[Project, registry_tables.ModelVersion | registry_tables.TrainingRun]:
    """Return the version with this name, or else the run, with the project seen from its stream."""
    if "@" in name:
        return project.find_version(name, stream)
    found: registry_tables.ModelVersion | registry_tables.TrainingRun
    try:
        found = project.registry.find_version(name)
        found_id = found.version_id
    except UnknownName as unknown:
        try:
            found = project.registry.get_run(project.registry.find_run_id(name))
            found_id = found.run_id
        except UnknownName as no_run:
            suggested = [error for error in (unknown, no_run) if "Did you mean" in error.hint]
            raise (suggested or [unknown])[0] from None
    require_stream(found_id, found.stream, stream)
    return project.for_stream(found.stream), found


@app.command()
def history(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    stream: StreamsOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=1_000_000, help="The maximum number to show. By default, 10; with --csv, all."
        ),
    ] = None,
    page: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="The page to show; page 1 is the newest.")
    ] = 1,
    since: Annotated[datetime | None, time_option("Only runs started at this time or later (UTC).")] = None,
    until: Annotated[datetime | None, time_option("Only runs started before this time (UTC).")] = None,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            parser=choice("running", "completed", "failed"),
            help="Only runs that are running, completed or failed.",
        ),
    ] = None,
    promoted: Annotated[
        bool | None, typer.Option("--promoted/--not-promoted", help="Only runs that promoted their version, or not.")
    ] = None,
    plot: Annotated[Path | None, plot_option("the score of each run's version over time")] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print the runs as CSV, one per line, with the keys of --json as columns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show training runs and what was decided about each.

    The latest changes of the production version follow, regardless of the filters.

    Example: retrainer history --type timing --limit 5
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other", hint="Choose one")
    check_plot(plot, context)
    if as_csv and limit is None and page > 1:
        raise UsageError("--csv prints all runs on one page", hint="Add --limit, or omit --page")
    limit = limit or (ALL_RUNS if as_csv else SHOWN_RUNS)
    run_filter = runs.RunFilter(since=since, until=until, status=status, promoted=promoted, offset=(page - 1) * limit)
    with open_project(context) as (project, _):
        if plot is not None and project.select_one(stream) is None:
            raise UsageError("--plot applies to one stream only", hint="Choose it with --stream NAME")
        registry = project.registry.across(project.select_streams(stream))
        rows = registry.list_runs(model_type, limit, run_filter)
        scored = registry.list_scored_versions(row.model_version_id for row in rows)
        live = summary.score_versions(scored) if scored else {}  # without any, it loads no numpy
        naive = registry.naive_scores(rows) if plot is not None else {}
        if plot is not None or not as_csv:
            total = registry.count_runs(model_type, run_filter)
            changes = registry.list_ledger_entries(
                model_type=model_type, actions=promotions.PRODUCTION_CHANGE_ACTIONS, limit=limit
            )
            short_ids, several = project.registry.short_ids(), has_several_streams(project)
    if as_csv:
        listed = documents.runs.ListedRunDocument
        console.csv_table(
            list(listed.model_fields),
            ([*listed.from_row(row, live).model_dump(mode="json").values()] for row in rows),
        )
    elif as_json:
        console.document(documents.runs.HistoryDocument.from_rows(rows, total, changes, live))
    else:
        tables.show_history(rows, total, changes, live, short_ids, with_stream=several)
    if plot is not None:
        from retrainer.render.charts import results  # noqa: PLC0415  imports numpy

        write_plot(plot, results.of_runs(rows, changes, naive), "no run has scored a version", "Run `retrainer train`")
