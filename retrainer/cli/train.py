"""The command that trains new versions."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console, notify
from retrainer import project as projects
from retrainer.cli import train_fleet
from retrainer.cli.completion import complete_algorithms
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, OptionalTypeArgument, StreamsOption, time_option
from retrainer.cli.report import require_output, write_report_of_train
from retrainer.cli.summary import append_summary, failure_summary, require_writable
from retrainer.cli.workers import AddressOption, BackendOption, SchedulerOption, WorkerOptions
from retrainer.errors import RetrainerError, UnknownName, UsageError
from retrainer.fleet import units
from retrainer.live import review
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.pipeline import recovery, results, run, stale_posts
from retrainer.posts.sources import fetching
from retrainer.render import documents, markdown, scores
from retrainer.schedule import due

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrainer.project import Project
    from retrainer.runtime import Runtime


log = logging.getLogger(__name__)
app = typer.Typer(rich_markup_mode=None)


@app.command()
def train(
    context: typer.Context,
    model_type: OptionalTypeArgument = None,
    *,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=complete_algorithms, help="The algorithm. By default, the configured one."
        ),
    ] = None,
    auto_promote: Annotated[
        bool | None,
        typer.Option("--auto-promote/--no-auto-promote", help="Override retraining.auto_promote."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and compare, but record nothing.")] = False,
    as_of: Annotated[datetime | None, time_option("Run as if it were this time (ISO 8601, UTC).", past=True)] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait up to this long for another run to end.")
    ] = 0,
    run_id: Annotated[
        str | None, typer.Option(metavar="RUN", hidden=True, help="Carry out a run that `serve` has opened.")
    ] = None,
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Train only the model types that are due: see `schedule show`.")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch new posts first, if posts.sources has sources.")
    ] = False,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Append a Markdown summary to this file.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write a report after the runs; see `retrainer report`."),
    ] = None,
    all_streams: Annotated[
        bool, typer.Option("--all-streams", help="Train all streams, each in a run of its own.")
    ] = False,
    stream: StreamsOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=256, help="With several streams: train N at a time. By default, 1."),
    ] = None,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    address: AddressOption = None,
    max_failures: Annotated[
        int | None,
        typer.Option("--max-failures", metavar="N", min=1, help="With several streams: stop after N failures."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            metavar="DOLLARS",
            min=0,
            help="With several streams: the maximum total cost of paid forecasts; required if any model is paid.",
        ),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 10 if nothing was promoted, with 11 if nothing was due.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Train a new version and promote it if it is better.

    Example: retrainer train timing --auto-promote
    """
    model_types = [model_type] if model_type else list(MODEL_TYPE_NAMES)
    workers = WorkerOptions(backend, scheduler, address)
    options = train_fleet.FleetOptions(all_streams, tuple(stream or ()), jobs, max_failures, max_cost, workers)
    options.validate(dry_run=dry_run, wait=wait > 0, report=report is not None)
    _check_options(context, summary, report, fetch=fetch, dry_run=dry_run, as_of=as_of)
    train_call = None if dry_run else notify.TrainCall()
    with failure_summary(summary), open_project(context, train_call=train_call) as (opened, runtime):
        fetch_code = _fetch(opened, wanted=fetch)
        now = as_of or datetime.now(UTC)
        if options.selects_several:
            spec = units.WorkerSpec(opened.config_file, algorithm, auto_promote, as_of)
            fleet = train_fleet.train_streams(opened, runtime, options, spec, model_types, now, if_due=if_due)
            code = fleet.exit_code or fetch_code
            if train_call is not None:
                train_call.failed = code != 0
        else:
            fleet, project = None, _choose_stream(opened, stream, run_id)
            recovery.repair_links(project, write=not dry_run)  # `open_project` has repaired those of `default`

            def retrain(name: ModelTypeName) -> results.RunResult:
                if run_id is not None:
                    return run.retrain_opened_run(project, runtime, run_id, now, auto_promote=auto_promote)
                if dry_run:
                    return run.dry_run(project, runtime, name, now, algorithm=algorithm, auto_promote=auto_promote)
                return run.retrain(
                    project,
                    runtime,
                    name,
                    now,
                    algorithm=algorithm,
                    auto_promote=auto_promote,
                    as_of=as_of is not None,
                    wait_seconds=wait,
                )

            _review_each(project, runtime, [] if dry_run else model_types, now)
            due_types, not_due = _select_due(project, model_types, now) if if_due else (model_types, [])
            outcomes = _retrain_each(project, runtime, due_types, now, retrain, is_past=as_of is not None, dry=dry_run)
            code = results.exit_code(outcomes) or fetch_code
            if train_call is not None:
                train_call.finish(runtime, outcomes, code)
            write_report_of_train(project, runtime, model_types, report)
    if fleet is not None:
        return train_fleet.report(fleet, code, summary, as_json=as_json, exit_code=exit_code)
    if summary is not None:
        append_summary(summary, markdown.summarize(outcomes, not_due))
    if as_json:
        console.document(documents.runs.TrainingDocument.from_outcomes(outcomes))
    else:
        scores.show_run_results(outcomes)
    return _exit_code(code, outcomes, none_due=if_due and not due_types, wanted=exit_code)


