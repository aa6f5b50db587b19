"""The six commands: train, evaluate, promote, rollback, compare, history."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.app import (
    NONE_DUE,
    NONE_PROMOTED,
    SIX,
    AsJson,
    Limit,
    Reason,
    TypeArgument,
    TypeOption,
    VersionArgument,
    app,
    moment,
    open_project,
    parse_past_time,
    say,
)
from retrainer.errors import RetrainerError, UsageError, wrap_unexpected
from retrainer.model_types import MODEL_TYPE_NAMES, ORIGIN_RULES, ModelTypeName, parse_model_type
from retrainer.notify import Attempt
from retrainer.render import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.model_types import OriginRule
    from retrainer.pipeline import run
    from retrainer.project import Project

log = logging.getLogger(__name__)

Origin = Annotated[
    str | None,
    typer.Option(
        metavar="post|clock",
        help="Timing: forecast right after each post, or at evenly spaced times; otherwise as in the settings.",
    ),
]


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
    run_id: Annotated[
        str | None, typer.Option(metavar="RUN", hidden=True, help="Carry out a run that `serve` has opened.")
    ] = None,
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Only what is due (schedule_days, min_new_posts); else do nothing.")
    ] = False,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Append a summary in Markdown to this file.")
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 10 if nothing was promoted, with 11 if nothing was due.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Train a new version and promote it if it is better.

    Example: retrainer train timing --auto-promote
    """
    model_types = [parse_model_type(model_type)] if model_type else list(MODEL_TYPE_NAMES)
    now = datetime.now(UTC) if as_of is None else parse_past_time("--as-of", as_of)
    if summary is not None:
        _require_writable(summary)
    not_due: list[str] = []
    attempt = None if dry_run else Attempt()
    with _failure_summarised(summary), open_project(context, attempt=attempt) as project:
        from retrainer.pipeline import run  # noqa: PLC0415

        def one(kind: ModelTypeName) -> run.RunResult:
            if run_id is not None:
                return run.retrain_opened_run(project, run_id, now, auto_promote=auto_promote)
            if dry_run:
                return run.dry_run_retrain(project, kind, now, algorithm=algorithm, auto_promote=auto_promote)
            return run.retrain(
                project,
                kind,
                now,
                algorithm=algorithm,
                auto_promote=auto_promote,
                as_of=as_of is not None,
                wait_seconds=wait,
            )

        if if_due:
            model_types, not_due = _due(project, model_types, now)
        outcomes = run.retrain_each(project, model_types, one)
        code = run.exit_code(outcomes)
        if attempt is not None:
            attempt.ended(outcomes, code)
    if summary is not None:
        from retrainer.render.markdown import markdown  # noqa: PLC0415

        _append(summary, markdown(outcomes, not_due))
    if as_json:
        from retrainer.render.documents.runs import Training  # noqa: PLC0415

        console.document(Training.from_outcomes(outcomes))
    else:
        tables.train_outcomes(outcomes)
    if exit_code and if_due and not model_types:
        return NONE_DUE
    nothing_promoted = not any(isinstance(outcome, run.RunResult) and outcome.promoted for outcome in outcomes)
    return NONE_PROMOTED if exit_code and code == 0 and nothing_promoted else code


@app.command(rich_help_panel=SIX)
def evaluate(
    context: typer.Context,
    version_id: VersionArgument,
    *,
    origin: Origin = None,
    as_json: AsJson = False,
) -> None:
    """Score a version on the posts later than its training.

    The naive forecast is scored beside it, on the same posts, and what was stated is held against what came.

    Example: retrainer evaluate prophet_timing_20251106_120000_a3f2
    """
    with open_project(context) as project:
        from retrainer.pipeline.evaluations import evaluate_version  # noqa: PLC0415

        evaluation = evaluate_version(project, version_id, datetime.now(UTC), _origin_rule(origin))
    if as_json:
        from retrainer.render.documents.evaluations import Evaluation  # noqa: PLC0415

        console.document(Evaluation.from_result(evaluation, version_id))
    else:
        tables.evaluation(version_id, evaluation)


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
    with open_project(context) as project:
        from retrainer.pipeline.promotion import promote_version  # noqa: PLC0415
        from retrainer.render.documents.versions import Changed  # noqa: PLC0415

        change = promote_version(project, version_id, reason, datetime.now(UTC))
    message = f"Model {version_id} promoted to production" if change else f"Model {version_id} is in production already"
    say(Changed.from_change(change, version_id, message), message, as_json=as_json)


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
    with open_project(context) as project:
        from retrainer.pipeline.promotion import roll_back  # noqa: PLC0415
        from retrainer.render.documents.versions import Changed  # noqa: PLC0415

        kind = parse_model_type(model_type)
        change = roll_back(project, kind, reason, datetime.now(UTC), to=to, hold=hold)
    message = f"Rolled back from {change.from_version} to {change.to_version}"
    if hold:
        message += f"; automatic promotion is on hold until `retrainer release {kind}`"
    say(Changed.from_change(change, change.to_version, message), message, as_json=as_json)


