"""The registry: every query about versions, and every change of state as one transaction.

`now` is the time that a change counts from. The clock is read only for heartbeats, `promoted_at` and `recorded_at`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, inspect, select

from retrainer.registry.ab_tests import ABTests
from retrainer.registry.explanations import Explanations
from retrainer.registry.forecast_states import ForecastStates
from retrainer.registry.live import Live
from retrainer.registry.live_forecasts import LiveForecasts
from retrainer.registry.names import Names
from retrainer.registry.overviews import Overviews
from retrainer.registry.promotions import Promotions
from retrainer.registry.queries import has_own_posts, list_distinct
from retrainer.registry.retention import Retention
from retrainer.registry.runs import Runs
from retrainer.registry.tables import POSTS_TABLE, DatabaseIdentity, ModelVersion, Post, Silence, TrainingRun
from retrainer.registry.versions import Versions
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from retrainer.registry.database import Database


class Registry(
    Versions,
    Explanations,
    Runs,
    Promotions,
    Retention,
    Live,
    LiveForecasts,
    ForecastStates,
    ABTests,
    Names,
    Overviews,
):
    """The registry of versions, runs and promotions, of one stream, several or all."""

    def __init__(self, database: Database, streams: tuple[str, ...] | None = (DEFAULT_STREAM,)) -> None:
        self.database = database
        self.streams = streams

    def across(self, streams: Iterable[str] | None) -> Registry:
        """Return the registry of other streams, for lists; None for all."""
        return Registry(self.database, None if streams is None else tuple(streams))

    def list_streams(self) -> list[str]:
        """Return the streams that have versions. Failed runs make no stream: there may never have been posts."""
        with self.database.read() as session:
            return list_distinct(session, ModelVersion.stream)

    def list_streams_of_posts(self, table: str) -> list[str] | None:
        """Return the streams that have posts; None if their table is not ours."""
        with self.database.read() as session:
            if table != POSTS_TABLE or not has_own_posts(inspect(session.connection())):
                return None
            return list_distinct(session, Post.stream)

    def has_stream(self, name: str) -> bool:
        with self.database.read() as session:
            return "\0" not in name and bool(session.scalar(select(exists().where(ModelVersion.stream == name))))

    def database_id(self) -> str:
        """Return the id of the database, which marks the models folder that belongs to it."""
        with self.database.read() as session:
            return session.scalars(select(DatabaseIdentity.database_id)).one()

    def record_silence(self, stream: str, since: datetime) -> bool:
        """Record that no post of a stream has arrived since a time; False if that is recorded already."""
        query = select(Silence.since).where(Silence.stream == stream)
        with self.database.read() as session:  # mostly it is, and no other writer has to wait
            if session.scalar(query) == since:
                return False
        with self.database.write() as session:
            if session.scalar(query) == since:
                return False
            session.merge(Silence(stream=stream, since=since))
            return True

    def list_runs_of_other_projects(self, since: datetime) -> list[TrainingRun]:
        """Return the latest run of each other project that trains with this database, if it is later than `since`.

        Runs before the first one of this project do not count: they are of where it was before it was moved or copied.
        """
        folder = str(self.database.project_folder)
        own = select(func.min(TrainingRun.started_at)).where(TrainingRun.project_folder == folder).scalar_subquery()
        query = select(TrainingRun).where(
            TrainingRun.project_folder != folder, TrainingRun.started_at > own, TrainingRun.started_at >= since
        )
        with self.database.read() as session:
            runs = list(session.scalars(query.order_by(TrainingRun.started_at)))
        latest = {run.project_folder: run for run in runs}
        here = socket.gethostname()  # a project of another host may still exist
        return [run for run in latest.values() if run.host != here or Path(str(run.project_folder)).is_dir()]
