"""The registry of runs. The row of a running run is the lock of its model type."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, select, update

from retrainer.errors import RunInProgress, UnknownName
from retrainer.registry.liveness import ProcessIdentity, current_actor, explain_death
from retrainer.registry.promotions import Change, Decision, recheck
from retrainer.registry.queries import (
    fetch_production,
    fetch_running_run,
    fetch_version,
    new_id,
    set_production,
    version_id_of,
)
from retrainer.registry.tables import LedgerEntry, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.database import Database


@dataclass(frozen=True)
class FinishedRun:
    """How a run was recorded.

    Attributes:
        run: the run, closed.
        change: the change of production; None where the candidate was not promoted.
        race_lost: whether it was not promoted because production had changed since it was compared.
    """

    run: TrainingRun
    change: Change | None
    race_lost: bool


@dataclass(frozen=True)
class RunFilter:
    """Which runs are asked for.

    Attributes:
        since, until: started at or after, and before (UTC).
        status: `running`, `completed` or `failed`.
        promoted: only those whose version was promoted, or only those whose was not.
        offset: how many of the newest to pass over.
    """

    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None
    promoted: bool | None = None
    offset: int = 0

    def apply(self, query: Select[Any], model_type: ModelTypeName | None) -> Select[Any]:
        """Return the query with its conditions."""
        if model_type is not None:
            query = query.where(TrainingRun.model_type == model_type)
        if self.since is not None:
            query = query.where(TrainingRun.started_at >= self.since)
        if self.until is not None:
            query = query.where(TrainingRun.started_at < self.until)
        if self.status is not None:
            query = query.where(TrainingRun.status == self.status)
        if self.promoted is not None:
            query = query.where(TrainingRun.promoted_to_production.is_(self.promoted))
        return query


class Runs:
    """What is remembered of runs."""

    database: Database

    def start_run(
        self, model_type: ModelTypeName, algorithm: str, now: datetime, as_of: datetime | None
    ) -> TrainingRun:
        """Begin a run; its row is the lock of its model type. A run whose process is gone is closed first.

        Raises:
            RunInProgress: another run of this type is going on.
        """
        with self.database.write() as session:
            return _start_run(session, model_type, algorithm, now, as_of)

    def start_runs(self, algorithms: Mapping[ModelTypeName, str], now: datetime) -> list[TrainingRun]:
        """Begin a run of each type on behalf of processes that are yet to start: all of them, or none.

        Until `hand_over`, the runs are this process's own, and are closed like any other if it dies.

        Args:
            algorithms: which algorithm to train, by model type.
            now: when the runs begin.

        Raises:
            RunInProgress: another run of one of the types is going on.
        """
        with self.database.write() as session:
            return [_start_run(session, model_type, name, now, None) for model_type, name in algorithms.items()]

    def hand_over_run(self, run_id: str, process: ProcessIdentity) -> None:
        """Make an open run that of another process, unless it is closed by now."""
        query = update(TrainingRun).where(TrainingRun.run_id == run_id, TrainingRun.status == "running")
        with self.database.write() as session:
            session.execute(query.values(**_owner_columns(process)))

    def take_over_run(self, run_id: str) -> TrainingRun:
        """Make a run one's own that the parent process opened for this one.

        Raises:
            UnknownName: there is no such run.
            RunInProgress: it was closed meanwhile, or belongs to another process.
        """
        self.get_run(run_id)
        me = ProcessIdentity.current()
        with self.database.write() as session:
            run = fetch_running_run(session, run_id)
            if run.host != me.host or run.pid not in {me.pid, os.getppid()}:
                raise RunInProgress(f"the run '{run_id}' is that of process {run.pid} on '{run.host}'")
            for column, value in _owner_columns(me).items():
                setattr(run, column, value)
        return run

    def record_heartbeat(self, run_id: str) -> None:
        """Say that the run's process still lives."""
        query = update(TrainingRun).where(TrainingRun.run_id == run_id, TrainingRun.status == "running")
        with self.database.write() as session:
            session.execute(query.values(heartbeat_at=datetime.now(UTC)))

    def record_spending(self, run_id: str, *, tokens: int, cost_usd: float, refusals: int) -> None:
        """Record what the paid calls of a run took so far."""
        query = update(TrainingRun).where(TrainingRun.run_id == run_id)
        with self.database.write() as session:
            session.execute(query.values(tokens=tokens, cost_usd=cost_usd, refusals=refusals))

    def fail_run(self, run_id: str, error: str, now: datetime) -> TrainingRun:
        """Close a run as failed; one that was closed already stays as it was."""
        with self.database.write() as session:
            run = session.get_one(TrainingRun, run_id)
            if run.status == "running":
                close(run, "failed", now)
                run.error = error
        return run

    def complete_run(self, run_id: str, decision: Decision, now: datetime, *, automatic: bool = True) -> FinishedRun:
        """Close a run and carry its decision out, in one transaction.

        What the decision rests on is looked at again inside it: the type must not be on hold, and production must
        still be what the candidate was compared with. If not, the candidate is not promoted, and the reason says so.

        Raises:
            RunInProgress: the run was closed by another process that took this one for dead.
        """
        with self.database.write() as session:
            run = fetch_running_run(session, run_id)
            model_type = run.model_type_name
            version = fetch_version(session, run.model_version_id or "")
            production = fetch_production(session, model_type)
            final = recheck(session, model_type, production, decision)
            change = None
            if final.promote:
                set_production(session, version, production)
                change = Change(model_type, version_id_of(production), version.version_id, final.reason)
            close(run, "completed", now)
            run.compared_with = final.expected_production
            run.production_score = final.production_score
            run.improvement_percentage = final.improvement_percentage
            run.promoted_to_production = final.promote
            run.promotion_reason = final.reason
            session.add(
                LedgerEntry(
                    at=now,
                    recorded_at=datetime.now(UTC),
                    model_type=model_type,
                    action="promotion" if final.promote else "rejection",
                    version_id=version.version_id,
                    from_version_id=version_id_of(production),
                    to_version_id=version.version_id if final.promote else version_id_of(production),
                    actor=current_actor(),
                    automatic=automatic,
                    reason=final.reason,
                    run_id=run_id,
                    evidence=final.evidence,
                )
            )
        race_lost = decision.promote and version_id_of(production) != decision.expected_production
        return FinishedRun(run, change, race_lost)

    def record_split(self, run_id: str, training: int, test: int) -> None:
        """Record how many posts a run trains on and tests with."""
        with self.database.write() as session:
            run = fetch_running_run(session, run_id)
            run.num_training_samples, run.num_test_samples = training, test

    def get_run(self, run_id: str) -> TrainingRun:
        """Return one run.

        Raises:
            UnknownName: there is none of this id.
        """
        with self.database.read() as session:
            run = session.get(TrainingRun, run_id) if "\0" not in run_id else None
        if run is None:
            raise UnknownName(f"unknown run '{run_id}'", hint="`retrainer history` lists the runs")
        return run

    def list_runs(
        self, model_type: ModelTypeName | None = None, limit: int | None = None, run_filter: RunFilter = RunFilter()
    ) -> list[TrainingRun]:
        """Return runs, the newest first."""
        query = select(TrainingRun).order_by(TrainingRun.started_at.desc(), TrainingRun.run_id.desc())
        query = run_filter.apply(query, model_type).limit(limit).offset(run_filter.offset)
        with self.database.read() as session:
            return list(session.scalars(query))

    def get_last_completed_run(self, model_type: ModelTypeName) -> TrainingRun | None:
        """Return the latest run of a type that came to its end, runs of a past moment left out; None without one."""
        query = (
            select(TrainingRun)
            .where(TrainingRun.model_type == model_type, TrainingRun.status == "completed", TrainingRun.as_of.is_(None))
            .order_by(TrainingRun.started_at.desc(), TrainingRun.run_id.desc())
        )
        with self.database.read() as session:
            return session.scalars(query).first()

    def count_runs(self, model_type: ModelTypeName | None = None, run_filter: RunFilter = RunFilter()) -> int:
        """Return how many runs there are, whatever the offset."""
        query = run_filter.apply(select(func.count()).select_from(TrainingRun), model_type)
        with self.database.read() as session:
            return session.scalar(query) or 0

    def list_running_runs(self) -> list[TrainingRun]:
        """Return the runs that are going on, or were when their process died."""
        with self.database.read() as session:
            return list(session.scalars(select(TrainingRun).where(TrainingRun.status == "running")))

    def find_dead_runs(self) -> list[tuple[TrainingRun, str]]:
        """Return the runs that are recorded as running although their process is gone, and how that is known."""
        clock = datetime.now(UTC)
        return [(run, reason) for run in self.list_running_runs() if (reason := _explain_death(run, clock))]

    def close_dead_runs(self) -> list[TrainingRun]:
        """Close as failed every run whose process is gone; return them."""
        if not self.find_dead_runs():
            return []
        clock = datetime.now(UTC)
        with self.database.write() as session:
            found = session.scalars(select(TrainingRun).where(TrainingRun.status == "running")).all()
            return [run for run in found if _close_if_dead(run, clock)]

    def call_while_idle(self, model_type: ModelTypeName, action: Callable[[], None]) -> None:
        """Do something to a type's files while no run of it is going on and none can begin."""
        query = select(TrainingRun.run_id).where(TrainingRun.model_type == model_type, TrainingRun.status == "running")
        with self.database.write() as session:
            if session.scalars(query).first() is None:
                action()


