"""A fleet run: hand out units, try a lost one again, stop at a limit or on Ctrl-C, and sum up what came of it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter, deque
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from retrainer.errors import DatabaseError, RetrainerError
from retrainer.fleet.units import Outcome, UnitError
from retrainer.parallel.child import NotStarted, WorkerLost
from retrainer.pipeline import recovery
from retrainer.posts.validation import number, quote
from retrainer.registry.runs import INTERRUPTED, RunFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from retrainer.fleet.backend import Backend
    from retrainer.fleet.selection import Selection
    from retrainer.fleet.units import OutcomeKind, Unit, WorkerSpec
    from retrainer.live.rollback import Review
    from retrainer.project import Project
    from retrainer.registry.tables import LedgerEntry, TrainingRun
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

WORKER_LOST = "worker_lost"
INTERRUPTED_CODE = 130
DATABASE_SECONDS = 300.0  # to wait for a database that does not answer, such as one that is restarted
POLL_SECONDS = 0.5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Progress(NamedTuple):
    """The progress of a fleet run.

    Attributes:
        done, failed, total: units.
        per_minute: units.
        seconds_left: an estimate.
    """

    done: int
    failed: int
    total: int
    per_minute: float
    seconds_left: float


@dataclass(frozen=True)
class FleetResult:
    """What came of a fleet run.

    Attributes:
        outcomes: of the units, in the order in which they ended.
        not_started: the units that were not started.
        not_due: the number of models that were not due.
        reviews: the rollbacks by evidence, and what is newly found degraded.
        ended_tests: the ledger entries of the A/B tests that were decided meanwhile.
        stopped: why it stopped before all units were done; None if it did not.
        interrupted: whether it was stopped by Ctrl-C or a signal.
        seconds: how long it took.
        spent_usd: what is used of the budget of paid calls; None without one.
    """

    outcomes: list[Outcome]
    not_started: list[Unit] = field(default_factory=list)
    not_due: int = 0
    reviews: list[Review] = field(default_factory=list)
    ended_tests: list[LedgerEntry] = field(default_factory=list)
    stopped: str | None = None
    interrupted: bool = False
    seconds: float = 0.0
    spent_usd: float | None = None

    @property
    def counts(self) -> Counter[OutcomeKind]:
        """The number of units with each outcome."""
        return Counter(outcome.kind for outcome in self.outcomes)

    @property
    def total(self) -> int:
        """The number of units."""
        return len(self.outcomes) + len(self.not_started)

    @property
    def failures(self) -> list[Outcome]:
        """The units that failed."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    @property
    def stale_streams(self) -> list[str]:
        """The streams whose posts have stopped arriving, which is noticed for the first time."""
        return sorted({outcome.stream for outcome in self.outcomes if outcome.stale is not None})

    @property
    def cost_usd(self) -> float:
        """What the paid calls of the runs cost together, including those of lost workers at their estimates."""
        return self.spent_usd or 0.0

    @property
    def exit_code(self) -> int:
        """130 if it was interrupted, else the smallest code of the failures.

        A unit that another process trains is no failure.
        """
        if self.interrupted:
            return INTERRUPTED_CODE
        codes = {outcome.error.exit_code for outcome in self.outcomes if outcome.error is not None}
        if any(outcome.needs_attention for outcome in self.outcomes):
            codes.add(RetrainerError.exit_code)
        return min(codes, default=RetrainerError.exit_code if self.stopped else 0)


