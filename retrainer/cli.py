"""The commands: each parses its arguments, makes one call, and gives one output."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from retrainer import __version__, documents, output, views
from retrainer.errors import UsageError
from retrainer.model_types import MODEL_TYPE_NAMES, model_type_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline import run
    from retrainer.project import Project

SIX = "The six commands"
LOOK = "See what there is"
STEER = "Steer automatic promotion"
KEEP = "Keep the versions"
SET_UP = "Set up"

NONE_PROMOTED = 10


class PanelGroup(TyperGroup):
    """Lists commands under the headings of their panels, as Typer does by means of rich, but without importing it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a panel, in the order in which the panels first appear."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                heading = panel if isinstance(panel, str) else "Commands"
                panels.setdefault(heading, []).append((name, command.get_short_help_str(limit=formatter.width - 18)))
        for heading, rows in panels.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=PanelGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
posts_app = typer.Typer(cls=PanelGroup, rich_markup_mode=None, help="Import and count posts.")
db_app = typer.Typer(cls=PanelGroup, rich_markup_mode=None, help="Look after the database.")
app.add_typer(posts_app, name="posts", rich_help_panel=SET_UP)
app.add_typer(db_app, name="db", rich_help_panel=SET_UP)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="timing or content.")]
TypeOption = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only timing or only content.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, help="How many at most.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A version id, as `versions` lists them.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        output.text(f"retrainer {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The settings file; otherwise found from this folder upward."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong on stderr.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001  its callback does it
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Keep a prediction model fresh: train, evaluate honestly, promote safely, roll back."""
    output.configure_logging(
        logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO, tracebacks=traceback
    )
    context.obj = config


@app.command(rich_help_panel=SIX)
def train(
    context: typer.Context,
    model_type: Annotated[
        str | None, typer.Argument(metavar="timing|content", help="Only this model type; otherwise both.")
    ] = None,
    *,
    algorithm: Annotated[str | None, typer.Option(metavar="NAME", help="Instead of the configured one.")] = None,
    auto_promote: Annotated[
        bool | None,
        typer.Option("--auto-promote/--no-auto-promote", help="Instead of retraining.auto_promote."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and compare, but record nothing.")] = False,
    as_of: Annotated[str | None, typer.Option(metavar="TIME", help="Run as if it were then (ISO, UTC).")] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Wait so long for another run to end.")] = 0,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 10 if nothing was promoted.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train a new version and promote it if it is better.

    Example: retrainer train timing --auto-promote
    """
    model_types = [model_type_named(model_type)] if model_type else list(MODEL_TYPE_NAMES)
    now = datetime.now(UTC) if as_of is None else _moment("--as-of", as_of)
    with _project(context) as project:
        from retrainer.pipeline import run  # noqa: PLC0415

        def one(kind: ModelTypeName) -> run.RunResult:
            if dry_run:
                return run.rehearse(project, kind, now, algorithm=algorithm, auto_promote=auto_promote)
            return run.retrain(
                project,
                kind,
                now,
                algorithm=algorithm,
                auto_promote=auto_promote,
                as_of=as_of is not None,
                wait_seconds=wait,
            )

        outcomes = run.each_type(project, model_types, one)
    if as_json:
        output.document(documents.train_document(outcomes))
    else:
        views.train_outcomes(outcomes)
    code = run.exit_code(outcomes)
    nothing_promoted = not any(isinstance(outcome, run.RunResult) and outcome.promoted for outcome in outcomes)
    return NONE_PROMOTED if exit_code and code == 0 and nothing_promoted else code


@app.command(rich_help_panel=SIX)
def evaluate(context: typer.Context, version_id: VersionArgument, *, as_json: AsJson = False) -> None:
    """Score a version on the posts later than its training.

    The naive forecast is scored beside it, on the same posts.

    Example: retrainer evaluate prophet_timing_20251106_120000_a3f2
    """
    with _project(context) as project:
        from retrainer.pipeline.evaluation import evaluate_version  # noqa: PLC0415

        evaluation = evaluate_version(project, version_id, datetime.now(UTC))
    if as_json:
        output.document(documents.evaluation_document(version_id, evaluation))
    else:
        views.evaluation(version_id, evaluation)


@app.command(rich_help_panel=SIX)
def promote(
    context: typer.Context,
    version_id: VersionArgument,
    *,
    reason: Reason = "Promoted by hand",
    as_json: AsJson = False,
) -> None:
    """Put a version live by hand.

    Example: retrainer promote prophet_timing_20251106_120000_a3f2 --reason "reviewed"
    """
    with _project(context) as project:
        from retrainer.pipeline.promotion import promote_by_hand  # noqa: PLC0415

        change = promote_by_hand(project, version_id, reason, datetime.now(UTC))
    message = f"Model {version_id} promoted to production" if change else f"Model {version_id} is in production already"
    _say(documents.change_document(message, version_id, change), message, as_json=as_json)


@app.command(rich_help_panel=SIX)
def rollback(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    to: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Go back until this version is live; otherwise one step.")
    ] = None,
    reason: Reason = "Rolled back by hand",
    hold: Annotated[
        bool, typer.Option("--hold/--no-hold", help="Stop automatic promotion of the type until `release`.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Undo the latest promotion: the version before goes live.

    Example: retrainer rollback timing --reason "too many misses since Sunday"
    """
    with _project(context) as project:
        from retrainer.pipeline.promotion import roll_back  # noqa: PLC0415

        kind = model_type_named(model_type)
        change = roll_back(project, kind, reason, datetime.now(UTC), to=to, hold=hold)
    message = f"Rolled back from {change.from_version} to {change.to_version}"
    if hold:
        message += f"; automatic promotion is on hold until `retrainer release {kind}`"
    _say(documents.change_document(message, change.to_version, change), message, as_json=as_json)


@app.command(rich_help_panel=SIX)
def compare(
    context: typer.Context,
    version_a: Annotated[str, typer.Argument(metavar="A", help="The version that B is held against.")],
    version_b: Annotated[str, typer.Argument(metavar="B", help="The other version.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Score two versions on the same posts.

    They are the posts later than the training of both.

    Example: retrainer compare prophet_timing_20251106_120000_a3f2 baseline_timing_20251113_120000_09be
    """
    with _project(context) as project:
        from retrainer.pipeline.comparison import compare_versions  # noqa: PLC0415

        a, b = project.registry.version(version_a), project.registry.version(version_b)
        comparison = compare_versions(project, a, b, datetime.now(UTC))
    if as_json:
        output.document(documents.comparison_document(comparison))
    else:
        views.comparison(comparison)


@app.command(rich_help_panel=SIX)
def history(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    limit: Limit = 10,
    page: Annotated[int, typer.Option(metavar="N", min=1, help="Which page of so many runs, 1 the newest.")] = 1,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only runs started then or later (UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only runs started before then (UTC).")] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only runs that are running, completed or failed.")
    ] = None,
    promoted: Annotated[
        bool | None, typer.Option("--promoted/--not-promoted", help="Only runs that promoted their version, or not.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show training runs and what was decided about each.

    Example: retrainer history --type timing --limit 5
    """
    kind = model_type_named(model_type) if model_type else None
    if status not in {None, "running", "completed", "failed"}:
        raise UsageError(f"--status: '{status}' is none", hint="It is running, completed or failed")
    with _project(context) as project:
        from retrainer.registry.promotions import CHANGES_OF_PRODUCTION  # noqa: PLC0415
        from retrainer.registry.runs import RunFilter  # noqa: PLC0415

        which = RunFilter(
            since=_time("--since", since) if since else None,
            until=_time("--until", until) if until else None,
            status=status,
            promoted=promoted,
            offset=(page - 1) * limit,
        )
        runs = project.registry.runs(kind, limit, which)
        total = project.registry.count_runs(kind, which)
        changes = project.registry.ledger(model_type=kind, actions=CHANGES_OF_PRODUCTION, limit=limit)
    if as_json:
        output.document(documents.history_document(runs, total, changes))
    else:
        views.history(runs, total, changes)


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
    moment = None if at is None else _moment("--at", at)
    with _project(context) as project:
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
    with _project(context) as project:
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
    with _project(context) as project:
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
    with _project(context) as project:
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
    kind = model_type_named(model_type)
    with _project(context) as project:
        changed = project.registry.hold(kind, reason, datetime.now(UTC))
    message = f"Automatic promotion of {kind} is {'now' if changed else 'already'} on hold"
    _say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


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
    kind = model_type_named(model_type)
    with _project(context) as project:
        changed = project.registry.release(kind, reason, datetime.now(UTC))
    message = f"Automatic promotion of {kind} is {'released' if changed else 'not on hold'}"
    _say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def pin(
    context: typer.Context, version_id: VersionArgument, *, reason: Reason = "Pinned by hand", as_json: AsJson = False
) -> None:
    """Keep a version from being archived.

    Example: retrainer pin prophet_timing_20251106_120000_a3f2 --reason "the one of the paper"
    """
    with _project(context) as project:
        changed = project.registry.pin(version_id, reason, datetime.now(UTC), pinned=True)
    message = f"{version_id} is {'now' if changed else 'already'} pinned"
    _say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def unpin(
    context: typer.Context, version_id: VersionArgument, *, reason: Reason = "Unpinned by hand", as_json: AsJson = False
) -> None:
    """Let a pinned version be archived again.

    Example: retrainer unpin prophet_timing_20251106_120000_a3f2
    """
    with _project(context) as project:
        changed = project.registry.pin(version_id, reason, datetime.now(UTC), pinned=False)
    message = f"{version_id} is {'no longer' if changed else 'not'} pinned"
    _say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


@app.command(rich_help_panel=KEEP)
def restore(
    context: typer.Context, version_id: VersionArgument, *, reason: Reason = "Restored by hand", as_json: AsJson = False
) -> None:
    """Bring an archived version back.

    The next run archives it again if it is old, unless it is pinned or in production.

    Example: retrainer restore prophet_timing_20251106_120000_a3f2
    """
    with _project(context) as project:
        from retrainer.pipeline import archive  # noqa: PLC0415

        changed = archive.restore(project, version_id, reason, datetime.now(UTC))
    message = f"{version_id} is {'restored' if changed else 'not archived'}"
    _say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


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
    kind = model_type_named(model_type) if model_type else None
    with _project(context) as project:
        from retrainer.pipeline import archive  # noqa: PLC0415

        found = archive.prunable(project, kind)
    if not as_json:
        views.prunable(found)
    if found and not (dry_run or yes) and not output.confirmed(f"Delete the files of {len(found)} versions for good?"):
        return
    if not dry_run:
        with _project(context) as project:
            pruned = archive.prune(project, found, datetime.now(UTC))
        found = [case for case in found if case.version.version_id in pruned]
    if as_json:
        output.document(documents.prune_document(found, dry_run=dry_run))
    elif not dry_run:
        output.text(f"Deleted the files of {len(found)} versions")


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
    with _project(context, recovering=False) as project:
        from retrainer.doctor import examine  # noqa: PLC0415

        findings = examine(project, repair=repair)
    if as_json:
        output.document(documents.doctor_document(findings))
    else:
        views.findings(findings)
    return 0 if all(finding.mended for finding in findings) else 1


@app.command(rich_help_panel=SET_UP)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project folder; this one by default.")] = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Lay out a project folder.

    It gets config/config.yaml, data/ and models/. What is there already is kept.

    Example: retrainer init my-project
    """
    from retrainer.project import create_project  # noqa: PLC0415

    made, kept = create_project(folder.absolute())
    lines = [*(f"made {path}" for path in made), *(f"kept {path}" for path in kept)]
    document = {"folder": str(folder.absolute()), "made": list(map(str, made)), "kept": list(map(str, kept))}
    _say(document, "\n".join(lines), as_json=as_json)


@posts_app.command("import")
def posts_import(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="CSV, TSV, JSON, JSON Lines or Parquet.")
    ],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="Which column holds what: content=message."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if any row is rejected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import posts from a file; posts that are there already are left as they are.

    Example: retrainer posts import posts.csv --column content=message
    """
    with _project(context) as project:
        from retrainer.posts.importing import import_posts, parse_columns  # noqa: PLC0415

        result = import_posts(project.posts, file, parse_columns(column or []), datetime.now(UTC), strict=strict)
    if as_json:
        output.document(documents.import_document(result))
    else:
        views.imported(result)


@posts_app.command("count")
def posts_count(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Count the posts.

    Example: retrainer posts count
    """
    with _project(context) as project:
        summary = project.posts.summary(datetime.now(UTC))
        place = project.posts.place
    if as_json:
        output.document(documents.posts_document(summary))
    else:
        views.posts(summary, place)


@posts_app.command("sample")
def posts_sample(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file to write.")],
    *,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="How many posts.")] = 400,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed gives another stream.")] = 20240601,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Write only the posts before then (UTC).")] = None,
) -> None:
    """Write a file of synthetic posts, made up from a seed, to try things on.

    Example: retrainer posts sample posts.csv
    """
    from retrainer.posts.sample import sample_posts, write_sample_csv  # noqa: PLC0415

    posts = sample_posts(seed=seed, count=count)
    if before is not None:
        posts = posts[posts["created_at"] < _moment("--before", before)]
    write_sample_csv(file, posts)
    output.text(f"Wrote {len(posts)} synthetic posts to {file}")


