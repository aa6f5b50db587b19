"""The commands that steer automatic promotion and look after the versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.app import (
    KEEP,
    STEER,
    AsJson,
    Reason,
    TypeArgument,
    TypeOption,
    VersionArgument,
    app,
    open_project,
    say,
)
from retrainer.model_types import parse_model_type
from retrainer.render import tables


@app.command(rich_help_panel=STEER)
def hold(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    reason: Reason = "Held by hand",
    as_json: AsJson = False,
) -> None:
    """Stop automatic promotion of a model type.

    Versions are still trained and compared.

    Example: retrainer hold timing --reason "holiday season"
    """
    kind = parse_model_type(model_type)
    with open_project(context) as project:
        changed = project.registry.hold(kind, reason, datetime.now(UTC))
    message = f"Automatic promotion of {kind} is {'now' if changed else 'already'} on hold"
    say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=STEER)
def release(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    reason: Reason = "Released by hand",
    as_json: AsJson = False,
) -> None:
    """Resume automatic promotion of a model type.

    Example: retrainer release timing
    """
    kind = parse_model_type(model_type)
    with open_project(context) as project:
        changed = project.registry.release(kind, reason, datetime.now(UTC))
    message = f"Automatic promotion of {kind} is {'released' if changed else 'not on hold'}"
    say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def pin(
    context: typer.Context, version_id: VersionArgument, *, reason: Reason = "Pinned by hand", as_json: AsJson = False
) -> None:
    """Keep a version from being archived.

    Example: retrainer pin prophet_timing_20251106_120000_a3f2 --reason "the one of the paper"
    """
    with open_project(context) as project:
        changed = project.registry.pin(version_id, reason, datetime.now(UTC), pinned=True)
    message = f"{version_id} is {'now' if changed else 'already'} pinned"
    say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def unpin(
    context: typer.Context, version_id: VersionArgument, *, reason: Reason = "Unpinned by hand", as_json: AsJson = False
) -> None:
    """Let a pinned version be archived again.

    Example: retrainer unpin prophet_timing_20251106_120000_a3f2
    """
    with open_project(context) as project:
        changed = project.registry.pin(version_id, reason, datetime.now(UTC), pinned=False)
    message = f"{version_id} is {'no longer' if changed else 'not'} pinned"
    say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def restore(
    context: typer.Context, version_id: VersionArgument, *, reason: Reason = "Restored by hand", as_json: AsJson = False
) -> None:
    """Bring an archived version back.

    The next run archives it again if it is old, unless it is pinned or in production.

    Example: retrainer restore prophet_timing_20251106_120000_a3f2
    """
    with open_project(context) as project:
        from retrainer.pipeline import retention  # noqa: PLC0415

        changed = retention.restore(project, version_id, reason, datetime.now(UTC))
    message = f"{version_id} is {'restored' if changed else 'not archived'}"
    say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def prune(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the files of archived versions for good.

    Their scores and decisions stay on record. Pinned versions are kept.

    Example: retrainer prune --dry-run
    """
    kind = parse_model_type(model_type) if model_type else None
    with open_project(context) as project:
        from retrainer.pipeline import retention  # noqa: PLC0415

        found = retention.prunable(project, kind)
    if not as_json:
        tables.prunable(found)
    if found and not (dry_run or yes) and not console.confirmed(f"Delete the files of {len(found)} versions for good?"):
        return
    if not dry_run:
        with open_project(context) as project:
            pruned = retention.prune(project, found, datetime.now(UTC))
        found = [case for case in found if case.version.version_id in pruned]
    if as_json:
        from retrainer.render.documents.versions import Pruned  # noqa: PLC0415

        console.document(Pruned.from_result(found, dry_run=dry_run))
    elif not dry_run:
        console.text(f"Deleted the files of {len(found)} versions")


@app.command(rich_help_panel=KEEP)
def doctor(
    context: typer.Context,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what the database knows better.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check every version, file, link and run.

    Exits with 1 if something is found that was not mended.

    Example: retrainer doctor --repair
    """
    with open_project(context, recovering=False) as project:
        from retrainer.doctor import examine  # noqa: PLC0415

        findings = examine(project, repair=repair)
    if as_json:
        from retrainer.render.documents.project import Findings  # noqa: PLC0415

        console.document(Findings.from_findings(findings))
    else:
        tables.findings(findings)
    return 0 if all(finding.mended for finding in findings) else 1
