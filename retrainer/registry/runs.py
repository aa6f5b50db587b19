"""The registry's runs. The row of a running run is the lock of its model type."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Select, case, func, select, update

from retrainer.errors import RunInProgress, UnknownName
from retrainer.registry.ledger import new_entry, record_entry
from retrainer.registry.liveness import ProcessIdentity, explain_death
from retrainer.registry.promotions import Change, Decision, add_refit, recheck
from retrainer.registry.queries import (
    fetch_own_run,
    fetch_run_and_versions,
    fetch_running_run,
    is_of,
    new_id,
    set_production,
    update_running_run,
    version_id_of,
)
from retrainer.registry.scope import Scope
from retrainer.registry.tables import TrainingRun
from retrainer.streams import DEFAULT_STREAM, ModelKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.refits import NewRefit


INTERRUPTED = "The run was interrupted"
ANY_RUN = "any"  # the last completed run of a model may be whatever it is


@dataclass(frozen=True)
class FinishedRun:
    """The outcome of a run, as recorded.

    Attributes:
        run: the closed run.
        change: the change of production; None if the candidate was not promoted.
        race_lost: whether it was not promoted because production changed after the comparison.
    """

    run: TrainingRun
    change: Change | None
    race_lost: bool


class Spending(NamedTuple):
    """What the paid calls of a run have used.

    Attributes:
        refusals: answers in which the model refused.
    """

    tokens: int
    cost_usd: float
    refusals: int


@dataclass(frozen=True)
class RunTotal:
    """The runs of a model type with one outcome: `promoted`, `not_promoted` or `failed`.

    Attributes:
        seconds: how long they took together.
        cost_usd: what their paid calls cost together.
    """

    model_type: str
    outcome: str
    count: int
    seconds: float
    cost_usd: float


@dataclass(frozen=True)
class RunFilter:
    """A selection of runs.

    Attributes:
        since, until: started at or after `since`, and before `until` (UTC).
        status: `running`, `completed` or `failed`.
        promoted: only those whose version was promoted, or only those whose was not.
        offset: how many of the newest to skip.
    """

    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None
    promoted: bool | None = None
    offset: int = 0

    def apply(self, query: Select[Any], model_type: ModelTypeName | None, dead: Sequence[str] = ()) -> Select[Any]:
        """Return the query with its conditions.

        Args:
            dead: the ids of the runs that count as failed although they are recorded as running.
        """
        if model_type is not None:
            query = query.where(TrainingRun.model_type == model_type)
        if self.since is not None:
            query = query.where(TrainingRun.started_at >= self.since)
        if self.until is not None:
            query = query.where(TrainingRun.started_at < self.until)
        if self.status is not None:
            status = case((TrainingRun.run_id.in_(dead), "failed"), else_=TrainingRun.status)
            query = query.where((status if dead else TrainingRun.status) == self.status)
        if self.promoted is not None:
            query = query.where(TrainingRun.promoted_to_production.is_(self.promoted))
        return query


class Runs(Scope):
    """The part of the registry about runs."""

    def start_run(
        self,
        model_type: ModelTypeName,
        algorithm: str,
        now: datetime,
        as_of: datetime | None,
        *,
        last_run_id: str | None = ANY_RUN,
        durable: bool = True,
    ) -> TrainingRun:
        """Start a run. A run of this type whose process is dead is closed first.

        Args:
            last_run_id: what the last completed run for the same past time, if any, must be; None for none.
            durable: whether PostgreSQL keeps the start of the run if it crashes before the next commit that is kept. If
                it does not, the run can record nothing any more.

        Raises:
            RunInProgress: another run of this type is in progress, or has completed meanwhile.
        """
        (run,) = self.start_runs({model_type: algorithm}, now, as_of, last_run_id=last_run_id, durable=durable)
        return run

    def start_runs(
        self,
        algorithms: Mapping[ModelTypeName, str],
        now: datetime,
        as_of: datetime | None = None,
        *,
        last_run_id: str | None = ANY_RUN,
        durable: bool = True,
    ) -> list[TrainingRun]:
        """Start a run of each type: all of them, or none.

        Until `hand_over_run`, the runs belong to this process and are closed like any other if it dies.

        Args:
            algorithms: the algorithm to train, by model type.
            now: the start of the runs.
            as_of: the past time that the runs are for, if any.
            last_run_id: what the last completed run for the same past time, if any, must be; None for none.
            durable: see `start_run`.

        Raises:
            RunInProgress: another run of one of the types is in progress, or has completed meanwhile.
        """
        owner = _owner_columns(ProcessIdentity.current())
        runs = []
        with self.database.write(durable=durable) as session:
            for model_type, algorithm in algorithms.items():
                key = self.key(model_type)
                require_no_run(session, key, hint="Wait for it to end (--wait SECONDS), or stop that process")
                if last_run_id != ANY_RUN:
                    _require_last(session, key, last_run_id, as_of)
                run = TrainingRun(
                    run_id=new_id(session, TrainingRun, "run", now, self.id_digits),
                    stream=key.stream,
                    model_type=model_type,
                    algorithm=algorithm,
                    status="running",
                    started_at=now,
                    as_of=as_of,
                    promoted_to_production=False,
                    project_folder=str(self.database.project_folder),
                    **owner,
                )
                session.add(run)
                session.flush()
                runs.append(run)
        return runs

    def hand_over_run(self, run_id: str, process: ProcessIdentity) -> None:
        """Assign a run to another process, unless it is closed by now."""
        self._update_running(run_id, **_owner_columns(process))

    def take_over_run(self, run_id: str) -> TrainingRun:
        """Assign a run that the parent process started to this process.

        Raises:
            UnknownName: there is no such run.
            RunInProgress: it was closed, or belongs to another process.
        """
        self.get_run(run_id)
        process = ProcessIdentity.current()
        with self.database.write() as session:
            run = fetch_running_run(session, run_id)
            if run.host != process.host or run.pid not in {process.pid, os.getppid()}:
                raise RunInProgress(f"the run '{run_id}' belongs to process {run.pid} on '{run.host}'")
            for column, value in _owner_columns(process).items():
                setattr(run, column, value)
        return run

    def record_heartbeat(self, run_id: str) -> None:
        """Record that the run's process is alive."""
        self._update_running(run_id, **_heartbeat())

    def _update_running(self, run_id: str, **values: Any) -> None:
        query = update(TrainingRun).where(TrainingRun.run_id == run_id, TrainingRun.status == "running")
        with self.database.write(durable=False) as session:
            session.execute(query.values(**values))

    def record_split(self, run_id: str, training: int, test: int) -> None:
        """Record the numbers of training and test posts."""
        with self.database.write(durable=False) as session:
            update_running_run(session, run_id, num_training_samples=training, num_test_samples=test)

    def record_spending(self, run_id: str, spending: Spending) -> None:
        """Record what the paid calls of a run have used so far."""
        query = update(TrainingRun).where(TrainingRun.run_id == run_id)
        with self.database.write(durable=False) as session:
            session.execute(query.values(spending._asdict()))

    def fail_run(self, run_id: str, error: str, now: datetime) -> TrainingRun:
        """Close a run as failed, unless it is closed already."""
        with self.database.write() as session:
            run = fetch_own_run(session, run_id)
            if run.status == "running":
                _close(run, "failed", now)
                run.error = error
        return run

    def complete_run(
        self,
        run_id: str,
        decision: Decision,
        now: datetime,
        new_refit: NewRefit | None,
        spending: Spending | None,
    ) -> FinishedRun:
        """Close a run and carry out its decision, in one transaction.

        Args:
            spending: what its paid calls have used, if that is not recorded yet.

        The candidate is promoted only if, inside the transaction, the type is not on hold, no A/B test is running, and
        production is still the version it was compared with. Otherwise the recorded reason says why not, and its live
        fit is not recorded.

        Raises:
            RunInProgress: another process took this one for dead and closed the run.
        """
        with self.database.write() as session:
            run, version, production = fetch_run_and_versions(session, run_id)
            key = run.model_key
            live_id = version_id_of(production)
            final = recheck(session, key, production, decision)
            change = None
            if final.promote:
                if new_refit is not None:
                    session.add_all(new_refit.files)
                    final = replace(final, reason=add_refit(final.reason, new_refit))
                set_production(session, version, production, new_refit.refit if new_refit else None)
                change = Change(key.model_type, live_id, version.version_id, final.reason, key.stream)
            _close(run, "completed", now)
            if spending is not None:
                run.tokens, run.cost_usd, run.refusals = spending
            run.compared_with = final.expected_production
            run.production_score = final.production_score
            run.improvement_percentage = final.improvement_percentage
            run.promoted_to_production = final.promote
            run.promotion_reason = final.reason
            entry = new_entry(
                "promotion" if final.promote else "rejection",
                key,
                final.reason,
                now,
                version_id=version.version_id,
                from_version_id=live_id,
                to_version_id=version.version_id if final.promote else live_id,
                automatic=True,
                run_id=run_id,
                evidence=final.evidence,
                refit=version.refit if final.promote else None,
            )
            session.add(entry)
        return FinishedRun(run, change, race_lost=decision.promote and live_id != decision.expected_production)

    def get_run(self, run_id: str) -> TrainingRun:
        """Return a run. One whose process is dead is returned as `close_dead_runs` would close it.

        Raises:
            UnknownName: there is no run with this id.
        """
        with self.database.read() as session:
            run = session.get(TrainingRun, run_id) if "\0" not in run_id else None
        if run is None:
            raise UnknownName(f"unknown run '{run_id}'", hint="`retrainer history` lists the runs")
        _close_if_dead(run, datetime.now(UTC))
        return run

    def list_runs(
        self, model_type: ModelTypeName | None = None, limit: int | None = None, run_filter: RunFilter = RunFilter()
    ) -> list[TrainingRun]:
        """Return runs, newest first. One whose process is dead is returned as `close_dead_runs` would close it."""
        dead = self._list_dead_run_ids(run_filter)
        query = (
            run_filter.apply(_NEWEST_FIRST, model_type, dead)
            .where(self.is_within(TrainingRun))
            .limit(limit)
            .offset(run_filter.offset)
        )
        with self.database.read() as session:
            runs = list(session.scalars(query))
        clock = datetime.now(UTC)
        for run in runs:
            _close_if_dead(run, clock)
        return runs

    def count_runs(self, model_type: ModelTypeName | None = None, run_filter: RunFilter = RunFilter()) -> int:
        """Return the number of runs, regardless of the offset."""
        dead = self._list_dead_run_ids(run_filter)
        query = run_filter.apply(select(func.count()).select_from(TrainingRun), model_type, dead)
        query = query.where(self.is_within(TrainingRun))
        with self.database.read() as session:
            return session.scalar(query) or 0

    def _list_dead_run_ids(self, run_filter: RunFilter) -> list[str]:
        """Return the ids of the runs whose recorded status a filter must not rely on."""
        return [run.run_id for run, _ in self.find_dead_runs()] if run_filter.status in {"running", "failed"} else []

    def get_last_run(self, model_type: ModelTypeName) -> TrainingRun | None:
        """Return the latest run of a type, if any; runs for a past time (`--as-of`) do not count.

        One whose process is dead is returned as `close_dead_runs` would close it.
        """
        query = _NEWEST_FIRST.where(TrainingRun.model_type == model_type, TrainingRun.as_of.is_(None))
        query = query.where(self.is_within(TrainingRun)).limit(1)
        with self.database.read() as session:
            run = session.scalars(query).first()
        if run is not None:
            _close_if_dead(run, datetime.now(UTC))
        return run

    def get_last_completed_run(self, model_type: ModelTypeName, as_of: datetime | None = None) -> TrainingRun | None:
        """Return the latest completed run of a type, if any; of the runs for a past time (`--as-of`), if one is given.

        Other runs for a past time do not count.
        """
        with self.database.read() as session:
            run: TrainingRun | None = session.scalars(_last_completed(self.key(model_type), as_of)).first()
        return run

    def total_runs(self) -> list[RunTotal]:
        """Return the totals of all runs that have ended."""
        outcome = case(
            (TrainingRun.status == "failed", "failed"),
            (TrainingRun.promoted_to_production.is_(True), "promoted"),
            else_="not_promoted",
        )
        totals = (func.count(), func.sum(TrainingRun.duration_seconds), func.sum(TrainingRun.cost_usd))
        query = select(TrainingRun.model_type, outcome, *totals).where(TrainingRun.status != "running")
        query = query.where(self.is_within(TrainingRun))
        with self.database.read() as session:
            rows = session.execute(query.group_by(TrainingRun.model_type, outcome)).all()
        return [RunTotal(name, how, count, seconds or 0.0, cost or 0.0) for name, how, count, seconds, cost in rows]

    def list_running_runs(self) -> list[TrainingRun]:
        """Return the runs in progress, including those whose process died."""
        with self.database.read() as session:
            return list(session.scalars(_RUNNING.where(self.is_within(TrainingRun))))

    def find_dead_runs(self) -> list[tuple[TrainingRun, str]]:
        """Return the runs of any stream recorded as running whose process is dead, each with how that is known."""
        clock = datetime.now(UTC)
        with self.database.read() as session:
            running = session.scalars(_RUNNING).all()
        return [(run, reason) for run in running if (reason := _explain_death(run, clock))]

    def close_dead_runs(self) -> list[TrainingRun]:
        """Close every run of any stream whose process is dead as failed; return them."""
        if not self.find_dead_runs():
            return []
        clock = datetime.now(UTC)
        with self.database.write() as session:
            return [run for run in session.scalars(_RUNNING).all() if _close_if_dead(run, clock)]

    def record_while_idle(self, model_type: ModelTypeName, action: str, work: Callable[[], str | None]) -> bool:
        """Call a function while no run of a type is in progress in any stream, and none can start; record its result.

        Args:
            model_type: the type.
            action: the action of the ledger entry, which is of the stream `default`.
            work: what to do; it returns the reason of the ledger entry, or None if nothing was done.

        Returns:
            False if a run of the type is in progress; nothing is done then.
        """
        with self.database.write() as session:
            if session.scalars(_RUNNING.where(TrainingRun.model_type == model_type)).first() is not None:
                return False
            reason = work()
            if reason is not None:
                key = ModelKey(DEFAULT_STREAM, model_type)
                record_entry(session, action, key, reason, datetime.now(UTC), automatic=True)
            return True


