"""The registry's A/B tests: a challenger against production on live posts, one at a time for each model type."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from retrainer.errors import ABTestError, ProductionChanged
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.ledger import new_entry, record_end_of_test, record_entry
from retrainer.registry.live_tables import ABTest
from retrainer.registry.liveness import current_actor
from retrainer.registry.promotions import Change, describe_race, end_automatic_hold, require_promotable
from retrainer.registry.queries import (
    fetch_production,
    fetch_running_test,
    fetch_version,
    new_id,
    set_production,
    version_id_of,
)
from retrainer.registry.scope import Scope
from retrainer.registry.tables import Hold, ModelVersion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.budgets import TestSide
    from retrainer.registry.ledger import TestOutcome
    from retrainer.registry.refits import NewRefit


def assign(test: ABTest, subject: str) -> TestSide:
    """Return the side of a test that answers a caller: the same one in each test for each subject.

    The SHA-256 of the test's ID, a line feed and the subject in UTF-8 decides: it is a number between 0 and 1, and the
    challenger answers those below the share.
    """
    digest = sha256(f"{test.test_id}\n{subject}".encode(errors="surrogatepass")).digest()
    return "challenger" if int.from_bytes(digest[:8]) < test.share / 100 * 2**64 else "production"


def require_testable(version: ModelVersion, running: ABTest | None) -> None:
    """Check that a version can be the challenger of a new test.

    Args:
        running: the running test of its stream and type, if any.

    Raises:
        ABTestError: a test is running, or the version is in production.
        PromotionRefused: its evaluation failed, or its files were pruned.
    """
    if running is not None:
        hint = f"End it first with `retrainer ab stop {running.model_type}`"
        raise ABTestError(f"the A/B test '{running.test_id}' of {running.model_type} is running", hint=hint)
    if version.is_production:
        raise ABTestError(
            f"cannot test '{version.version_id}': it is in production", hint="Choose another version as challenger"
        )
    require_promotable(version)


class ABTests(Scope):
    """The part of the registry about A/B tests."""

    def start_test(
        self,
        challenger_id: str,
        expected_production: str,
        reason: str,
        now: datetime,
        *,
        share: float,
        max_posts: int,
        level: float,
        max_cost: float | None = None,
        new_refit: NewRefit | None = None,
    ) -> ABTest:
        """Start a test of a challenger against production. An archived challenger is restored.

        Args:
            expected_production: the version that production must still be.
            now: the start; posts later than it count.
            share: the percentage of subjects that the challenger answers.
            max_posts: after how many posts the test is futile.
            level: the probability of a wrong decision, of both kinds together.
            max_cost: what the paid forecasts of each side may cost, in US dollars; None if no side is paid.
            new_refit: the fit that the challenger is tested with, and goes live with if it wins; None for the one that
                was live last or, if none was, the evaluated one.

        Raises:
            UnknownName: there is no such version.
            ABTestError, PromotionRefused: see `require_testable`.
            ProductionChanged: another version is in production now.
        """
        with self.database.write() as session:
            version = fetch_version(session, challenger_id)
            key = version.model_key
            require_testable(version, fetch_running_test(session, key))
            live_id = version_id_of(fetch_production(session, key))
            if live_id != expected_production:
                raise ProductionChanged(describe_race(expected_production, live_id), hint="Try again")
            if version.status == "archived":
                version.status = "trained"
                record_entry(session, "restore", key, "For an A/B test", now, version_id=challenger_id)
            if new_refit is not None:
                session.add_all(new_refit.files)
                version.refit = new_refit.refit
            test = ABTest(
                test_id=new_id(session, ABTest, f"ab_{key.model_type}", now, self.id_digits),
                stream=key.stream,
                model_type=key.model_type,
                version_id=expected_production,
                challenger_id=challenger_id,
                started_at=now,
                actor=current_actor(),
                share=share,
                max_posts=max_posts,
                level=level,
                max_cost=max_cost,
                status="running",
            )
            session.add(test)
            session.flush()
            if max_cost is not None:
                SharedBudget.add_for_test(session, test.test_id, max_cost, now)
            evidence = {"test_id": test.test_id, "share": share, "max_posts": max_posts, "level": level}
            evidence |= {"max_cost": max_cost} if max_cost is not None else {}
            record_entry(
                session, "ab_start", key, reason, now, version_id=challenger_id, evidence=evidence, refit=version.refit
            )
        return test

    def get_running_test(self, model_type: ModelTypeName) -> ABTest | None:
        """Return the running test of a type, if any."""
        with self.database.read() as session:
            return fetch_running_test(session, self.key(model_type))

    def list_running_tests(self, model_type: ModelTypeName | None = None) -> list[ABTest]:
        """Return the running tests of all streams of the registry, by stream and type."""
        query = select(ABTest).where(self.is_within(ABTest), ABTest.status == "running")
        if model_type is not None:
            query = query.where(ABTest.model_type == model_type)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(ABTest.stream, ABTest.model_type.desc())))

    def list_tests(self, model_type: ModelTypeName | None = None, limit: int | None = None) -> Sequence[ABTest]:
        """Return tests, newest first."""
        query = select(ABTest).where(self.is_within(ABTest)).order_by(ABTest.started_at.desc(), ABTest.test_id)
        if model_type is not None:
            query = query.where(ABTest.model_type == model_type)
        with self.database.read() as session:
            return list(session.scalars(query.limit(limit)))

    def end_test(
        self,
        test_id: str,
        outcome: TestOutcome,
        reason: str,
        now: datetime,
        *,
        automatic: bool,
        evidence: dict[str, Any],
    ) -> None:
        """End a test; production stays as it is.

        Raises:
            ABTestError: it was ended meanwhile.
        """
        with self.database.write() as session:
            test = _fetch_running(session, test_id)
            record_end_of_test(session, test, outcome, reason, now, automatic=automatic, evidence=evidence)

    def promote_challenger(
        self, test_id: str, reason: str, now: datetime, *, automatic: bool, evidence: dict[str, Any]
    ) -> Change | None:
        """End a test and promote its challenger with the fit that was tested, in one transaction.

        Returns:
            The change; None if the promotion is automatic and the type is on hold: then the test goes on.

        Raises:
            ABTestError: it was ended meanwhile.
            PromotionRefused: the evaluation of the challenger failed meanwhile.
            ProductionChanged: production is not the version that was tested.
        """
        with self.database.write() as session:
            test = _fetch_running(session, test_id)
            key = test.model_key
            if automatic and session.get(Hold, key) is not None:
                return None
            production = fetch_production(session, key)
            live_id = version_id_of(production)
            if live_id != test.version_id:
                raise ProductionChanged(describe_race(test.version_id, live_id), hint="Start another A/B test")
            version = fetch_version(session, test.challenger_id)
            require_promotable(version)
            set_production(session, version, production, version.refit)
            ids = {"version_id": version.version_id, "from_version_id": live_id, "to_version_id": version.version_id}
            columns: dict[str, Any] = {"automatic": automatic, "evidence": {"test_id": test_id, **evidence}}
            session.add(new_entry("promotion", key, reason, now, refit=version.refit, **ids, **columns))
            session.flush()
            if not automatic:
                end_automatic_hold(session, key, version.version_id, now)
            record_end_of_test(session, test, "promoted", reason, now, automatic=automatic, evidence=evidence)
            return Change(key.model_type, live_id, version.version_id, reason, key.stream)


def _fetch_running(session: Session, test_id: str) -> ABTest:
    test = session.get_one(ABTest, test_id)
    if test.status != "running":
        raise ABTestError(f"the A/B test '{test_id}' has already ended: {test.reason}")
    return test
