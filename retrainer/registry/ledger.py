"""The entries of the ledger, as the parts of the registry add them inside a transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from retrainer.registry.liveness import current_actor
from retrainer.registry.queries import fetch_production, fetch_running_test, version_id_of
from retrainer.registry.tables import LedgerEntry

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from retrainer.registry.live_tables import ABTest
    from retrainer.registry.refits import Refit
    from retrainer.streams import ModelKey

# How an A/B test ended: its challenger was promoted, production was kept, neither could be shown to be better, it was
# stopped without a decision; or a promotion or a rollback ended it.
TestOutcome = Literal["promoted", "kept", "futile", "stopped", "promotion", "rollback"]


def new_entry(
    action: str, key: ModelKey, reason: str, now: datetime, *, refit: Refit | None = None, **columns: Any
) -> LedgerEntry:
    """Return a new ledger entry, made by hand unless the columns say otherwise.

    Args:
        refit: the live fit that the version came with, if any.
    """
    return LedgerEntry(
        at=now,
        recorded_at=datetime.now(UTC),
        stream=key.stream,
        model_type=key.model_type,
        action=action,
        actor=current_actor(),
        reason=reason,
        refit=refit.document() if refit else None,
        **{"automatic": False, "evidence": {}, **columns},
    )


def record_entry(session: Session, action: str, key: ModelKey, reason: str, now: datetime, **columns: Any) -> None:
    """Add a ledger entry about something that leaves production unchanged."""
    live_id = version_id_of(fetch_production(session, key))
    entry = new_entry(action, key, reason, now, from_version_id=live_id, to_version_id=live_id, **columns)
    session.add(entry)


def end_running_test(
    session: Session, key: ModelKey, outcome: TestOutcome, reason: str, now: datetime, *, automatic: bool = False
) -> None:
    """End the A/B test of a model, if one is running."""
    test = fetch_running_test(session, key)
    if test is not None:
        record_end_of_test(session, test, outcome, reason, now, automatic=automatic)


def record_end_of_test(
    session: Session, test: ABTest, outcome: TestOutcome, reason: str, now: datetime, **columns: Any
) -> None:
    """End an A/B test, and record it: by hand unless the columns of the ledger entry say otherwise."""
    test.status, test.ended_at, test.outcome, test.reason = "ended", now, outcome, reason
    evidence = {"test_id": test.test_id, "outcome": outcome, **columns.pop("evidence", {})}
    record_entry(
        session, "ab_end", test.model_key, reason, now, version_id=test.challenger_id, evidence=evidence, **columns
    )
