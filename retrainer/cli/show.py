"""The commands that show something: production, versions, show, history, predict, plugins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.algorithms import events, manager
from retrainer.cli.context import open_project
from retrainer.cli.options import (
    AsJson,
    Limit,
    TypeArgument,
    TypeOption,
    choice,
    parse_time_or_delay,
    time_option,
)
from retrainer.errors import UnknownName, UsageError
from retrainer.model_types import MODEL_TYPE_NAMES, timing
from retrainer.pipeline import forecast, loading
from retrainer.posts.sources import manager as sources
from retrainer.registry import promotions, runs
from retrainer.registry import tables as registry_tables
from retrainer.render import documents, tables

if TYPE_CHECKING:
    from retrainer.project import Project

LOWEST_LEVEL, HIGHEST_LEVEL = 0.02, 0.98  # between the first and the last of a forecast's quantiles

app = typer.Typer(rich_markup_mode=None)


@app.command()
def production(
    context: typer.Context,
    *,
    at: Annotated[datetime | None, time_option("What was live at this time (ISO 8601, UTC).", past=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Show the production versions, now or at a past time.

    Example: retrainer production --at 2025-11-06T12:00
    """
    with open_project(context) as (project, _):
        registry = project.registry
        live = {
            name: registry.get_production(name) if at is None else registry.get_production_at(name, at)
            for name in MODEL_TYPE_NAMES
        }
        holds = {name: registry.get_hold(name) if at is None else None for name in MODEL_TYPE_NAMES}
        short_ids = registry.short_ids()
    if as_json:
        console.document(documents.versions.ProductionDocument.from_rows(live))
    else:
        tables.show_production(live, holds, short_ids)


@app.command()
def versions(
    context: typer.Context, *, model_type: TypeOption = None, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """List versions, newest first.

    Example: retrainer versions --type timing
    """
    with open_project(context) as (project, _):
        rows = project.registry.list_versions(model_type, limit)
        short_ids = project.registry.short_ids()
    if as_json:
        console.document(documents.versions.VersionsDocument.from_rows(rows))
    else:
        tables.show_versions(rows, short_ids)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="VERSION|RUN", help="A version or a run: its ID or a unique part, or @production.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one version: training, scores, decisions.

    Also which features its forecasts depend on most. With the ID of a run, show the run.

    Example: retrainer show timing@production
    """
    with open_project(context) as (project, runtime):
        found = _find(project, name)
        if isinstance(found, registry_tables.ModelVersion):
            evaluations = project.registry.list_evaluations(found.version_id)
            entries = project.registry.version_history(found.version_id)
            importance = loading.feature_importance(project, runtime, found) or []
            if as_json:
                evaluated = [(row, loading.load_reliability(project, found, row) or []) for row in evaluations]
    if isinstance(found, registry_tables.TrainingRun):
        if as_json:
            console.document(documents.runs.RunDocument.model_validate(found))
        else:
            tables.show_run(found)
    elif as_json:
        console.document(documents.versions.VersionLifeDocument.from_rows(found, evaluated, entries, importance))
    else:
        tables.show_version(found, evaluations, entries, importance)


def _find(project: Project, name: str) -> registry_tables.ModelVersion | registry_tables.TrainingRun:
    """Return the version with this name, or else the run."""
    try:
        return project.registry.find_version(name)
    except UnknownName as unknown:
        try:
            return project.registry.get_run(project.registry.find_run_id(name))
        except UnknownName:
            raise unknown from None


@app.command()
def history(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    limit: Limit = 10,
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
    as_json: AsJson = False,
) -> None:
    """Show training runs and what was decided about each.

    The latest changes of the production version follow, regardless of the filters.

    Example: retrainer history --type timing --limit 5
    """
    run_filter = runs.RunFilter(since=since, until=until, status=status, promoted=promoted, offset=(page - 1) * limit)
    with open_project(context) as (project, _):
        rows = project.registry.list_runs(model_type, limit, run_filter)
        total = project.registry.count_runs(model_type, run_filter)
        changes = project.registry.list_ledger_entries(
            model_type=model_type, actions=promotions.PRODUCTION_CHANGE_ACTIONS, limit=limit
        )
        short_ids = project.registry.short_ids()
    if as_json:
        console.document(documents.runs.HistoryDocument.from_rows(rows, total, changes))
    else:
        tables.show_history(rows, total, changes, short_ids)


@app.command()
def predict(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    interval: Annotated[
        float | None,
        typer.Option(metavar="LEVEL", help="Timing: the probability of the intervals, 0.02 to 0.98. By default, 0.8."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME",
            parser=parse_time_or_delay,
            help="Timing: also the posts a day until then (ISO 8601, UTC, or from now: 36h, 3d, 1w), 31 days at most.",
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
    as_json: AsJson = False,
) -> None:
    """Forecast the next post, or the next days, with the production version.

    Example: retrainer predict timing --until 3d
    """
    for name, value in (("interval", interval), ("until", until), ("next", next_posts)):
        if value is not None and model_type != "timing":
            raise UsageError(f"--{name} applies to timing only", hint="Remove it, or run `retrainer predict timing`")
    if interval is not None and not LOWEST_LEVEL <= interval <= HIGHEST_LEVEL:
        raise UsageError(f"--interval: '{interval:g}' is not between {LOWEST_LEVEL} and {HIGHEST_LEVEL}")
    with open_project(context) as (project, runtime):
        level = timing.INTERVAL_LEVEL if interval is None else interval
        next_post = forecast.predict_next(
            project, runtime, model_type, datetime.now(UTC), level, until=until, next_posts=next_posts
        )
    if as_json:
        console.document(documents.forecasts.next_post_document(next_post))
    else:
        tables.show_next_post(next_post)


@app.command()
def plugins(*, as_json: AsJson = False) -> None:
    """List installed algorithms, observers and types of sources as JSON.

    Broken ones are listed too, with the reason.

    Example: retrainer plugins
    """
    del as_json  # always JSON: short, complete, and drawn without a slow import
    with console.stdout_to_stderr():  # a plugin may print when it is imported
        found = [*manager.list_algorithms(), *events.list_observers()]
        types = sources.list_types()
    document = documents.project.PluginDocument
    console.document([*map(document.from_status, found), *map(document.from_source_type, types)])
