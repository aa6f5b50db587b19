"""The command that trains new versions."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console, notify
from retrainer import project as projects
from retrainer.cli.completion import complete_algorithms, complete_types
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, time_option
from retrainer.errors import RetrainerError, UsageError, wrap_unexpected
from retrainer.files import open_output
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName, parse_model_type
from retrainer.pipeline import results, run, stale_posts
from retrainer.posts.sources import fetching
from retrainer.render import documents, markdown, scores
from retrainer.schedule import due

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.project import Project

NOTHING_PROMOTED = 10
NOTHING_DUE = 11

log = logging.getLogger(__name__)
app = typer.Typer(rich_markup_mode=None)


@app.command()
def train(
    context: typer.Context,
    model_type: Annotated[
        ModelTypeName | None,
        typer.Argument(
            metavar="timing|content",
            parser=parse_model_type,
            autocompletion=complete_types,
            help="Only this model type. By default, both.",
        ),
    ] = None,
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
        bool, typer.Option("--if-due", help="Train only the model types that are due (schedule_days, min_new_posts).")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch new posts first, if posts.sources has sources.")
    ] = False,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Append a Markdown summary to this file.")
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
    _check_options(context, summary, fetch=fetch, dry_run=dry_run, as_of=as_of)
    not_due: list[str] = []
    train_call = None if dry_run else notify.TrainCall()
    with _failure_summary(summary), open_project(context, train_call=train_call) as (project, runtime):
        fetch_code = _fetch(project, wanted=fetch)
        now = as_of or datetime.now(UTC)

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

        if if_due:
            model_types, not_due = _select_due(project, model_types, now)
        stale = stale_posts.find_stale_posts(project, model_types, now) if as_of is None else None
        outcomes = run.retrain_each(project, model_types, retrain)
        if stale is not None and not _all_failed(outcomes):  # then the reasons of the failures come first
            first_only = not model_types  # nothing is due
            stale_posts.report_stale_posts(project, runtime, stale, record=not dry_run, first_only=first_only)
        code = results.exit_code(outcomes) or fetch_code
        if train_call is not None:
            train_call.finish(runtime, outcomes, code)
    if summary is not None:
        _append(summary, markdown.summarize(outcomes, not_due))
    if as_json:
        console.document(documents.runs.TrainingDocument.from_outcomes(outcomes))
    else:
        scores.show_run_results(outcomes)
    if exit_code and code == 0 and if_due and not model_types:
        return NOTHING_DUE
    promoted = any(isinstance(outcome, results.RunResult) and outcome.promoted for outcome in outcomes)
    return NOTHING_PROMOTED if exit_code and code == 0 and not promoted else code


def _check_options(
    context: typer.Context, summary: Path | None, *, fetch: bool, dry_run: bool, as_of: datetime | None
) -> None:
    """Check before anything else that the options fit together and the summary can be written."""
    if fetch and (dry_run or as_of is not None):
        raise UsageError(f"--fetch and {'--dry-run' if dry_run else '--as-of'} exclude each other", hint="Omit one")
    if summary is not None:
        projects.require_foreign("--summary", summary, context.obj)
        _require_writable(summary)


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


def _all_failed(outcomes: Sequence[results.RunResult | results.Failure]) -> bool:
    return bool(outcomes) and all(isinstance(outcome, results.Failure) for outcome in outcomes)


def _require_writable(path: Path) -> None:
    """Check before training that the summary can be appended to its file."""
    try:
        open_output(path, append=True).close()
    except OSError as error:
        raise UsageError(
            f"--summary: cannot write '{path}': {error.strerror}", hint="Choose a writable path"
        ) from error


@contextmanager
def _failure_summary(path: Path | None) -> Iterator[None]:
    """Append a failure before the first run, such as a wrong setting, to the summary."""
    try:
        yield
    except Exception as error:
        if path is not None:
            failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            _append(path, markdown.summarize_failure(failure))
        raise


def _append(path: Path, summary: str) -> None:
    try:
        with open_output(path, append=True) as file:
            file.write(summary.encode())
    except OSError as error:  # the runs are recorded all the same
        log.warning("Cannot write the summary to '%s': %s", path, error.strerror)
