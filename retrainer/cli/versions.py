"""The commands that change versions: promote, rollback, hold, release, pin, unpin, restore, prune."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.completion import complete_versions
from retrainer.cli.context import has_several_streams, open_project, open_stream
from retrainer.cli.options import (
    AsJson,
    Reason,
    StreamOption,
    StreamsOption,
    TypeArgument,
    TypeOption,
    VersionArgument,
    VersionStreamOption,
)
from retrainer.pipeline import promotion, retention
from retrainer.render import documents, tables
from retrainer.streams import of_stream

app = typer.Typer(rich_markup_mode=None)


@app.command()
def promote(
    context: typer.Context,
    version: VersionArgument,
    *,
    stream: VersionStreamOption = None,
    reason: Reason = "Promoted by hand",
    refit: Annotated[
        bool | None,
        typer.Option("--refit/--no-refit", help="Fit it again on all posts first, or not. By default, as configured."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Promote a version to production.

    With `retraining.refit`, it is fitted again on all posts first, so that it knows the latest ones.

    Example: retrainer promote prophet_timing_20251106_120000_a3f2 --reason "reviewed"
    """
    with open_project(context) as (opened, runtime):
        project, found = opened.find_version(version, stream)
        version_id = found.version_id
        change = promotion.promote_version(project, runtime, version_id, reason, datetime.now(UTC), refit=refit)
    document = documents.versions.ChangedDocument.from_promotion(change, version_id, project.stream)
    console.result(document, document.message, as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    stream: StreamOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            autocompletion=complete_versions,
            help="Undo promotions until this version is live. By default, undo one.",
        ),
    ] = None,
    reason: Reason = "Rolled back by hand",
    hold: Annotated[
        bool, typer.Option("--hold/--no-hold", help="Stop automatic promotion of the model type until `release`.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Undo the latest promotion of a model type.

    The previous production version goes live again.

    Example: retrainer rollback timing --reason "too many misses since Sunday"
    """
    with open_stream(context, stream) as (project, runtime):
        target = None if to is None else project.registry.find_version(to, model_type).version_id
        change = promotion.roll_back(project, runtime, model_type, reason, datetime.now(UTC), to=target, hold=hold)
        several = has_several_streams(project)
    document = documents.versions.ChangedDocument.from_rollback(change, hold=hold, several=several)
    console.result(document, document.message, as_json=as_json)


@app.command()
def hold(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    stream: StreamOption = None,
    reason: Reason = "Held by hand",
    as_json: AsJson = False,
) -> None:
    """Stop automatic promotion of a model type.

    New versions are still trained and compared.

    Example: retrainer hold timing --reason "holiday season"
    """
    with open_stream(context, stream) as (project, _):
        changed = project.registry.hold(model_type, reason, datetime.now(UTC))
        of = of_stream(project.stream, several=has_several_streams(project))
    message = f"Automatic promotion of {model_type}{of} is {'now' if changed else 'already'} on hold"
    console.success(message, as_json=as_json, changed=changed, stream=project.stream)


@app.command()
def release(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    stream: StreamOption = None,
    reason: Reason = "Released by hand",
    as_json: AsJson = False,
) -> None:
    """Resume automatic promotion of a model type.

    Example: retrainer release timing
    """
    with open_stream(context, stream) as (project, _):
        changed = project.registry.release(model_type, reason, datetime.now(UTC))
        of = of_stream(project.stream, several=has_several_streams(project))
    message = f"Automatic promotion of {model_type}{of} is {'released' if changed else 'not on hold'}"
    console.success(message, as_json=as_json, changed=changed, stream=project.stream)


@app.command()
def pin(
    context: typer.Context,
    version: VersionArgument,
    *,
    stream: VersionStreamOption = None,
    reason: Reason = "Pinned by hand",
    as_json: AsJson = False,
) -> None:
    """Protect a version from being archived.

    Example: retrainer pin prophet_timing_20251106_120000_a3f2 --reason "the version in the paper"
    """
    with open_project(context) as (opened, _):
        project, found = opened.find_version(version, stream)
        version_id = found.version_id
        changed = project.registry.pin(version_id, reason, datetime.now(UTC), pinned=True)
    message = f"{version_id} is {'now' if changed else 'already'} pinned"
    console.success(message, as_json=as_json, changed=changed, stream=project.stream)


@app.command()
def unpin(
    context: typer.Context,
    version: VersionArgument,
    *,
    stream: VersionStreamOption = None,
    reason: Reason = "Unpinned by hand",
    as_json: AsJson = False,
) -> None:
    """Allow a pinned version to be archived again.

    Example: retrainer unpin prophet_timing_20251106_120000_a3f2
    """
    with open_project(context) as (opened, _):
        project, found = opened.find_version(version, stream)
        version_id = found.version_id
        changed = project.registry.pin(version_id, reason, datetime.now(UTC), pinned=False)
    message = f"{version_id} is {'no longer' if changed else 'not'} pinned"
    console.success(message, as_json=as_json, changed=changed, stream=project.stream)


@app.command()
def restore(
    context: typer.Context,
    version: VersionArgument,
    *,
    stream: VersionStreamOption = None,
    reason: Reason = "Restored by hand",
    as_json: AsJson = False,
) -> None:
    """Restore an archived version.

    The next run archives it again if it is old, unless it is pinned or in production.

    Example: retrainer restore prophet_timing_20251106_120000_a3f2
    """
    with open_project(context) as (opened, _):
        project, found = opened.find_version(version, stream)
        version_id = found.version_id
        changed = retention.restore(project, version_id, reason, datetime.now(UTC))
    message = f"{version_id} is {'restored' if changed else 'not archived'}"
    console.success(message, as_json=as_json, changed=changed, stream=project.stream)


@app.command()
def prune(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    stream: StreamsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the files of archived versions permanently.

    Their scores and decisions stay on record. Pinned versions are kept.

    Example: retrainer prune --dry-run
    """
    with open_project(context) as (project, _):
        found = retention.prunable(project, model_type, project.select_streams(stream))
        short_ids, several = project.registry.short_ids(), has_several_streams(project)
    if not as_json:
        tables.show_prunable(found, short_ids, with_stream=several)
    question = f"Delete the files of {len(found)} versions permanently?"
    if found and not (dry_run or yes) and not console.confirmed(question):
        return
    if not dry_run:
        with open_project(context) as (project, _):
            pruned = retention.prune(project, found, datetime.now(UTC))
        found = [case for case in found if case.version.version_id in pruned]
    if as_json:
        console.document(documents.versions.PrunedDocument.from_result(found, dry_run=dry_run))
    elif found and not dry_run:
        console.text(f"Deleted the files of {len(found)} versions")
