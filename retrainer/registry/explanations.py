"""The registry's explanations: what the forecasts of a version depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import false, select, update

from retrainer.registry.queries import new_id
from retrainer.registry.scope import Scope
from retrainer.registry.tables import ModelExplanation

if TYPE_CHECKING:
    from datetime import datetime


class Explanations(Scope):
    """The part of the registry about explanations."""

    def require_writable_explanations(self) -> None:
        """Check that an explanation can be recorded, by a write that changes nothing.

        Raises:
            DatabaseError: it cannot.
        """
        nothing = update(ModelExplanation).where(false()).values(problem="")
        with self.database.write() as session:
            session.execute(nothing)

    def record_explanation(self, explanation: ModelExplanation) -> None:
        """Record an explanation. Earlier ones of its version stay, and are no longer shown."""
        with self.database.write() as session:
            session.add(explanation)

    def get_explanation(self, version_id: str) -> ModelExplanation | None:
        """Return the latest explanation of a version; None if there is none."""
        query = select(ModelExplanation).where(ModelExplanation.model_version_id == version_id)
        query = query.order_by(ModelExplanation.explained_at.desc(), ModelExplanation.explanation_id.desc())
        with self.database.read() as session:
            return session.scalars(query.limit(1)).first()

    def new_explanation_id(self, now: datetime) -> str:
        """Return an unused explanation id."""
        with self.database.read() as session:
            return new_id(session, ModelExplanation, "explanation", now)