@app.command(rich_help_panel=SIX)
def compare(
    context: typer.Context,
    version_a: Annotated[str, typer.Argument(metavar="A", help="The version that B is held against.")],
    version_b: Annotated[str, typer.Argument(metavar="B", help="The other version.")],
    *,
    origin: Origin = None,
    as_json: AsJson = False,
) -> None:
    """Score two versions on the same posts.

    They are the posts later than the training of both.

    Example: retrainer compare prophet_timing_20251106_120000_a3f2 baseline_timing_20251113_120000_09be
    """
    with open_project(context) as project:
        from retrainer.pipeline.comparing import compare_versions  # noqa: PLC0415

        a, b = project.registry.get_version(version_a), project.registry.get_version(version_b)
        comparison = compare_versions(project, a, b, datetime.now(UTC), _origin_rule(origin))
    if as_json:
        from retrainer.render.documents.evaluations import Comparison  # noqa: PLC0415

        console.document(Comparison.from_result(comparison))
    else:
        tables.comparison(comparison)


@app.command(rich_help_panel=SIX)
def history(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    limit: Limit = 10,
    page: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Which page of so many runs, 1 the newest.")
    ] = 1,
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

    The latest changes of production stand below them, whichever runs are asked for.

    Example: retrainer history --type timing --limit 5
    """
    kind = parse_model_type(model_type) if model_type else None
    if status not in {None, "running", "completed", "failed"}:
        raise UsageError(f"--status: '{status}' is none", hint="It is running, completed or failed")
    with open_project(context) as project:
        from retrainer.registry.promotions import PRODUCTION_CHANGE_ACTIONS  # noqa: PLC0415
        from retrainer.registry.runs import RunFilter  # noqa: PLC0415

        which = RunFilter(
            since=moment("--since", since) if since else None,
            until=moment("--until", until) if until else None,
            status=status,
            promoted=promoted,
            offset=(page - 1) * limit,
        )
        runs = project.registry.list_runs(kind, limit, which)
        total = project.registry.count_runs(kind, which)
        changes = project.registry.list_ledger_entries(model_type=kind, actions=PRODUCTION_CHANGE_ACTIONS, limit=limit)
    if as_json:
        from retrainer.render.documents.runs import History  # noqa: PLC0415

        console.document(History.from_rows(runs, total, changes))
    else:
        tables.history(runs, total, changes)


def _due(project: Project, model_types: list[ModelTypeName], now: datetime) -> tuple[list[ModelTypeName], list[str]]:
    """Return the types that are due, and a line for each that is not.

    Such a line goes to the log file, but to stderr on a terminal and with `--verbose` only: cron would mail it nightly.
    """
    from retrainer.schedule.due import due  # noqa: PLC0415

    found = [due(project, kind, now) for kind in model_types]
    for one in found:
        log.info(
            "The %s model is %sdue: %s",
            one.model_type,
            "" if one.is_due else "not ",
            one.why,
            extra={console.ASIDE: not one.is_due},
        )
    return [one.model_type for one in found if one.is_due], [
        f"The {one.model_type} model is not due: {one.why}" for one in found if not one.is_due
    ]


def _require_writable(path: Path) -> None:
    """Find out before the work whether a file can be appended to."""
    try:
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        raise UsageError(
            f"--summary: '{path}' cannot be written: {error.strerror}", hint="Name a file in a folder of yours"
        ) from error


@contextmanager
def _failure_summarised(path: Path | None) -> Iterator[None]:
    """Let the summary say why where no model type has its turn, as with a wrong setting."""
    try:
        yield
    except Exception as error:
        if path is not None:
            from retrainer.render.markdown import markdown_of_failure  # noqa: PLC0415

            _append(path, markdown_of_failure(error if isinstance(error, RetrainerError) else wrap_unexpected(error)))
        raise


def _append(path: Path, summary: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(summary)
    except OSError as error:  # the runs stand, whatever becomes of their summary
        log.warning("The summary could not be written to '%s': %s", path, error.strerror)


def _origin_rule(name: str | None) -> OriginRule | None:
    """Return the rule of this name; None where none is named."""
    if name is None:
        return None
    for known in ORIGIN_RULES:
        if name == known:
            return known
    raise UsageError(f"--origin: '{name}' is none", hint="It is post or clock")
