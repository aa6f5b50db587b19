"""The registry's production versions: promotions, rollbacks, holds, and the ledger that records them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import func, select

from retrainer.errors import NothingToRollBack, ProductionChanged, PromotionRefused
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.ledger import end_running_test, new_entry, record_entry
from retrainer.registry.live_tables import ABTest
from retrainer.registry.liveness import current_actor
from retrainer.registry.queries import (
    fetch_production,
    fetch_running_test,
    fetch_version,
    is_of,
    require_not_pruned,
    set_production,
    version_id_of,
)
from retrainer.registry.refits import Refit
from retrainer.registry.scope import Scope
from retrainer.registry.tables import LEDGER_ACTIONS, Hold, LedgerEntry, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.refits import NewRefit
    from retrainer.streams import ModelKey


PRODUCTION_CHANGE_ACTIONS = ("promotion", "rollback")


@dataclass(frozen=True)
class Decision:
    """Whether to promote a candidate, and why.

    Attributes:
        promote: whether to promote it.
        reason: one sentence with the figures.
        expected_production: the version it was compared with, which must still be in production.
        production_score: the score of that version on the same posts.
        improvement_percentage: how much better the candidate is; None if nothing could be compared.
        evidence: the figures behind the reason.
        refit_failed: whether it is not promoted only because it could not be fitted again.
    """

    promote: bool
    reason: str
    expected_production: str | None
    production_score: float | None = None
    improvement_percentage: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    refit_failed: bool = False


@dataclass(frozen=True)
class Change:
    """A change of the production version.

    Attributes:
        from_version: the previous version; None if there was none.
        to_version: the version now.
        reason: why.
    """

    model_type: ModelTypeName
    from_version: str | None
    to_version: str
    reason: str
    stream: str


class InProduction(NamedTuple):
    """What is in production of a model.

    Attributes:
        version: the version.
        test: the running A/B test, if there is one.
        undoable: the promotion that a rollback would undo; None if there is nothing to roll back.
    """

    version: ModelVersion
    test: ABTest | None
    undoable: LedgerEntry | None


class Promotions(Scope):
    """The part of the registry about production and the ledger."""

    def promote(
        self,
        version_id: str,
        expected_production: str | None,
        reason: str,
        now: datetime,
        new_refit: NewRefit | None = None,
    ) -> Change | None:
        """Promote a version by hand, if production is still the version read beforehand.

        Args:
            new_refit: its new live fit; None for the fit that was live last or, if none was, the evaluated one.

        Returns:
            The change; None if the version was in production already, which is not recorded.

        Raises:
            UnknownName: there is no such version.
            PromotionRefused: its evaluation failed, or its files were pruned.
            ProductionChanged: another version is in production now.
        """
        with self.database.write() as session:
            version = fetch_version(session, version_id)
            key = version.model_key
            if version.is_production:
                return None
            require_promotable(version)
            production = fetch_production(session, key)
            live_id = version_id_of(production)
            if live_id != expected_production:
                raise ProductionChanged(describe_race(expected_production, live_id), hint="Compare again")
            if new_refit is not None:
                session.add_all(new_refit.files)
                reason = add_refit(reason, new_refit)
            refit = new_refit.refit if new_refit else version.refit
            set_production(session, version, production, refit)
            ids = {"version_id": version_id, "from_version_id": live_id, "to_version_id": version_id}
            session.add(new_entry("promotion", key, reason, now, refit=refit, **ids))
            session.flush()
            end_running_test(session, key, "promotion", f"Ended by a promotion: {reason}", now)
            end_automatic_hold(session, key, version_id, now)
            return Change(key.model_type, live_id, version_id, reason, key.stream)

    def find_promotions_to_undo(self, model_type: ModelTypeName, to: str | None = None) -> list[LedgerEntry]:
        """Return the promotions that a rollback undoes, latest first: one, or all since `to` was in production.

        Raises:
            NothingToRollBack: no promotion is left to undo, or `to` was not in production before the present version.
        """
        with self.database.read() as session:
            return _fetch_promotions_to_undo(session, self.key(model_type), to)

    def find_in_production(self, model_type: ModelTypeName) -> InProduction | None:
        """Return what is in production of a type, by one query; None if nothing is."""
        key = self.key(model_type)
        is_running = is_of(ABTest, key) & (ABTest.status == "running")
        last = _not_undone(key).with_only_columns(LedgerEntry.entry_id).limit(1).correlate(None).scalar_subquery()
        is_undoable = (LedgerEntry.entry_id == last) & LedgerEntry.from_version_id.is_not(None)
        query = select(ModelVersion, ABTest, LedgerEntry).select_from(ModelVersion)
        query = query.where(is_of(ModelVersion, key), ModelVersion.is_production)
        query = query.outerjoin(ABTest, is_running).outerjoin(LedgerEntry, is_undoable)
        with self.database.read() as session:
            found = session.execute(query).one_or_none()
        return None if found is None else InProduction._make(found)

    def get_version_before(self, promotion: LedgerEntry) -> ModelVersion:
        """Return the version that a promotion replaced, with the fit that was live then."""
        with self.database.read() as session:
            return _fetch_with_fit(session, promotion.from_version_id, _fetch_refit_before(session, promotion))

    def roll_back(
        self,
        promotions: Sequence[LedgerEntry],
        reason: str,
        now: datetime,
        *,
        hold: bool,
        evidence: Mapping[str, Any] | None = None,
    ) -> Change:
        """Undo promotions: return to the version that the earliest of them replaced.

        Args:
            promotions: what `find_promotions_to_undo` returned.
            now: the time that the rollback counts from.
            hold: whether to stop automatic promotion of the type.
            evidence: the figures of an automatic rollback; None for one by hand.

        Raises:
            ProductionChanged: these are no longer the latest promotions.
            PromotionRefused: the files of the version to return to were pruned.
        """
        key = promotions[0].model_key
        target = promotions[-1].from_version_id
        automatic = evidence is not None
        with self.database.write() as session:
            production = fetch_production(session, key)
            live_id = version_id_of(production)
            latest = _fetch_promotions_to_undo(session, key, target if len(promotions) > 1 else None)
            if [entry.entry_id for entry in latest] != [entry.entry_id for entry in promotions]:
                raise ProductionChanged(describe_race(promotions[0].to_version_id, live_id), hint="Try again")
            version = fetch_version(session, target or "")
            require_files(version)
            refits = [_fetch_refit_before(session, promotion) for promotion in promotions]
            set_production(session, version, production, refits[-1])
            for promotion, refit in zip(promotions, refits, strict=True):
                before, after = promotion.to_version_id, promotion.from_version_id
                ids = {"version_id": after, "from_version_id": before, "to_version_id": after}
                how = {"automatic": automatic, "evidence": dict(evidence or {}), "undoes": promotion.entry_id}
                session.add(new_entry("rollback", key, reason, now, refit=refit, **ids, **how))
                session.flush()  # one by one, so that the ledger has them in order
            end_running_test(session, key, "rollback", f"Ended by a rollback: {reason}", now, automatic=automatic)
            if hold:
                _hold(session, key, reason, now, automatic=automatic)
            return Change(key.model_type, live_id, version.version_id, reason, key.stream)

    def record_degraded(
        self, model_type: ModelTypeName, version_id: str, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> bool:
        """Record that live posts prove production worse, and why it was not rolled back: once while both remain true.

        Args:
            version_id: the version that was in production when the posts were looked at.
            evidence: the figures, and under `problem` why it was not rolled back.

        Returns:
            Whether it was recorded: False if it was before, or another version is in production now.
        """
        key = self.key(model_type)
        with self.database.write() as session:
            if version_id_of(fetch_production(session, key)) != version_id:
                return False
            if evidence["problem"] in {entry.evidence.get("problem") for entry in _fetch_degraded(session, key)}:
                return False
            how = {"version_id": version_id, "automatic": True, "evidence": dict(evidence)}
            record_entry(session, "degraded", key, reason, now, **how)
            return True

    def get_production_at(self, model_type: ModelTypeName, time: datetime) -> ModelVersion | None:
        """Return the version in production at a time, by `recorded_at` in the ledger; None if there was none.

        Its live fit is the one that was live then. Of the decisions recorded up to that time the last one made counts,
        whatever the clock said: it may be set back.
        """
        with self.database.read() as session:
            last = _fetch_last_change(session, self.key(model_type), LedgerEntry.recorded_at <= time)
            if last is None:
                return None
            return _fetch_with_fit(session, last.to_version_id, Refit.from_document(last.refit))

    def list_production_at(self, time: datetime) -> list[ModelVersion]:
        """Return the versions in production at a time, of all streams of the registry; see `get_production_at`."""
        last = select(func.max(LedgerEntry.entry_id)).where(
            self.is_within(LedgerEntry),
            LedgerEntry.action.in_(PRODUCTION_CHANGE_ACTIONS),
            LedgerEntry.recorded_at <= time,
        )
        last = last.group_by(LedgerEntry.stream, LedgerEntry.model_type)
        query = select(LedgerEntry, ModelVersion).join(
            ModelVersion, LedgerEntry.to_version_id == ModelVersion.version_id
        )
        query = query.where(LedgerEntry.entry_id.in_(last)).order_by(LedgerEntry.stream, LedgerEntry.model_type)
        found = []
        with self.database.read() as session:
            for entry, version in session.execute(query):
                session.expunge(version)  # it is changed for the caller only
                version.refit = Refit.from_document(entry.refit)
                found.append(version)
        return found

    def list_holds(self) -> list[Hold]:
        """Return the holds of all streams of the registry."""
        with self.database.read() as session:
            return list(session.scalars(select(Hold).where(self.is_within(Hold))))

    def get_hold(self, model_type: ModelTypeName) -> Hold | None:
        """Return the hold on a model type; None if automatic promotion is allowed."""
        with self.database.read() as session:
            return session.get(Hold, self.key(model_type))

    def hold(self, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
        """Stop automatic promotion of a type; False if it was stopped already."""
        with self.database.write() as session:
            return _hold(session, self.key(model_type), reason, now)

    def release(self, model_type: ModelTypeName, reason: str, now: datetime) -> bool:
        """Resume automatic promotion of a type; False if it was not stopped."""
        key = self.key(model_type)
        with self.database.write() as session:
            hold = session.get(Hold, key)
            if hold is None:
                return False
            session.delete(hold)
            record_entry(session, "release", key, reason, now)
            return True

    def record_files(
        self,
        key: ModelKey,
        action: Literal["cleanup", "set_aside"],
        reason: str,
        version_id: str | None = None,
    ) -> None:
        """Record that files were removed or set aside."""
        with self.database.write() as session:
            record_entry(session, action, key, reason, datetime.now(UTC), version_id=version_id, automatic=True)

    def version_history(self, version_id: str) -> list[LedgerEntry]:
        """Return the decisions about a version and those that took it out of production, newest first."""
        replaced = (LedgerEntry.from_version_id == version_id) & (LedgerEntry.to_version_id != version_id)
        query = select(LedgerEntry).where((LedgerEntry.version_id == version_id) | replaced)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(LedgerEntry.entry_id.desc())))

    def list_ledger_entries(
        self,
        model_type: ModelTypeName | None = None,
        actions: Sequence[str] = LEDGER_ACTIONS,
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        """Return decisions, newest first."""
        model_types = MODEL_TYPE_NAMES if model_type is None else [model_type]
        found: list[LedgerEntry] = []
        with self.database.read() as session:
            for name, action in product(model_types, actions):  # one by one: each reads only the end of an index
                query = select(LedgerEntry).where(LedgerEntry.model_type == name, LedgerEntry.action == action)
                query = query.where(self.is_within(LedgerEntry))
                found += session.scalars(query.order_by(LedgerEntry.entry_id.desc()).limit(limit))
        return sorted(found, key=lambda entry: entry.entry_id, reverse=True)[:limit]


def recheck(session: Session, key: ModelKey, production: ModelVersion | None, decision: Decision) -> Decision:
    """Withdraw a promotion if the type is on hold or tested by now, or another version is in production."""
    if not decision.promote:
        return decision
    hold = session.get(Hold, key)
    if hold is not None:
        reason = f"{decision.reason}, but {key.model_type} is on hold since {hold.since:%Y-%m-%d %H:%M} UTC"
        return replace(decision, promote=False, reason=reason)
    test = fetch_running_test(session, key)
    if test is not None:
        reason = f"{decision.reason}, but the A/B test '{test.test_id}' is running"
        return replace(decision, promote=False, reason=reason)
    if version_id_of(production) != decision.expected_production:
        race = describe_race(decision.expected_production, version_id_of(production))
        return replace(decision, promote=False, reason=f"{race}; compare again")
    return decision


def add_refit(reason: str, new_refit: NewRefit) -> str:
    """Return the reason of a promotion with what its live fit knows."""
    return f"{reason.rstrip('.')}. {new_refit.refit.describe()}"


def describe_race(expected: str | None, found: str | None) -> str:
    return f"production changed from '{expected or 'none'}' to '{found or 'none'}' in the meantime"


def _hold(session: Session, key: ModelKey, reason: str, now: datetime, *, automatic: bool = False) -> bool:
    if session.get(Hold, key) is not None:
        return False
    hold = Hold(stream=key.stream, model_type=key.model_type, since=now, actor=current_actor(), reason=reason)
    session.add(hold)
    record_entry(session, "hold", key, reason, now, automatic=automatic)
    return True


def end_automatic_hold(session: Session, key: ModelKey, version_id: str, now: datetime) -> None:
    """End the hold of a rollback by evidence, since a version was promoted by hand; a hold by hand stays."""
    hold = session.get(Hold, key)
    if hold is None:
        return
    latest = select(LedgerEntry.automatic).where(is_of(LedgerEntry, key), LedgerEntry.action == "hold")
    if session.scalar(latest.order_by(LedgerEntry.entry_id.desc()).limit(1)):
        session.delete(hold)
        record_entry(session, "release", key, f"'{version_id}' was promoted by hand", now, automatic=True)


def require_promotable(version: ModelVersion) -> None:
    """Check that a version can be promoted.

    Raises:
        PromotionRefused: its evaluation failed, or its files were pruned.
    """
    if version.status == "failed":
        raise PromotionRefused(
            f"cannot promote '{version.version_id}': its evaluation failed",
            hint=f"Run `retrainer evaluate {version.version_id}` first",
        )
    require_files(version)


def require_files(version: ModelVersion) -> None:
    hint = "Its scores and decisions remain, but the model was deleted. Train a new version"
    require_not_pruned(version, hint, PromotionRefused)


def _fetch_refit_before(session: Session, promotion: LedgerEntry) -> Refit | None:
    """Return the fit that was live before a promotion; None if it was the evaluated one."""
    last = _fetch_last_change(session, promotion.model_key, LedgerEntry.entry_id < promotion.entry_id)
    return Refit.from_document(last.refit) if last is not None else None


def _fetch_degraded(session: Session, key: ModelKey) -> list[LedgerEntry]:
    """Return the entries since the last change of production that say that it is degraded."""
    last = _fetch_last_change(session, key, LedgerEntry.entry_id > 0)
    query = select(LedgerEntry).where(is_of(LedgerEntry, key), LedgerEntry.action == "degraded")
    return list(session.scalars(query if last is None else query.where(LedgerEntry.entry_id > last.entry_id)))


def _fetch_last_change(session: Session, key: ModelKey, condition: ColumnElement[bool]) -> LedgerEntry | None:
    """Return the last of those changes of production that meet a condition."""
    query = select(func.max(LedgerEntry.entry_id)).where(
        is_of(LedgerEntry, key), LedgerEntry.action.in_(PRODUCTION_CHANGE_ACTIONS), condition
    )
    last = session.scalar(query)
    return None if last is None else session.get_one(LedgerEntry, last)


def _fetch_with_fit(session: Session, version_id: str | None, refit: Refit | None) -> ModelVersion:
    """Return a version with the fit that was live at some time."""
    version = fetch_version(session, version_id or "")
    session.expunge(version)  # it is changed for the caller only
    version.refit = refit
    return version


def fetch_predecessor(session: Session, key: ModelKey) -> str | None:
    """Return the version that a rollback would return to."""
    promotion = session.scalars(_not_undone(key).limit(1)).first()
    return None if promotion is None else promotion.from_version_id


def _not_undone(key: ModelKey) -> Select[LedgerEntry]:
    """Return the query for the promotions that were not undone, newest first."""
    undone = select(LedgerEntry.undoes).where(is_of(LedgerEntry, key), LedgerEntry.action == "rollback")
    undone = undone.where(LedgerEntry.undoes.is_not(None)).correlate(None)
    query = select(LedgerEntry).where(is_of(LedgerEntry, key), LedgerEntry.action == "promotion")
    return query.where(LedgerEntry.entry_id.not_in(undone)).order_by(LedgerEntry.entry_id.desc())


def _fetch_promotions_to_undo(session: Session, key: ModelKey, to: str | None) -> list[LedgerEntry]:
    chain: list[LedgerEntry] = []
    for entry in session.scalars(_not_undone(key).limit(1 if to is None else None)):
        if entry.from_version_id is None:
            break
        chain.append(entry)
        if to is None or entry.from_version_id == to:
            return chain
    production = version_id_of(fetch_production(session, key))
    if production is None:
        raise NothingToRollBack(f"nothing to roll back: no {key.model_type} version was ever promoted")
    if to == production:
        raise NothingToRollBack(f"nothing to roll back: '{to}' is in production already")
    if to is None:
        raise NothingToRollBack(f"nothing to roll back: '{production}' is the first {key.model_type} version")
    raise NothingToRollBack(
        f"cannot roll back to '{to}': it was not in production before '{production}'",
        hint=f"Use `retrainer promote {to}` instead",
    )