def _review_each(project: Project, runtime: Runtime, model_types: Sequence[ModelTypeName], now: datetime) -> None:
    for model_type in model_types:
        review.review(project, runtime, model_type, now)


def _retrain_each(
    project: Project,
    runtime: Runtime,
    model_types: list[ModelTypeName],
    now: datetime,
    retrain: Callable[[ModelTypeName], results.RunResult],
    *,
    is_past: bool,
    dry: bool,
) -> list[results.RunResult | results.Failure]:
    """Retrain model types one after another; report stale posts, unless all runs failed, whose reasons come first."""
    stale = None if is_past else stale_posts.find_stale_posts(project, model_types, now)
    outcomes = run.retrain_each(project, model_types, retrain)
    all_failed = bool(outcomes) and all(isinstance(outcome, results.Failure) for outcome in outcomes)
    if stale is not None and not all_failed:
        first_only = not model_types  # nothing is due
        stale_posts.report_stale_posts(project, runtime, stale, record=not dry, first_only=first_only)
    return outcomes


def _exit_code(
    code: int, outcomes: Sequence[results.RunResult | results.Failure], *, none_due: bool, wanted: bool
) -> int:
    """Return the exit code; with `--exit-code`, one of its own if nothing was due or promoted."""
    if not wanted or code != 0:
        return code
    if none_due:
        return train_fleet.NOTHING_DUE
    promoted = any(isinstance(outcome, results.RunResult) and outcome.promoted for outcome in outcomes)
    return 0 if promoted else train_fleet.NOTHING_PROMOTED


def _choose_stream(project: Project, names: list[str] | None, run_id: str | None) -> Project:
    """Return the project seen from the stream of a run, the one named, or the only one."""
    if run_id is not None:
        return project.for_stream(project.registry.get_run(run_id).stream)
    try:
        return project.choose_stream(names[0] if names else None)
    except UnknownName:
        raise
    except UsageError as error:
        raise UsageError(error.message, hint="Choose one with --stream, or train all with --all-streams") from None


def _check_options(
    context: typer.Context,
    summary: Path | None,
    report: Path | None,
    *,
    fetch: bool,
    dry_run: bool,
    as_of: datetime | None,
) -> None:
    """Check before anything else that the options fit together and the summary and the report can be written."""
    if fetch and (dry_run or as_of is not None):
        raise UsageError(f"--fetch and {'--dry-run' if dry_run else '--as-of'} exclude each other", hint="Omit one")
    if summary is not None:
        projects.require_foreign("--summary", summary, context.obj)
        require_writable(summary)
    if report is not None:
        require_output("--report", report, context.obj)


def _fetch(project: Project, *, wanted: bool) -> int:
    """Fetch new posts if wanted; return the exit code of the first source that failed, which prevents no training."""
    if not wanted or not project.settings.posts.sources:
        return 0
    try:
        fetched = fetching.fetch_sources(
            project.posts,
            project.registry.database,
            project.folder,
            project.settings.posts.sources,
        )
    except RetrainerError as error:
        log.error("No posts were fetched: %s", error)  # noqa: TRY400  not a traceback
        return error.exit_code
    for result in fetched:
        log.info("Fetched from %s", result.sentence)
    return fetching.exit_code(fetched)


def _select_due(
    project: Project, model_types: list[ModelTypeName], now: datetime
) -> tuple[list[ModelTypeName], list[str]]:
    """Return the model types that are due, and a sentence for each that is not.

    "Not due" is logged to the log file, but to stderr only on a terminal or with `--verbose`: cron would mail it
    every night.
    """
    states = [due.due(project, model_type, now) for model_type in model_types]
    for state in states:
        log.info(state.sentence, extra={console.TERMINAL_ONLY: not state.is_due})
    return (
        [state.model_type for state in states if state.is_due],
        [state.sentence for state in states if not state.is_due],
    )
