"""The registry of what is live: promotions, rollbacks, holds, the archive, and the ledger that records them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import aliased

from retrainer.errors import NothingToRollBack, ProductionChanged, PromotionRefused
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.liveness import current_actor
from retrainer.registry.queries import fetch_production, fetch_version, set_production, version_id_of
from retrainer.registry.tables import LEDGER_ACTIONS, Hold, LedgerEntry, ModelVersion, VersionFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.database import Database


PRODUCTION_CHANGE_ACTIONS = ("promotion", "rollback")


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
            PromotionRefused: its evaluation failed, or its files were pruned.
            ProductionChanged: production is another version by now.
        """
        with self.database.write() as session:
            version = fetch_version(session, version_id)
            model_type = version.model_type_name
            if version.is_production:
                return None
            if version.status == "failed":
                raise PromotionRefused(
                    f"'{version_id}' cannot go live: its evaluation failed",
                    hint=f"Try `retrainer evaluate {version_id}` first",
                )
            production = fetch_production(session, model_type)
            if version_id_of(production) != expected_production:
                raise ProductionChanged(changed(expected_production, version_id_of(production)), hint="Compare again")
            _require_files(version)
            set_production(session, version, production)
            entry = _entry("promotion", model_type, reason, now)
            entry.version_id = entry.to_version_id = version_id
            entry.from_version_id = version_id_of(production)
            session.add(entry)
            return Change(model_type, version_id_of(production), version_id, reason)

    def find_promotions_to_undo(self, model_type: ModelTypeName, to: str | None = None) -> list[LedgerEntry]:
        """Return the promotions that a rollback undoes, the latest first: one, or all since `to` was live.

        Raises:
            NothingToRollBack: no promotion is left to undo, or `to` was not live before the present version.
        """
        with self.database.read() as session:
            return get_promotions_to_undo(session, model_type, to)

    def roll_back(self, promotions: Sequence[LedgerEntry], reason: str, now: datetime, *, hold: bool) -> Change:
        """Undo promotions: the version that the earliest of them replaced goes live; with `hold`, the type is held.

        Args:
            promotions: as `promotions_to_undo` returned them.

        Raises:
            ProductionChanged: these are no longer the latest promotions.
            PromotionRefused: the files of the version to return to were pruned.
        """
        model_type = promotions[0].model_type_name
        target = promotions[-1].from_version_id
        with self.database.write() as session:
            production = fetch_production(session, model_type)
            latest = get_promotions_to_undo(session, model_type, target if len(promotions) > 1 else None)
            if [entry.entry_id for entry in latest] != [entry.entry_id for entry in promotions]:
                raise ProductionChanged(
                    changed(promotions[0].to_version_id, version_id_of(production)), hint="Try again"
                )
            version = fetch_version(session, target or "")
            _require_files(version)
            set_production(session, version, production)
            for promotion in promotions:
                entry = _entry("rollback", model_type, reason, now)
                entry.version_id = entry.to_version_id = promotion.from_version_id
                entry.from_version_id, entry.undoes = promotion.to_version_id, promotion.entry_id
                session.add(entry)
                session.flush()  # one after another, so that their order in the ledger is that of the steps
            if hold:
                _hold(session, model_type, reason, now)
            return Change(model_type, version_id_of(production), version.version_id, reason)

    def get_production_at(self, model_type: ModelTypeName, moment: datetime) -> ModelVersion | None:
        """Return the version that was live at a moment, by the clock of the ledger; None where none was."""
        latest: list[LedgerEntry] = []
        with self.database.read() as session:
            for action in PRODUCTION_CHANGE_ACTIONS:  # one by one, each is a look at the end of an index
                query = (
                    select(LedgerEntry)
                    .where(LedgerEntry.model_type == model_type, LedgerEntry.action == action)
                    .where(LedgerEntry.recorded_at <= moment)
                    .order_by(LedgerEntry.recorded_at.desc(), LedgerEntry.entry_id.desc())
                )
                latest += session.scalars(query.limit(1))
            if not latest:
                return None
            last = max(latest, key=lambda entry: (entry.recorded_at, entry.entry_id))
            return session.get(ModelVersion, last.to_version_id)

    def get_hold(self, model_type: ModelTypeName) -> Hold | None:
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
            session.add(_standing(session, "release", model_type, reason, now))
            return True

    def archive_old_versions(self, model_type: ModelTypeName, keep: int, now: datetime) -> list[str]:
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
            predecessor = get_predecessor(session, model_type)
            for version in session.scalars(query):
                if version.is_production or version.pinned or version.version_id == predecessor:
                    continue
                version.status = "archived"
                reason = f"Not among the newest {keep} versions"
                session.add(_about(session, "archive", version, reason, now, automatic=True))
                archived.append(version.version_id)
        return archived

    def restore(self, version_id: str, reason: str, now: datetime) -> bool:
        """Bring an archived version back; False where it is not archived.

        Raises:
            UnknownName: there is no such version.
            PromotionRefused: its files were pruned.
        """
        with self.database.write() as session:
            version = fetch_version(session, version_id)
            if version.status != "archived":
                return False
            _require_files(version)
            version.status = "trained"
            session.add(_about(session, "restore", version, reason, now))
            return True

    def pin(self, version_id: str, reason: str, now: datetime, *, pinned: bool) -> bool:
        """Keep a version from being archived, or no longer; False where that is so already.

        Raises:
            UnknownName: there is no such version.
        """
        with self.database.write() as session:
            version = fetch_version(session, version_id)
            if version.pinned == pinned:
                return False
            version.pinned = pinned
            session.add(_about(session, "pin" if pinned else "unpin", version, reason, now))
            return True

    def prune(self, version_ids: Sequence[str], reason: str, now: datetime) -> list[str]:
        """Forget the files of archived versions for good; their rows, scores and decisions stay.

        Returns:
            The ids pruned: those that are still archived and not pinned.
        """
        pruned = []
        with self.database.write() as session:
            for version_id in version_ids:
                version = fetch_version(session, version_id)
                if version.status != "archived" or version.pinned or version.pruned_at is not None:
                    continue
                session.execute(delete(VersionFile).where(VersionFile.version_id == version_id))
                version.pruned_at = now
                session.add(_about(session, "prune", version, reason, now))
                pruned.append(version_id)
        return pruned

    def version_history(self, version_id: str) -> list[LedgerEntry]:
        """Return the decisions about a version, the newest first, and those in which it went out of production."""
        moved_out = (LedgerEntry.from_version_id == version_id) & (LedgerEntry.to_version_id != version_id)
        query = select(LedgerEntry).where((LedgerEntry.version_id == version_id) | moved_out)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(LedgerEntry.entry_id.desc())))

    def list_ledger_entries(
        self,
        model_type: ModelTypeName | None = None,
        actions: Sequence[str] = LEDGER_ACTIONS,
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        """Return decisions, the newest first."""
        found: list[LedgerEntry] = []
        with self.database.read() as session:
            for kind, action in product(MODEL_TYPE_NAMES if model_type is None else [model_type], actions):
                query = select(LedgerEntry).where(LedgerEntry.model_type == kind, LedgerEntry.action == action)
                found += session.scalars(query.order_by(LedgerEntry.entry_id.desc()).limit(limit))
        return sorted(found, key=lambda entry: entry.entry_id, reverse=True)[:limit]


def recheck(
    session: Session, model_type: ModelTypeName, production: ModelVersion | None, decision: Decision
) -> Decision:
    if not decision.promote:
        return decision
    hold = session.get(Hold, model_type)
    if hold is not None:
        reason = f"{decision.reason}, but {model_type} is on hold since {hold.since:%Y-%m-%d %H:%M} UTC"
        return _instead(decision, reason)
    if version_id_of(production) != decision.expected_production:
        return _instead(decision, f"{changed(decision.expected_production, version_id_of(production))}; compare again")
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


def get_predecessor(session: Session, model_type: ModelTypeName) -> str | None:
    """Return the version that `rollback` would put live."""
    try:
        return get_promotions_to_undo(session, model_type, None)[0].from_version_id
    except NothingToRollBack:
        return None


def get_promotions_to_undo(session: Session, model_type: ModelTypeName, to: str | None) -> list[LedgerEntry]:
    """See `Promotions.promotions_to_undo`."""
    undoing = aliased(LedgerEntry)
    query = (
        select(LedgerEntry)
        .where(
            LedgerEntry.model_type == model_type,
            LedgerEntry.action == "promotion",
            ~exists().where(undoing.undoes == LedgerEntry.entry_id),
        )
        .order_by(LedgerEntry.entry_id.desc())
        .limit(1 if to is None else None)
    )
    chain: list[LedgerEntry] = []
    for entry in session.scalars(query):
        if entry.from_version_id is None:
            break
        chain.append(entry)
        if to is None or entry.from_version_id == to:
            return chain
    production = version_id_of(fetch_production(session, model_type))
    if production is None:
        raise NothingToRollBack(f"nothing to roll back: no {model_type} version was ever promoted")
    if to == production:
        raise NothingToRollBack(f"nothing to roll back: '{to}' is in production already")
    if to is None:
        raise NothingToRollBack(f"nothing to roll back: '{production}' is the first {model_type} version")
    raise NothingToRollBack(
        f"cannot roll back to '{to}': it was not in production before '{production}'",
        hint=f"`retrainer promote {to}` puts it live all the same",
    )


def _require_files(version: ModelVersion) -> None:
    if version.pruned_at is not None:
        raise PromotionRefused(
            f"the files of '{version.version_id}' were pruned on {version.pruned_at:%Y-%m-%d %H:%M} UTC",
            hint="Its scores and decisions remain; the model itself is gone for good. Train a new version",
        )


def _hold(session: Session, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
    if session.get(Hold, model_type) is not None:
        return False
    session.add(Hold(model_type=model_type, since=now, actor=current_actor(), reason=reason))
    session.add(_standing(session, "hold", model_type, reason, now))
    return True


def _entry(action: str, model_type: ModelTypeName, reason: str, now: datetime) -> LedgerEntry:
    """Return a new entry of the ledger, made by a person."""
    return LedgerEntry(
        at=now,
        recorded_at=datetime.now(UTC),
        model_type=model_type,
        action=action,
        actor=current_actor(),
        automatic=False,
        reason=reason,
        evidence={},
    )


def _standing(session: Session, action: str, model_type: ModelTypeName, reason: str, now: datetime) -> LedgerEntry:
    """Return an entry of something that leaves production as it is."""
    entry = _entry(action, model_type, reason, now)
    entry.from_version_id = entry.to_version_id = version_id_of(fetch_production(session, model_type))
    return entry


def _about(
    session: Session, action: str, version: ModelVersion, reason: str, now: datetime, *, automatic: bool = False
) -> LedgerEntry:
    """Return an entry about a version that leaves production as it is."""
    entry = _standing(session, action, version.model_type_name, reason, now)
    entry.version_id, entry.automatic = version.version_id, automatic
    return entry