def _start_run(
    session: Session, model_type: ModelTypeName, algorithm: str, now: datetime, as_of: datetime | None
) -> TrainingRun:
    _require_no_other_run(session, model_type, datetime.now(UTC))
    run = TrainingRun(
        run_id=new_id(session, TrainingRun, "run", now),
        model_type=model_type,
        algorithm=algorithm,
        status="running",
        started_at=now,
        as_of=as_of,
        promoted_to_production=False,
        **_owner_columns(ProcessIdentity.current()),
    )
    session.add(run)
    session.flush()
    return run


def _owner_columns(process: ProcessIdentity) -> dict[str, Any]:
    """Return the columns that say whose a run is, as of now."""
    return {
        "host": process.host,
        "pid": process.pid,
        "boot_id": process.boot_id,
        "process_started_at": process.started_at,
        "heartbeat_at": datetime.now(UTC),
    }


def _require_no_other_run(session: Session, model_type: ModelTypeName, clock: datetime) -> None:
    query = select(TrainingRun).where(TrainingRun.model_type == model_type, TrainingRun.status == "running")
    for run in session.scalars(query):
        if not _close_if_dead(run, clock):
            raise RunInProgress(
                f"another {model_type} run is in progress since {run.started_at:%Y-%m-%d %H:%M:%S} UTC "
                f"on '{run.host}' (process {run.pid})",
                hint="Wait for it to end (--wait SECONDS), or stop that process",
            )
        session.flush()


def close(run: TrainingRun, status: str, now: datetime) -> None:
    run.status = status
    run.completed_at = max(now, run.started_at)
    run.duration_seconds = (run.completed_at - run.started_at).total_seconds()


def _explain_death(run: TrainingRun, clock: datetime) -> str | None:
    identity = ProcessIdentity(run.host, run.pid, run.boot_id, run.process_started_at)
    return explain_death(identity, run.heartbeat_at, clock)


def _close_if_dead(run: TrainingRun, clock: datetime) -> bool:
    reason = _explain_death(run, clock)
    if reason is None:
        return False
    close(run, "failed", run.heartbeat_at)
    if run.as_of is not None:  # it counted from another moment than the heartbeats
        run.completed_at, run.duration_seconds = run.started_at, None
    run.error = f"The run was cut off: {reason}"
    return True
