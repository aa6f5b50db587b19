"""The registry: every query about versions, and every change of state as one transaction.

`now` is the time that a change counts from. The clock is read only for heartbeats, `promoted_at` and `recorded_at`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from retrainer.registry.archive import Archive
from retrainer.registry.names import Names
from retrainer.registry.promotions import Promotions
from retrainer.registry.runs import Runs
from retrainer.registry.tables import DatabaseIdentity, Silence
from retrainer.registry.versions import Versions

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.registry.database import Database


class Registry(Versions, Runs, Promotions, Archive, Names):
    """The registry of versions, runs and promotions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def database_id(self) -> str:
        """Return the id of the database, which marks the models folder that belongs to it."""
        with self.database.read() as session:
            return session.scalars(select(DatabaseIdentity.database_id)).one()

    def record_silence(self, stream: str, since: datetime) -> bool:
        """Record that no post of a stream has arrived since a time; False if that is recorded already."""
        with self.database.read() as session:
            recorded = session.get(Silence, stream)
        if recorded is not None and recorded.since == since:
            return False
        with self.database.write() as session:
            recorded = session.get(Silence, stream)
            if recorded is not None and recorded.since == since:  # another process was faster
                return False
            session.merge(Silence(stream=stream, since=since))
            return True
