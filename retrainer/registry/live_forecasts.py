"""The paid forecasts of content that were made, kept so that they can be scored without another call.

A forecast is kept as it came from its algorithm: a text may hold anything. Nothing deletes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from retrainer.registry.live_tables import LiveForecast
from retrainer.registry.queries import is_of
from retrainer.registry.scope import Scope

if TYPE_CHECKING:
    from datetime import datetime


class LiveForecasts(Scope):
    """The part of the registry about the paid forecasts that were made."""

    def keep_forecast(self, forecast: LiveForecast) -> None:
        """Record a forecast of this stream.

        Raises:
            DatabaseError: the database cannot be written.
        """
        forecast.stream = self.stream
        with self.database.write() as session:
            session.add(forecast)

    def list_forecasts(self, fit: str, since: datetime, until: datetime) -> list[LiveForecast]:
        """Return the forecasts of a fit, in the order in which they were kept.

        Args:
            fit: the fit, as in `LiveComparison`.
            since: the earliest time, UTC, of the last post that a forecast knew.
            until: the latest time of it.
        """
        query = select(LiveForecast).where(
            is_of(LiveForecast, self.key("content")),
            LiveForecast.fit == fit,
            LiveForecast.last_post_at >= since,
            LiveForecast.last_post_at <= until,
        )
        with self.database.read() as session:
            return list(session.scalars(query.order_by(LiveForecast.forecast_id)))
