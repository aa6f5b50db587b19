"""The registry's states of fits: posts condensed to what later forecasts need.

A state is written in a transaction that has checked that no post up to its last one has changed since it was made, and
deleted in the transaction that changes one. So a stored state is always valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from retrainer.registry.live_tables import ForecastState
from retrainer.registry.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName


class ForecastStates(Scope):
    """The part of the registry about the states of fits."""

    def get_forecast_state(self, fit: str, state_format: int) -> ForecastState | None:
        """Return the state of a fit; None if there is none of this format."""
        same = (ForecastState.fit == fit) & (ForecastState.format == state_format)
        with self.database.read() as session:
            return session.scalar(select(ForecastState).where(same))


def keep_forecast_states(session: Session, states: Sequence[ForecastState], fits: Collection[str]) -> None:
    """Write the states of fits of one model type of a stream, instead of their earlier ones.

    Args:
        session: of a transaction that has checked the posts that they stand for.
        states: the states.
        fits: the fits in use; states of others are deleted.
    """
    for state in states:
        of_others = ForecastState.fit.not_in({*fits} - {state.fit})
        is_of = (ForecastState.stream == state.stream) & (ForecastState.model_type == state.model_type)
        session.execute(delete(ForecastState).where(is_of, of_others))
        session.add(state)


def drop_forecast_states(
    connection: Connection, stream: str, since: datetime, model_types: Sequence[ModelTypeName]
) -> None:
    """Delete, in the transaction that changes posts, the states that know posts from a time on."""
    is_of = (ForecastState.stream == stream) & ForecastState.model_type.in_(model_types)
    connection.execute(delete(ForecastState).where(is_of, ForecastState.through >= since))
