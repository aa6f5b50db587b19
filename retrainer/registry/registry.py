"""Every question to the database about versions, and every change of state as one transaction.

`now` is the moment that a change counts from; the clock is read only for heartbeats and for `recorded_at`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from retrainer.errors import (
    NothingToRollBack,
    ProductionChanged,
    PromotionRefused,
    RunInProgress,
    UnknownName,
)
from retrainer.registry.process import ProcessIdentity, actor, why_gone
from retrainer.registry.tables import (
    Hold,
    LedgerEntry,
    ModelEvaluation,
    ModelVersion,
    TrainingRun,
    VersionFile,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.database import Database


@dataclass(frozen=True)
class Decision:
    """What to do with a candidate, and why.

    Attributes:
        promote: whether it goes live.
        reason: one sentence with the figures.
        expected_production: the version it was compared with; production must still be that one.
        production_score: that version's score on the same posts.
        improvement_percentage: by how much the candidate is better; None where nothing could be compared.
        evidence: the figures behind the reason.
    """

    promote: bool
    reason: str
    expected_production: str | None
    production_score: float | None = None
    improvement_percentage: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A change of production that was made.

    Attributes:
        from_version: production before; None where there was none.
        to_version: production now.
        reason: why.
    """

    model_type: ModelTypeName
    from_version: str | None
    to_version: str
    reason: str


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