@db_app.command("upgrade")
def db_upgrade(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Bring the database to the newest schema; every command does so by itself on first use.

    Example: retrainer db upgrade
    """
    from retrainer.registry.migrations import HEAD  # noqa: PLC0415

    with _project(context) as project:
        place = project.registry.database.place  # opening it upgrades it
    _say(
        {"database": place, "revision": HEAD},
        f"The database {place} has the newest schema, {HEAD}",
        as_json=as_json,
    )


@contextmanager
def _project(context: typer.Context, *, recovering: bool = True) -> Iterator[Project]:
    """Find the project, put right what a dead process left, and give its connections back at the end."""
    from retrainer.project import Project  # noqa: PLC0415  settings need pydantic and YAML, `--help` does not

    project = Project.find(Path.cwd(), os.environ, context.obj)
    try:
        with output.working():
            if recovering:
                from retrainer.pipeline.recovery import recover  # noqa: PLC0415

                recover(project)
            yield project
    finally:
        project.close()


def _time(option: str, text: str) -> datetime:
    """Parse a moment: ISO-8601, UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: '{text}' is not a time", hint="Write it like 2024-10-31T12:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _moment(option: str, text: str) -> datetime:
    """Parse a past moment, as `_time` does."""
    moment = _time(option, text)
    if moment > datetime.now(UTC):
        raise UsageError(f"{option}: '{text}' lies in the future", hint="Name a past moment")
    return moment


def _say(document: documents.Document, message: str, *, as_json: bool) -> None:
    if as_json:
        output.document(document)
    else:
        output.text(message)
