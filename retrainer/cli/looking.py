"""The commands that show what there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retrainer import documents, output, views
from retrainer.cli.app import (
    LOOK,
    AsJson,
    Limit,
    TypeArgument,
    TypeOption,
    VersionArgument,
    app,
    past_moment,
    project_of,
)
from retrainer.model_types import MODEL_TYPE_NAMES, model_type_named


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
    moment = None if at is None else past_moment("--at", at)
    with project_of(context) as project:
        registry = project.registry
        live = {
            kind: registry.production(kind) if moment is None else registry.production_at(kind, moment)
            for kind in MODEL_TYPE_NAMES
        }
        holds = {kind: registry.hold_on(kind) if moment is None else None for kind in MODEL_TYPE_NAMES}
    if as_json:
        output.document(documents.production_document(live))
    else:
        views.production(live, holds)


@app.command(rich_help_panel=LOOK)
def versions(
    context: typer.Context, *, model_type: TypeOption = None, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """List versions, the newest first.

    Example: retrainer versions --type timing
    """
    kind = model_type_named(model_type) if model_type else None
    with project_of(context) as project:
        rows = project.registry.versions(kind, limit)
    if as_json:
        output.document(documents.versions_document(rows))
    else:
        views.versions(rows)


@app.command(rich_help_panel=LOOK)
def show(context: typer.Context, version_id: VersionArgument, *, as_json: AsJson = False) -> None:
    """Show one version: its training, scores, decisions.

    Example: retrainer show prophet_timing_20251106_120000_a3f2
    """
    with project_of(context) as project:
        version = project.registry.version(version_id)
        evaluations = project.registry.evaluations(version_id)
        entries = project.registry.life(version_id)
    if as_json:
        output.document(documents.version_life_document(version, evaluations, entries))
    else:
        views.version(version, evaluations, entries)


@app.command(rich_help_panel=LOOK)
def predict(context: typer.Context, model_type: TypeArgument, *, as_json: AsJson = False) -> None:
    """Forecast the next post with the version in production.

    Example: retrainer predict timing
    """
    with project_of(context) as project:
        from retrainer.pipeline.next_post import predict_next  # noqa: PLC0415

        forecast = predict_next(project, model_type_named(model_type), datetime.now(UTC))
    if as_json:
        output.document(documents.next_post_document(forecast))
    else:
        views.next_post(forecast)


@app.command(rich_help_panel=LOOK)
def plugins(*, as_json: AsJson = False) -> None:
    """List the installed algorithms as JSON, broken ones too.

    Example: retrainer plugins
    """
    from retrainer.algorithms.manager import list_plugins  # noqa: PLC0415

    # A JSON array on a terminal too: short, complete, and nothing slow is imported to draw it.
    del as_json
    output.document(documents.plugins_document(list_plugins()))