class Registry:
    """What is remembered."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Versions ---------------------------------------------------------------------------------------------------

    def production(self, model_type: ModelTypeName) -> ModelVersion | None:
        """Return the version that is live; None where there is none yet."""
        with self.database.read() as session:
            return _production(session, model_type)

    def version(self, version_id: str) -> ModelVersion:
        """Return one version.

        Raises:
            UnknownName: there is none of this id.
        """
        with self.database.read() as session:
            return _version(session, version_id)

    def versions(self, model_type: ModelTypeName | None = None, limit: int | None = None) -> list[ModelVersion]:
        """Return versions, the newest first."""
        query = select(ModelVersion).order_by(ModelVersion.trained_at.desc(), ModelVersion.version_id.desc())
        if model_type is not None:
            query = query.where(ModelVersion.model_type == model_type)
        with self.database.read() as session:
            return list(session.scalars(query.limit(limit)))

    def register_version(self, version: ModelVersion, files: Iterable[VersionFile], run_id: str) -> None:
        """Record a trained version with its files, and that the run made it."""
        with self.database.write() as session:
            session.add(version)
            session.flush()
            session.add_all(files)
            _running(session, run_id).model_version_id = version.version_id

    def mark_evaluation_failed(self, version_id: str) -> None:
        """Record that a new version could not be evaluated: it cannot go live until an evaluation succeeds."""
        self._move(version_id, "trained", "failed")

    def mark_evaluation_succeeded(self, version_id: str) -> None:
        """Record that a version which once could not be evaluated now was."""
        self._move(version_id, "failed", "trained")

    def _move(self, version_id: str, status: str, to: str) -> None:
        with self.database.write() as session:
            session.execute(
                update(ModelVersion)
                .where(ModelVersion.version_id == version_id, ModelVersion.status == status)
                .values(status=to)
            )

    def files(self, version_id: str, paths: Sequence[str] | None = None) -> list[VersionFile]:
        """Return what the database holds of a version's files, without their bytes."""
        query = select(VersionFile).where(VersionFile.version_id == version_id).order_by(VersionFile.path)
        if paths is not None:
            query = query.where(VersionFile.path.in_(paths))
        with self.database.read() as session:
            return list(session.scalars(query))

    def file_data(self, version_id: str, path: str) -> bytes | None:
        """Return the bytes of one of a version's files; None where the database does not hold them."""
        query = select(VersionFile.data).where(VersionFile.version_id == version_id, VersionFile.path == path)
        with self.database.read() as session:
            return session.scalars(query).first()

    # Runs -------------------------------------------------------------------------------------------------------

    def start_run(
        self, model_type: ModelTypeName, algorithm: str, now: datetime, as_of: datetime | None
    ) -> TrainingRun:
        """Begin a run; its row is the lock of its model type. A run whose process is gone is closed first.

        Raises:
            RunInProgress: another run of this type is going on.
        """
        clock = datetime.now(UTC)
        me = ProcessIdentity.current()
        with self.database.write() as session:
            self._close_dead_runs(session, model_type, clock)
            run = TrainingRun(
                run_id=_fresh_id(session, TrainingRun, "run", now),
                model_type=model_type,
                algorithm=algorithm,
                status="running",
                started_at=now,
                as_of=as_of,
                promoted_to_production=False,
                host=me.host,
                pid=me.pid,
                boot_id=me.boot_id,
                process_started_at=me.started_at,
                heartbeat_at=clock,
            )
            session.add(run)
        return run

    def beat(self, run_id: str) -> None:
        """Say that the run's process still lives."""
        query = update(TrainingRun).where(TrainingRun.run_id == run_id, TrainingRun.status == "running")
        with self.database.write() as session:
            session.execute(query.values(heartbeat_at=datetime.now(UTC)))

    def fail_run(self, run_id: str, error: str, now: datetime) -> TrainingRun:
        """Close a run as failed; one that was closed already stays as it was."""
        with self.database.write() as session:
            run = session.get_one(TrainingRun, run_id)
            if run.status == "running":
                _close(run, "failed", now)
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
            run = _running(session, run_id)
            model_type = _type_of(run)
            version = _version(session, run.model_version_id or "")
            production = _production(session, model_type)
            final = _recheck(session, model_type, production, decision)
            change = None
            if final.promote:
                _go_live(session, version, production, now)
                change = Change(model_type, _id(production), version.version_id, final.reason)
            _close(run, "completed", now)
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
                    from_version_id=_id(production),
                    to_version_id=version.version_id if final.promote else _id(production),
                    actor=actor(),
                    automatic=automatic,
                    reason=final.reason,
                    run_id=run_id,
                    evidence=final.evidence,
                )
            )
        race_lost = decision.promote and _id(production) != decision.expected_production
        return FinishedRun(run, change, race_lost)

    def note_split(self, run_id: str, training: int, test: int) -> None:
        """Record how many posts a run trains on and tests with."""
        with self.database.write() as session:
            run = _running(session, run_id)
            run.num_training_samples, run.num_test_samples = training, test

    def run(self, run_id: str) -> TrainingRun:
        """Return one run.

        Raises:
            UnknownName: there is none of this id.
        """
        with self.database.read() as session:
            run = session.get(TrainingRun, run_id)
        if run is None:
            raise UnknownName(f"unknown run '{run_id}'", hint="`retrainer history` lists the runs")
        return run

    def runs(self, model_type: ModelTypeName | None = None, limit: int | None = None) -> list[TrainingRun]:
        """Return runs, the newest first."""
        query = select(TrainingRun).order_by(TrainingRun.started_at.desc(), TrainingRun.run_id.desc())
        if model_type is not None:
            query = query.where(TrainingRun.model_type == model_type)
        with self.database.read() as session:
            return list(session.scalars(query.limit(limit)))

    def _close_dead_runs(self, session: Session, model_type: ModelTypeName, clock: datetime) -> None:
        query = select(TrainingRun).where(TrainingRun.model_type == model_type, TrainingRun.status == "running")
        for run in session.scalars(query):
            identity = ProcessIdentity(run.host, run.pid, run.boot_id, run.process_started_at)
            reason = why_gone(identity, run.heartbeat_at, clock)
            if reason is None:
                raise RunInProgress(
                    f"another {model_type} run is in progress since {run.started_at:%Y-%m-%d %H:%M:%S} UTC "
                    f"on '{run.host}' (process {run.pid})",
                    hint="Wait for it to end, or stop that process",
                )
            _close(run, "failed", run.heartbeat_at)
            run.error = f"The run was cut off: {reason}"
            session.flush()

    # Evaluations ------------------------------------------------------------------------------------------------

    def record_evaluation(self, evaluation: ModelEvaluation, forecasts: VersionFile) -> None:
        """Record an evaluation with its forecasts file, and in its run the figures of the candidate."""
        with self.database.write() as session:
            session.add(evaluation)
            session.add(forecasts)
            if evaluation.run_id is None:
                return
            run = session.get_one(TrainingRun, evaluation.run_id)
            if run.model_version_id == evaluation.model_version_id:
                run.test_mae_hours = evaluation.mae_hours
                run.test_within_6h_accuracy = evaluation.within_6h_accuracy
                run.test_overall_score = evaluation.overall_score

    def evaluations(self, version_id: str, run_id: str | None = None) -> list[ModelEvaluation]:
        """Return a version's evaluations, the newest first; with a run, only those made in it."""
        query = select(ModelEvaluation).where(ModelEvaluation.model_version_id == version_id)
        if run_id is not None:
            query = query.where(ModelEvaluation.run_id == run_id)
        order = query.order_by(ModelEvaluation.evaluated_at.desc(), ModelEvaluation.evaluation_id.desc())
        with self.database.read() as session:
            return list(session.scalars(order))

    def fresh_version_id(self, algorithm: str, model_type: ModelTypeName, now: datetime) -> str:
        """Make the id of a new version: {algorithm}_{model_type}_{YYYYMMDD}_{HHMMSS}_{4 hex}."""
        with self.database.read() as session:
            return _fresh_id(session, ModelVersion, f"{algorithm}_{model_type}", now)

    def fresh_evaluation_id(self, now: datetime) -> str:
        """Make the id of a new evaluation."""
        with self.database.read() as session:
            return _fresh_id(session, ModelEvaluation, "evaluation", now)

    # Promotion --------------------------------------------------------------------------------------------------

    def promote(self, version_id: str, expected_production: str | None, reason: str, now: datetime) -> Change | None:
        """Put a version live by hand, if production is still the version read beforehand.

        Returns:
            The change; None where the version was live already, which enters no record.

        Raises:
            UnknownName: there is no such version.
            PromotionRefused: its evaluation failed.
            ProductionChanged: production is another version by now.
        """
        with self.database.write() as session:
            version = _version(session, version_id)
            model_type = _type_of(version)
            if version.is_production:
                return None
            if version.status == "failed":
                raise PromotionRefused(
                    f"'{version_id}' cannot go live: its evaluation failed",
                    hint=f"Try `retrainer evaluate {version_id}` first",
                )
            production = _production(session, model_type)
            if _id(production) != expected_production:
                raise ProductionChanged(_changed(expected_production, _id(production)), hint="Compare again")
            _go_live(session, version, production, now)
            session.add(_manual_entry("promotion", version, production, reason, now))
            return Change(model_type, _id(production), version_id, reason)

    def promotion_to_undo(self, model_type: ModelTypeName) -> LedgerEntry:
        """Return the latest promotion that was not undone yet and that replaced a version.

        Raises:
            NothingToRollBack: there is none.
        """
        with self.database.read() as session:
            return _promotion_to_undo(session, model_type)

    def roll_back(self, promotion: LedgerEntry, reason: str, now: datetime, *, hold: bool) -> Change:
        """Undo a promotion: the version that it replaced goes live again; with `hold`, and the type is held.

        Raises:
            ProductionChanged: this promotion is no longer the one to undo.
        """
        model_type = _type_of(promotion)
        with self.database.write() as session:
            latest = _promotion_to_undo(session, model_type)
            production = _production(session, model_type)
            if latest.entry_id != promotion.entry_id or _id(production) != promotion.to_version_id:
                raise ProductionChanged(_changed(promotion.to_version_id, _id(production)), hint="Try again")
            version = _version(session, promotion.from_version_id or "")
            _go_live(session, version, production, now)
            entry = _manual_entry("rollback", version, production, reason, now)
            entry.undoes = promotion.entry_id
            session.add(entry)
            if hold:
                _hold(session, model_type, reason, now)
            return Change(model_type, _id(production), version.version_id, reason)

    # Holds ------------------------------------------------------------------------------------------------------

    def hold_on(self, model_type: ModelTypeName) -> Hold | None:
        """Return the hold of a model type; None where automatic promotion is free."""
        with self.database.read() as session:
            return session.get(Hold, model_type)

    def hold(self, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
        """Stop automatic promotion of a type; False where it was stopped already."""
        with self.database.write() as session:
            return _hold(session, model_type, reason, now)

    def release(self, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
        """Resume automatic promotion of a type; False where it was not stopped."""
        with self.database.write() as session:
            hold = session.get(Hold, model_type)
            if hold is None:
                return False
            session.delete(hold)
            session.add(_hold_entry("release", model_type, _production(session, model_type), reason, now))
            return True

    # Archive ----------------------------------------------------------------------------------------------------

    def archive_all_but(self, model_type: ModelTypeName, keep: int, now: datetime) -> list[str]:
        """Archive versions beyond the newest `keep`: never production, its predecessor, or a pinned one.

        Returns:
            The ids archived, the newest first.
        """
        query = (
            select(ModelVersion)
            .where(ModelVersion.model_type == model_type, ModelVersion.status.in_(["trained", "active"]))
            .order_by(ModelVersion.trained_at.desc(), ModelVersion.version_id.desc())
            .offset(keep)
        )
        archived = []
        with self.database.write() as session:
            production = _production(session, model_type)
            predecessor = _predecessor(session, production)
            for version in session.scalars(query):
                if version.is_production or version.pinned or version.version_id == predecessor:
                    continue
                version.status = "archived"
                reason = f"not among the newest {keep} versions"
                entry = _manual_entry("archive", version, production, reason, now)
                entry.automatic, entry.to_version_id = True, _id(production)
                session.add(entry)
                archived.append(version.version_id)
        return archived

    # The ledger -------------------------------------------------------------------------------------------------

    def ledger(
        self,
        *,
        model_type: ModelTypeName | None = None,
        version_id: str | None = None,
        actions: Sequence[str] = (),
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        """Return decisions, the newest first; of a version, also those in which it went out of production."""
        query = select(LedgerEntry).order_by(LedgerEntry.entry_id.desc())
        if model_type is not None:
            query = query.where(LedgerEntry.model_type == model_type)
        if version_id is not None:
            moved_out = (LedgerEntry.from_version_id == version_id) & (LedgerEntry.to_version_id != version_id)
            query = query.where((LedgerEntry.version_id == version_id) | moved_out)
        if actions:
            query = query.where(LedgerEntry.action.in_(actions))
        with self.database.read() as session:
            return list(session.scalars(query.limit(limit)))


def _production(session: Session, model_type: ModelTypeName) -> ModelVersion | None:
    query = select(ModelVersion).where(ModelVersion.model_type == model_type, ModelVersion.is_production)
    return session.scalars(query).one_or_none()


def _version(session: Session, version_id: str) -> ModelVersion:
    version = session.get(ModelVersion, version_id) if "\0" not in version_id else None
    if version is None:
        raise UnknownName(f"unknown version '{version_id}'", hint="`retrainer versions` lists them")
    return version


def _running(session: Session, run_id: str) -> TrainingRun:
    run = session.get_one(TrainingRun, run_id)
    if run.status != "running":
        raise RunInProgress(f"the run '{run_id}' was closed by another process: {run.error}", hint="Start it again")
    return run


def _close(run: TrainingRun, status: str, now: datetime) -> None:
    run.status = status
    run.completed_at = max(now, run.started_at)
    run.duration_seconds = (run.completed_at - run.started_at).total_seconds()


def _recheck(
    session: Session, model_type: ModelTypeName, production: ModelVersion | None, decision: Decision
) -> Decision:
    if not decision.promote:
        return decision
    hold = session.get(Hold, model_type)
    if hold is not None:
        reason = f"{decision.reason}, but {model_type} is on hold since {hold.since:%Y-%m-%d %H:%M} UTC"
        return _instead(decision, reason)
    if _id(production) != decision.expected_production:
        return _instead(decision, f"{_changed(decision.expected_production, _id(production))}; compare again")
    return decision


def _instead(decision: Decision, reason: str) -> Decision:
    return Decision(
        promote=False,
        reason=reason,
        expected_production=decision.expected_production,
        production_score=decision.production_score,
        improvement_percentage=decision.improvement_percentage,
        evidence=decision.evidence,
    )


def _changed(expected: str | None, found: str | None) -> str:
    return f"production changed from '{expected or 'none'}' to '{found or 'none'}' meanwhile"


def _go_live(session: Session, version: ModelVersion, production: ModelVersion | None, now: datetime) -> None:
    if production is not None:
        production.is_production, production.status = False, "trained"
        session.flush()  # the index allows no second production version, not even for a moment
    version.is_production, version.status, version.promoted_at = True, "active", now
    session.flush()


def _predecessor(session: Session, production: ModelVersion | None) -> str | None:
    """Return the version that `rollback` would put live."""
    if production is None:
        return None
    try:
        return _promotion_to_undo(session, _type_of(production)).from_version_id
    except NothingToRollBack:
        return None


def _promotion_to_undo(session: Session, model_type: ModelTypeName) -> LedgerEntry:
    undone = select(LedgerEntry.undoes).where(LedgerEntry.model_type == model_type, LedgerEntry.undoes.is_not(None))
    query = (
        select(LedgerEntry)
        .where(
            LedgerEntry.model_type == model_type,
            LedgerEntry.action == "promotion",
            LedgerEntry.entry_id.not_in(undone),
        )
        .order_by(LedgerEntry.entry_id.desc())
        .limit(1)
    )
    entry = session.scalars(query).first()
    if entry is None:
        raise NothingToRollBack(f"nothing to roll back: no {model_type} version was ever promoted")
    if entry.from_version_id is None:
        raise NothingToRollBack(f"nothing to roll back: '{entry.to_version_id}' is the first {model_type} version")
    return entry


def _hold(session: Session, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
    if session.get(Hold, model_type) is not None:
        return False
    session.add(Hold(model_type=model_type, since=now, actor=actor(), reason=reason))
    session.add(_hold_entry("hold", model_type, _production(session, model_type), reason, now))
    return True


def _hold_entry(
    action: str, model_type: ModelTypeName, production: ModelVersion | None, reason: str, now: datetime
) -> LedgerEntry:
    return LedgerEntry(
        at=now,
        recorded_at=datetime.now(UTC),
        model_type=model_type,
        action=action,
        from_version_id=_id(production),
        to_version_id=_id(production),
        actor=actor(),
        automatic=False,
        reason=reason,
        evidence={},
    )


def _manual_entry(
    action: str, version: ModelVersion, production: ModelVersion | None, reason: str, now: datetime
) -> LedgerEntry:
    entry = _hold_entry(action, _type_of(version), production, reason, now)
    entry.version_id = entry.to_version_id = version.version_id
    return entry


def _type_of(row: ModelVersion | TrainingRun | LedgerEntry) -> ModelTypeName:
    return "timing" if row.model_type == "timing" else "content"


def _id(version: ModelVersion | None) -> str | None:
    return version.version_id if version else None


def _fresh_id(
    session: Session, table: type[ModelVersion | TrainingRun | ModelEvaluation], prefix: str, now: datetime
) -> str:
    """Make `{prefix}_{YYYYMMDD}_{HHMMSS}_{4 hex}`, not in use yet."""
    stem = f"{prefix}_{now.astimezone(UTC):%Y%m%d_%H%M%S}"
    while True:
        candidate = f"{stem}_{secrets.token_hex(2)}"
        if session.get(table, candidate) is None:
            return candidate
