"""The registry's answers about the models of all streams at once, each by one query."""

from __future__ import annotations

from sqlalchemy import func, select

from retrainer.model_types import parse_model_type
from retrainer.registry.scope import Scope
from retrainer.registry.tables import ModelVersion, TrainingRun
from retrainer.streams import ModelKey


class Overviews(Scope):
    """The part of the registry about many models at once."""

    def last_completed_runs(self) -> dict[ModelKey, TrainingRun]:
        """Return the latest completed run of each model; runs for a past time (`--as-of`) do not count."""
        counts = (TrainingRun.status == "completed", TrainingRun.as_of.is_(None), self.is_within(TrainingRun))
        order = (TrainingRun.started_at.desc(), TrainingRun.run_id.desc())
        rank = func.row_number().over(partition_by=(TrainingRun.stream, TrainingRun.model_type), order_by=order)
        ranked = select(TrainingRun.run_id, rank.label("rank")).where(*counts).subquery()
        query = select(TrainingRun).join(ranked, TrainingRun.run_id == ranked.c.run_id).where(ranked.c.rank == 1)
        with self.database.read() as session:
            return {run.model_key: run for run in session.scalars(query)}

    def production_algorithms(self) -> dict[ModelKey, str]:
        """Return the algorithm of each production version."""
        query = select(ModelVersion.stream, ModelVersion.model_type, ModelVersion.algorithm).where(
            ModelVersion.is_production, self.is_within(ModelVersion)
        )
        with self.database.read() as session:
            rows = session.execute(query).all()
        return {ModelKey(stream, parse_model_type(name)): algorithm for stream, name, algorithm in rows}
