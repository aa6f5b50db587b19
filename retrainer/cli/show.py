"""The commands that show what there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.app import (
    LOOK,
    AsJson,
    Limit,
    TypeArgument,
    TypeOption,
    VersionArgument,
    app,
    open_project,
    parse_past_time,
)
from retrainer.errors import UsageError
from retrainer.model_types import MODEL_TYPE_NAMES, parse_model_type
from retrainer.render import tables

LOWEST_LEVEL, HIGHEST_LEVEL = 0.02, 0.98  # between the first and the last of a forecast's quantiles


@app.command(rich_help_panel=LOOK)
def production(
    context: typer.Context,
    *,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="What was live then (ISO, UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which versions are live, or were at a past time.

    Example: retrainer production --at 2025-11-06T12:00
    """
    moment = None if at is None else parse_past_time("--at", at)
    with open_project(context) as project:
        registry = project.registry
        live = {
            kind: registry.get_production(kind) if moment is None else registry.get_production_at(kind, moment)
            for kind in MODEL_TYPE_NAMES
        }
        holds = {kind: registry.get_hold(kind) if moment is None else None for kind in MODEL_TYPE_NAMES}
    if as_json:
        from retrainer.render.documents.versions import Production  # noqa: PLC0415

        console.document(Production.from_rows(live))
    else:
        tables.production(live, holds)


@app.command(rich_help_panel=LOOK)
def versions(
    context: typer.Context, *, model_type: TypeOption = None, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """List versions, the newest first.

    Example: retrainer versions --type timing
    """
    kind = parse_model_type(model_type) if model_type else None
    with open_project(context) as project:
        rows = project.registry.list_versions(kind, limit)
    if as_json:
        from retrainer.render.documents.versions import Versions  # noqa: PLC0415

        console.document(Versions.from_rows(rows))
    else:
        tables.versions(rows)


@app.command(rich_help_panel=LOOK)
def show(context: typer.Context, version_id: VersionArgument, *, as_json: AsJson = False) -> None:
    """Show one version: its training, what it leans on, its scores, the decisions.

    Example: retrainer show prophet_timing_20251106_120000_a3f2
    """
    with open_project(context) as project:
        from retrainer.pipeline.evaluations import load_reliability  # noqa: PLC0415  numpy is slow to import
        from retrainer.pipeline.loading import feature_importance  # noqa: PLC0415

        version = project.registry.get_version(version_id)
        evaluations = project.registry.list_evaluations(version_id)
        entries = project.registry.version_history(version_id)
        importance = feature_importance(project, version)
        if as_json:
            evaluated = [(row, load_reliability(project, version, row)) for row in evaluations]
    if as_json:
        from retrainer.render.documents.versions import VersionLife  # noqa: PLC0415

        console.document(VersionLife.from_rows(version, evaluated, entries, importance))
    else:
        tables.version(version, evaluations, entries, importance)


@app.command(rich_help_panel=LOOK)
def predict(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    interval: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Timing: the probability with which the interval holds the next post, 0.02 to 0.98; otherwise 0.8.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next post with the version in production.

    Example: retrainer predict timing --interval 0.5
    """
    kind = parse_model_type(model_type)
    if interval is not None and kind != "timing":
        raise UsageError(f"--interval: there is none for {kind}", hint="It is for `retrainer predict timing`")
    if interval is not None and not LOWEST_LEVEL <= interval <= HIGHEST_LEVEL:
        raise UsageError(f"--interval: '{interval:g}' is not from {LOWEST_LEVEL} to {HIGHEST_LEVEL}")
    with open_project(context) as project:
        from retrainer.model_types.timing import INTERVAL_LEVEL  # noqa: PLC0415
        from retrainer.pipeline.forecast import predict_next  # noqa: PLC0415

        level = INTERVAL_LEVEL if interval is None else interval
        forecast = predict_next(project, kind, datetime.now(UTC), level)
    if as_json:
        from retrainer.render.documents.forecasts import next_post_document  # noqa: PLC0415

        console.document(next_post_document(forecast))
    else:
        tables.next_post(forecast)


@app.command(rich_help_panel=LOOK)
def plugins(*, as_json: AsJson = False) -> None:
    """List the installed algorithms and observers as JSON, broken ones too.

    Example: retrainer plugins
    """
    from retrainer.algorithms.events import list_observers  # noqa: PLC0415
    from retrainer.algorithms.manager import list_algorithms  # noqa: PLC0415
    from retrainer.render.documents.project import Plugin  # noqa: PLC0415

    # A JSON array on a terminal too: short, complete, and nothing slow is imported to draw it.
    del as_json
    with console.stdout_to_stderr():  # of a plugin that prints when it is imported
        found = [*list_algorithms(), *list_observers()]
    console.document([Plugin.from_status(plugin) for plugin in found])