def run_fleet(
    project: Project,
    runtime: Runtime,
    spec: WorkerSpec,
    selection: Selection,
    backend: Backend,
    *,
    max_failures: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> FleetResult:
    """Make the runs of the selected units in the workers of a backend.

    A failure is logged and stops no other unit. A unit whose worker is lost, or whose database connection broke, is
    tried once more; while the database does not answer, no unit is handed out. Ctrl-C stops handing out units and lets
    the running ones end; a second one closes them as failed.

    Args:
        max_failures: hand out no more units after so many have failed.
        on_progress: called after each unit.
    """
    fleet = _Fleet(project, runtime, spec, selection, max_failures, on_progress)
    with fleet.stop_on_signals():
        try:
            with closing(backend.run(spec, fleet.next_unit, fleet.is_stopping)) as results:
                for unit, result in results:
                    fleet.take(unit, result)
        except KeyboardInterrupt:
            fleet.close_running("interrupted")
        except RetrainerError as error:  # of the backend, such as that its scheduler is gone
            fleet.stop(error)
    if fleet.needs_recovery:
        try:
            recovery.recover(project, runtime)
        except RetrainerError as error:  # the next call of `train` does it
            log.warning("Not cleaned up: %s", error)
    return fleet.result()


class _Fleet:
    """The state of a fleet run."""

    def __init__(
        self,
        project: Project,
        runtime: Runtime,
        spec: WorkerSpec,
        selection: Selection,
        max_failures: int | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._project = project
        self._runtime = runtime
        self._as_of = spec.as_of
        self._own_runs = RunFilter(since=datetime.now(UTC))
        if spec.as_of is not None:  # at which its runs start
            self._own_runs = RunFilter(since=spec.as_of, until=spec.as_of + timedelta(microseconds=1))
        self._total = len(selection.runs)
        self._not_due = selection.not_due
        self._waiting = deque(selection.units)
        self._running: list[Unit] = []
        self._outcomes: list[Outcome] = []
        self._failed = 0
        self._max_failures = max_failures
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._interrupted = False
        self._stopped_by: RetrainerError | None = None
        self._database_failed = False
        self.needs_recovery = False

    def next_unit(self) -> Unit | None:
        """Return the next unit; None if there is none, or no more are wanted.

        Raises:
            DatabaseError: a unit failed since the database did not answer, and it still does not.
        """
        if self._database_failed and self._may_go_on:
            self._wait_for_database()
        if not self._may_go_on:
            return None
        unit = self._waiting.popleft()
        self._running.append(unit)
        return unit

    def _wait_for_database(self) -> None:
        """Wait until the database answers, so that no unit uses up its tries meanwhile."""
        deadline, is_logged = time.monotonic() + DATABASE_SECONDS, False
        while not self._interrupted:
            try:
                self._project.registry.database.revision()
            except DatabaseError as error:
                if time.monotonic() >= deadline:
                    raise
                if not is_logged:
                    log.warning("Waiting for the database: %s", error)
                    is_logged = True
                time.sleep(POLL_SECONDS)
            else:
                self._database_failed = False
                return

    @property
    def _may_go_on(self) -> bool:
        return bool(self._waiting) and not self.is_stopping()

    def is_stopping(self) -> bool:
        """Whether no more units are wanted: it was interrupted, or too many have failed."""
        return self._interrupted or (self._max_failures is not None and self._failed >= self._max_failures)

    def take(self, unit: Unit, result: Outcome | WorkerLost | NotStarted) -> None:
        """Take the outcome of a unit, or put one back that was not started, or was lost and is tried once more."""
        self._running.remove(unit)
        if isinstance(result, NotStarted):
            self._waiting.append(unit)
            return
        outcome = self._explain_loss(unit, result) if isinstance(result, WorkerLost) else result
        if outcome.error is not None and outcome.error.code in {WORKER_LOST, DatabaseError.code}:
            self.needs_recovery = True
            self._database_failed |= outcome.error.code == DatabaseError.code
            if not unit.is_retry and not self._interrupted:
                log.warning("%s: %s. Trying again", _name(unit), outcome.error.message)
                self._waiting.append(unit._replace(is_retry=True))
                return
        if unit.only_reviews:
            if outcome.error is not None:
                log.warning("%s was not reviewed: %s", _name(unit), outcome.error)
            return
        if unit.is_retry and outcome.kind == "skipped":
            outcome = self._find_completed(unit) or outcome
        if outcome.kind == "promoted":
            self._update_links(outcome)
        self._add(outcome)
        done, seconds = len(self._outcomes), max(time.monotonic() - self._started, 1e-9)
        left = seconds / done * (self._total - done)
        self._on_progress(Progress(done, self._failed, self._total, 60 * done / seconds, left))

    def _add(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if outcome.error is not None:
            self._failed += 1
            log.error("%s failed: %s", _name(outcome), outcome.error)

    def _update_links(self, outcome: Outcome) -> None:
        """Set the link that a worker could not: it does not share the models folder, or the database had gone."""
        links = self._project.for_stream(outcome.stream).production_links
        if outcome.version_id is not None and links.names(outcome.model_type, outcome.version_id):
            return
        try:
            links.update()
        except RetrainerError as error:
            log.warning("%s: production changed, but its link could not be updated: %s", _name(outcome), error)

    def _explain_loss(self, unit: Unit, lost: WorkerLost) -> Outcome:
        """Close the run of a lost worker; return its outcome if it had ended on its own, else that it was lost."""
        own = self._project.for_stream(unit.stream)
        try:
            recovery.close_dead_runs(own, self._runtime)
            last = next(iter(own.registry.list_runs(unit.model_type, 1, self._own_runs)), None)
            if (
                not unit.only_reviews
                and last is not None
                and last.run_id != unit.last_run_id
                and _has_ended_itself(last, lost)
            ):
                own.production_links.update()  # the worker may not have come to it
                return _ended(unit, last)
        except RetrainerError as problem:
            log.debug("Cannot close a lost run: %s", problem)
        error = UnitError(WORKER_LOST, f"the run was interrupted: {lost.reason}", "", RetrainerError.exit_code)
        return Outcome(unit.stream, unit.model_type, "failed", error=error)

    def _find_completed(self, unit: Unit) -> Outcome | None:
        """Return the outcome of a first try that completed, although its worker could not say so."""
        try:
            registry = self._project.for_stream(unit.stream).registry
            last = registry.get_last_completed_run(unit.model_type, self._as_of)
        except RetrainerError as problem:
            log.debug("Cannot look up the last run: %s", problem)
            return None
        return None if last is None or last.run_id == unit.last_run_id else _ended(unit, last)

    def stop(self, error: RetrainerError) -> None:
        """Stop since the backend cannot go on."""
        self._stopped_by = error
        self.close_running(error.message)

    def close_running(self, reason: str) -> None:
        """Count the units as failed whose workers were interrupted, unless they were still waiting there."""
        self.needs_recovery |= bool(self._running)
        for unit in (unit for unit in self._running if not unit.only_reviews):
            if not self._has_started(unit):
                self._waiting.append(unit)
                continue
            error = UnitError("interrupted", reason, "", RetrainerError.exit_code)
            self._add(Outcome(unit.stream, unit.model_type, "failed", error=error))
        self._running.clear()

    def _has_started(self, unit: Unit) -> bool:
        """Whether there is a run of a unit; as far as is known, there is."""
        try:
            registry = self._project.for_stream(unit.stream).registry
            last = next(iter(registry.list_runs(unit.model_type, 1, self._own_runs)), None)
        except RetrainerError:
            return True
        return last is not None and last.run_id != unit.last_run_id

    @contextmanager
    def stop_on_signals(self) -> Iterator[None]:
        """Stop handing out units at the first signal; raise KeyboardInterrupt at the second."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_number: int, _frame: object) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            with suppress(RuntimeError):  # the signal came while a line was being written
                log.warning("Stopping; runs in progress may finish. Press Ctrl-C again to close them as failed")

        before = {name: signal.getsignal(name) for name in _STOP_SIGNALS}
        for name, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(name, stop)
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def result(self) -> FleetResult:
        stopped = None
        not_started = [unit for unit in self._waiting if not unit.only_reviews]
        left = len(not_started)
        if self._interrupted:
            stopped = f"Interrupted after {len(self._outcomes)} of {number(self._total, 'run')}"
        elif self._stopped_by is not None:
            stopped = f"Stopped after {len(self._outcomes)} of {number(self._total, 'run')}: {self._stopped_by}"
        elif left:
            rest = f"{number(left, 'run')} {'was' if left == 1 else 'were'} not started"
            stopped = f"Stopped after {number(self._failed, 'failure')} (--max-failures); {rest}"
        return FleetResult(
            outcomes=self._outcomes,
            not_started=not_started,
            not_due=self._not_due,
            stopped=stopped,
            interrupted=self._interrupted,
            seconds=time.monotonic() - self._started,
        )


def _name(unit: Unit | Outcome) -> str:
    return f"{unit.model_type} of {quote(unit.stream)}"


def _has_ended_itself(run: TrainingRun, lost: WorkerLost) -> bool:
    """Whether a run was closed by its own process, not because that process was gone or interrupted."""
    if run.status == "completed":
        return True
    interrupted = (run.error or "").startswith((INTERRUPTED, "interrupted"))
    return run.status == "failed" and run.pid == lost.pid and not interrupted


def _ended(unit: Unit, run: TrainingRun) -> Outcome:
    """Return the outcome of a run that was closed before its worker ended, such as one that took too long."""
    if run.status != "completed":
        error = UnitError("failed", run.error or "", "", RetrainerError.exit_code)
        return Outcome(unit.stream, unit.model_type, "failed", run.run_id, error=error)
    return Outcome(
        unit.stream,
        unit.model_type,
        "promoted" if run.promoted_to_production else "not_promoted",
        run_id=run.run_id,
        version_id=run.model_version_id,
        algorithm=run.algorithm,
        score=run.test_overall_score,
        seconds=run.duration_seconds,
        cost_usd=run.cost_usd,
        reason=run.promotion_reason,
    )
