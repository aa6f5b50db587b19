"""The commands that change the production version: promote and rollback."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, Reason, TypeArgument, VersionArgument
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.render import documents

app = typer.Typer(rich_markup_mode=None)


@app.command()
def promote(
    context: typer.Context,
    version_id: VersionArgument,
    *,
    reason: Reason = "Promoted by hand",
    as_json: AsJson = False,
) -> None:
    """Promote a version to production.

    Example: retrainer promote prophet_timing_20251106_120000_a3f2 --reason "reviewed"
    """
    with open_project(context) as (project, runtime):
        change = promote_version(project, runtime, version_id, reason, datetime.now(UTC))
    document = documents.versions.ChangedDocument.from_promotion(change, version_id)
    console.result(document, document.message, as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    to: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Undo promotions until this version is live. By default, undo one."),
    ] = None,
    reason: Reason = "Rolled back by hand",
    hold: Annotated[
        bool, typer.Option("--hold/--no-hold", help="Stop automatic promotion of the model type until `release`.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Undo the latest promotion of a model type.

    The version that was in production before goes live again.

    Example: retrainer rollback timing --reason "too many misses since Sunday"
    """
    with open_project(context) as (project, runtime):
        change = roll_back(project, runtime, model_type, reason, datetime.now(UTC), to=to, hold=hold)
    document = documents.versions.ChangedDocument.from_rollback(change, hold=hold)
    console.result(document, document.message, as_json=as_json)