def _last_completed(key: ModelKey, as_of: datetime | None) -> Select[Any]:
    query = _NEWEST_FIRST.where(is_of(TrainingRun, key), TrainingRun.status == "completed")
    return query.where(TrainingRun.as_of == as_of).limit(1)


def _require_last(session: Session, key: ModelKey, last_run_id: str | None, as_of: datetime | None) -> None:
    last = session.scalar(_last_completed(key, as_of).with_only_columns(TrainingRun.run_id))
    if last not in {None, last_run_id}:
        raise RunInProgress(f"another process has just retrained the {key.model_type} model in '{last}'")


_RUNNING = select(TrainingRun).where(TrainingRun.status == "running")
_NEWEST_FIRST = select(TrainingRun).order_by(TrainingRun.started_at.desc(), TrainingRun.run_id.desc())


def _owner_columns(process: ProcessIdentity) -> dict[str, Any]:
    return {
        "host": process.host,
        "pid": process.pid,
        "boot_id": process.boot_id,
        "process_started_at": process.started_at,
        **_heartbeat(),
    }


def _heartbeat() -> dict[str, Any]:
    return {"heartbeat_at": datetime.now(UTC), "heartbeat_monotonic": time.monotonic()}


def require_no_run(session: Session, key: ModelKey | None, *, hint: str) -> None:
    """Close a run of a model, or of any, whose process is dead.

    Raises:
        RunInProgress: a run of this model is in progress.
    """
    for run in session.scalars(_RUNNING if key is None else _RUNNING.where(is_of(TrainingRun, key))):
        if not _close_if_dead(run, datetime.now(UTC)):
            raise RunInProgress(
                f"another {run.model_type} run is in progress since {run.started_at:%Y-%m-%d %H:%M:%S} UTC "
                f"on '{run.host}' (process {run.pid})",
                hint=hint,
            )
        session.flush()


def _close(run: TrainingRun, status: str, now: datetime) -> None:
    run.status = status
    run.completed_at = max(now, run.started_at)
    run.duration_seconds = (run.completed_at - run.started_at).total_seconds()


def _explain_death(run: TrainingRun, clock: datetime) -> str | None:
    return explain_death(run.process, run.heartbeat_at, run.heartbeat_monotonic, clock)


def _close_if_dead(run: TrainingRun, clock: datetime) -> bool:
    """Close a run that is recorded as running, if its process is dead; return whether it was."""
    reason = _explain_death(run, clock) if run.status == "running" else None
    if reason is None:
        return False
    close_interrupted(run, reason, run.heartbeat_at)
    return True


def close_interrupted(run: TrainingRun, reason: str, at: datetime) -> None:
    """Close a run as failed that was interrupted at some time."""
    _close(run, "failed", at)
    if run.as_of is not None:  # it counted from another time than the clock
        run.completed_at, run.duration_seconds = run.started_at, None
    run.error = f"{INTERRUPTED}: {reason}"
