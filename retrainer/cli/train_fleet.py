"""`train` of several streams."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.algorithms import events
from retrainer.cli.summary import append_summary
from retrainer.errors import RetrainerError, UsageError
from retrainer.fleet import cluster as clusters
from retrainer.fleet import local, run, selection
from retrainer.parallel import remote_project
from retrainer.posts.validation import number
from retrainer.registry import budgets
from retrainer.render import documents, markdown
from retrainer.render import fleet as render
from retrainer.render.events import event_document
from retrainer.runtime import Runtime
from retrainer.streams import is_pattern
from retrainer.times import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.cli.workers import WorkerOptions
    from retrainer.fleet.backend import Backend
    from retrainer.fleet.run import FleetResult, Progress
    from retrainer.fleet.units import WorkerSpec
    from retrainer.live.rollback import Review
    from retrainer.model_types import ModelTypeName
    from retrainer.parallel.cluster import Cluster
    from retrainer.project import Project
    from retrainer.registry.tables import LedgerEntry

NOTHING_PROMOTED = 10
NOTHING_DUE = 11
MAX_NAMES = 3  # of streams in a line
MAX_TESTS = 1_000  # the latest, of which those that ended in the call are reported

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetOptions:
    """The options of `train` that select several streams, and those that concern several streams only."""

    all_streams: bool
    patterns: tuple[str, ...]
    jobs: int | None
    max_failures: int | None
    max_cost: float | None
    workers: WorkerOptions

    @property
    def selects_several(self) -> bool:
        """Whether they select several streams: all, a pattern, or more than one name."""
        return self.all_streams or len(self.patterns) > 1 or any(map(is_pattern, self.patterns))

    def validate(self, *, dry_run: bool, wait: bool, report: bool) -> None:
        """Check that no option of one stream is given with several, or the other way round.

        Raises:
            UsageError: one is.
        """
        of_several = {
            "--backend": self.workers.backend,
            "--jobs": self.jobs,
            "--max-failures": self.max_failures,
            "--max-cost": self.max_cost,
        }
        if self.selects_several:
            for option, given in (("--dry-run", dry_run), ("--wait", wait), ("--report", report)):
                if given:
                    raise UsageError(
                        f"{option} applies to one stream only", hint="Name it with --stream, or omit the option"
                    )
        for option, value in of_several.items():
            if value is not None and not self.selects_several:
                raise UsageError(
                    f"{option} applies to several streams only", hint="Add --all-streams, or omit the option"
                )
        self.workers.validate(self.jobs)


def train_streams(
    project: Project,
    runtime: Runtime,
    options: FleetOptions,
    spec: WorkerSpec,
    model_types: Sequence[ModelTypeName],
    now: datetime,
    *,
    if_due: bool,
) -> FleetResult:
    """Train several streams, and send one notification of it."""
    with options.workers.connect() as cluster:
        return _train_streams(project, runtime, options, spec, model_types, now, cluster, if_due=if_due)


def _train_streams(
    project: Project,
    runtime: Runtime,
    options: FleetOptions,
    spec: WorkerSpec,
    model_types: Sequence[ModelTypeName],
    now: datetime,
    cluster: Cluster[Any] | None,
    *,
    if_due: bool,
) -> FleetResult:
    streams = project.select_streams(options.patterns) or project.list_streams()
    selected = selection.select_units(project, streams, model_types, now, if_due=if_due, as_of=spec.as_of)
    budget = None
    if selection.require_max_cost(project, runtime, selected.runs, spec.algorithm, options.max_cost):
        budget = budgets.SharedBudget.create(project.registry.database, options.max_cost or 0.0, now)
        spec = replace(spec, budget_id=budget.budget_id)
    if selected.runs:
        trained = len({unit.stream for unit in selected.runs})
        log.info("Training %s of %s...", number(len(selected.runs), "model"), number(trained, "stream"))
    backend: Backend = local.LocalProcesses(min(options.jobs or 1, max(len(selected.units), 1)))
    if cluster is not None:
        backend = clusters.ClusterWorkers(cluster)
        spec = replace(spec, settings=remote_project.portable_settings(project))
    started = datetime.now(UTC)
    result = run.run_fleet(
        project,
        runtime,
        spec,
        selected,
        backend,
        max_failures=options.max_failures,
        on_progress=_show_progress,
    )
    reviews = _review(project, result, streams, model_types, now)
    result = replace(result, reviews=reviews, ended_tests=_list_ended_tests(project, streams, started))
    if budget is not None:
        try:
            result = replace(result, spent_usd=budget.limit_and_use()[1])
        except RetrainerError as error:
            log.warning("Cannot read the cost: %s", error)
    if stale := result.stale_streams:
        names = ", ".join(f"'{name}'" for name in stale[:MAX_NAMES]) + (", …" if len(stale) > MAX_NAMES else "")
        log.warning("Posts of %s have stopped arriving: %s", number(len(stale), "stream"), names)
    if result.total or result.reviews or result.ended_tests:
        runtime.events.publish(events.Event("fleet", None, None, render.describe(result), fleet=result))
    return result


def _review(
    project: Project, result: FleetResult, streams: Sequence[str], model_types: Sequence[ModelTypeName], now: datetime
) -> list[Review]:
    """Roll back by evidence, which concerns all streams together; events reach the installed observers."""
    if result.interrupted:
        return []
    try:
        if not any(settings.live.rollback for settings in project.settings.for_streams(streams).values()):
            return []
        from retrainer.live.fleet import review_fleet  # noqa: PLC0415  slow to import

        runtime = Runtime(events=events.EventBus(event_document), answers_dir=project.answers_dir)
        return review_fleet(project, runtime, set(streams), model_types, now)
    except RetrainerError as error:
        log.warning("No rollback by evidence: %s", error)
        return []


def _list_ended_tests(project: Project, streams: Sequence[str], since: datetime) -> list[LedgerEntry]:
    """Return the ledger entries of the A/B tests of some streams that were decided since a time."""
    try:
        entries = project.registry.across(None).list_ledger_entries(actions=("ab_end",), limit=MAX_TESTS)
    except RetrainerError as error:
        log.warning("Cannot list the A/B tests that ended: %s", error)
        return []
    names = set(streams)
    return [entry for entry in entries if entry.automatic and entry.recorded_at >= since and entry.stream in names]


def report(result: FleetResult, code: int, summary: Path | None, *, as_json: bool, exit_code: bool) -> int:
    """Print what came of a fleet run.

    Args:
        code: the exit code, including that of fetching.
        summary: the file to append a Markdown summary to, if any.
        exit_code: whether codes of their own are wanted where nothing was due or promoted.

    Returns:
        The exit code.
    """
    if summary is not None:
        append_summary(summary, markdown.summarize_fleet(result))
    if as_json:
        console.document(documents.runs.FleetDocument.from_result(result))
    else:
        render.show_fleet(result)
    if not exit_code or code:
        return code
    if result.not_due and not result.outcomes:
        return NOTHING_DUE
    return 0 if result.counts["promoted"] else NOTHING_PROMOTED


def _show_progress(progress: Progress) -> None:
    left = format_duration(progress.seconds_left)
    failed = f", {progress.failed} failed" if progress.failed else ""
    rate = f"{progress.per_minute:.0f} a minute"
    console.progress(f"{progress.done} of {number(progress.total, 'run')}{failed}, {rate}, about {left} left")
