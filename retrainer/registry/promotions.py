"""The registry of what is live: promotions, rollbacks, holds, the archive, and the ledger that records them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from retrainer.errors import NothingToRollBack, ProductionChanged, PromotionRefused
from retrainer.registry.process import actor
from retrainer.registry.rows import go_live, id_of, production_in, type_of, version_in
from retrainer.registry.tables import Hold, LedgerEntry, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Promotions:
    """What is remembered of what is live."""

    database: Database

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
            version = version_in(session, version_id)
            model_type = type_of(version)
            if version.is_production:
                return None
            if version.status == "failed":
                raise PromotionRefused(
                    f"'{version_id}' cannot go live: its evaluation failed",
                    hint=f"Try `retrainer evaluate {version_id}` first",
                )
            production = production_in(session, model_type)
            if id_of(production) != expected_production:
                raise ProductionChanged(changed(expected_production, id_of(production)), hint="Compare again")
            go_live(session, version, production, now)
            session.add(_manual_entry("promotion", version, production, reason, now))
            return Change(model_type, id_of(production), version_id, reason)

    def promotion_to_undo(self, model_type: ModelTypeName) -> LedgerEntry:
        """Return the latest promotion that was not undone yet and that replaced a version.

        Raises:
            NothingToRollBack: there is none.
        """
        with self.database.read() as session:
            return promotion_to_undo_in(session, model_type)

    def roll_back(self, promotion: LedgerEntry, reason: str, now: datetime, *, hold: bool) -> Change:
        """Undo a promotion: the version that it replaced goes live again; with `hold`, and the type is held.

        Raises:
            ProductionChanged: this promotion is no longer the one to undo.
        """
        model_type = type_of(promotion)
        with self.database.write() as session:
            latest = promotion_to_undo_in(session, model_type)
            production = production_in(session, model_type)
            if latest.entry_id != promotion.entry_id or id_of(production) != promotion.to_version_id:
                raise ProductionChanged(changed(promotion.to_version_id, id_of(production)), hint="Try again")
            version = version_in(session, promotion.from_version_id or "")
            go_live(session, version, production, now)
            entry = _manual_entry("rollback", version, production, reason, now)
            entry.undoes = promotion.entry_id
            session.add(entry)
            if hold:
                hold_in(session, model_type, reason, now)
            return Change(model_type, id_of(production), version.version_id, reason)

    def hold_on(self, model_type: ModelTypeName) -> Hold | None:
        """Return the hold of a model type; None where automatic promotion is free."""
        with self.database.read() as session:
            return session.get(Hold, model_type)

    def hold(self, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
        """Stop automatic promotion of a type; False where it was stopped already."""
        with self.database.write() as session:
            return hold_in(session, model_type, reason, now)

    def release(self, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
        """Resume automatic promotion of a type; False where it was not stopped."""
        with self.database.write() as session:
            hold = session.get(Hold, model_type)
            if hold is None:
                return False
            session.delete(hold)
            session.add(_hold_entry("release", model_type, production_in(session, model_type), reason, now))
            return True

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
            production = production_in(session, model_type)
            predecessor = predecessor_in(session, production)
            for version in session.scalars(query):
                if version.is_production or version.pinned or version.version_id == predecessor:
                    continue
                version.status = "archived"
                reason = f"not among the newest {keep} versions"
                entry = _manual_entry("archive", version, production, reason, now)
                entry.automatic, entry.to_version_id = True, id_of(production)
                session.add(entry)
                archived.append(version.version_id)
        return archived

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


def recheck(
    session: Session, model_type: ModelTypeName, production: ModelVersion | None, decision: Decision
) -> Decision:
    if not decision.promote:
        return decision
    hold = session.get(Hold, model_type)
    if hold is not None:
        reason = f"{decision.reason}, but {model_type} is on hold since {hold.since:%Y-%m-%d %H:%M} UTC"
        return _instead(decision, reason)
    if id_of(production) != decision.expected_production:
        return _instead(decision, f"{changed(decision.expected_production, id_of(production))}; compare again")
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


def changed(expected: str | None, found: str | None) -> str:
    return f"production changed from '{expected or 'none'}' to '{found or 'none'}' meanwhile"


def predecessor_in(session: Session, production: ModelVersion | None) -> str | None:
    """Return the version that `rollback` would put live."""
    if production is None:
        return None
    try:
        return promotion_to_undo_in(session, type_of(production)).from_version_id
    except NothingToRollBack:
        return None


def promotion_to_undo_in(session: Session, model_type: ModelTypeName) -> LedgerEntry:
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


def hold_in(session: Session, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
    if session.get(Hold, model_type) is not None:
        return False
    session.add(Hold(model_type=model_type, since=now, actor=actor(), reason=reason))
    session.add(_hold_entry("hold", model_type, production_in(session, model_type), reason, now))
    return True


def _hold_entry(
    action: str, model_type: ModelTypeName, production: ModelVersion | None, reason: str, now: datetime
) -> LedgerEntry:
    return LedgerEntry(
        at=now,
        recorded_at=datetime.now(UTC),
        model_type=model_type,
        action=action,
        from_version_id=id_of(production),
        to_version_id=id_of(production),
        actor=actor(),
        automatic=False,
        reason=reason,
        evidence={},
    )


def _manual_entry(
    action: str, version: ModelVersion, production: ModelVersion | None, reason: str, now: datetime
) -> LedgerEntry:
    entry = _hold_entry(action, type_of(version), production, reason, now)
    entry.version_id = entry.to_version_id = version.version_id
    return entry
