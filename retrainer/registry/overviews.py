"""The registry's answers about the models of all streams at once, each by one or two queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName, parse_model_type
from retrainer.registry.queries import distinct_values
from retrainer.registry.scope import Scope
from retrainer.registry.tables import ModelEvaluation, ModelVersion, Post, TrainingRun
from retrainer.streams import ModelKey

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select


class RunSummary(NamedTuple):
    """What there is to know about a run where there are many.

    Attributes:
        posts: the number of posts that it used.
    """

    run_id: str
    status: str
    started_at: datetime
    error: str | None
    posts: int


class LiveVersion(NamedTuple):
    """A production version, with the scores of its latest evaluation; None if there is none."""

    version_id: str
    algorithm: str
    promoted_at: datetime | None
    score: float | None
    naive_score: float | None


class Overviews(Scope):
    """The part of the registry about many models at once."""

    def last_completed_runs(self, as_of: datetime | None = None) -> dict[ModelKey, RunSummary]:
        """Return the latest completed run of each model; of the runs for a past time (`--as-of`), if one is given.

        Other runs for a past time do not count.
        """
        return self._last_runs(completed=True, as_of=as_of)

    def last_runs(self) -> dict[ModelKey, RunSummary]:
        """Return the latest run of each model, as recorded; runs for a past time do not count."""
        return self._last_runs(completed=False)

    def count_posts_since_last_runs(self, model_type: ModelTypeName, until: datetime) -> dict[str, int]:
        """Count, by stream, our posts that are later than the latest completed run of a type; of content, with text."""
        run = select(TrainingRun.stream, TrainingRun.started_at)
        run_of = run.where(TrainingRun.run_id.in_(_last_ids(model_type, completed=True))).subquery()
        is_later = (Post.stream == run_of.c.stream) & (Post.created_at > run_of.c.started_at)
        return self._counts(_count_posts(model_type, until).join(run_of, is_later))

    def count_posts(self, model_type: ModelTypeName, until: datetime) -> dict[str, int]:
        """Count, by stream, our posts up to a time; of content, those with text."""
        return self._counts(_count_posts(model_type, until))

    def _counts(self, query: Select[str, int]) -> dict[str, int]:
        with self.database.read() as session:
            return {row[0]: row[1] for row in session.execute(query)}

    def _last_runs(self, *, completed: bool, as_of: datetime | None = None) -> dict[ModelKey, RunSummary]:
        posts = func.coalesce(TrainingRun.num_training_samples, 0) + func.coalesce(TrainingRun.num_test_samples, 0)
        columns = (TrainingRun.run_id, TrainingRun.status, TrainingRun.started_at, TrainingRun.error)
        found = {}
        for model_type in MODEL_TYPE_NAMES:
            query = select(TrainingRun.stream, *columns, posts)
            last_ids = _last_ids(model_type, completed=completed, as_of=as_of)
            query = query.where(TrainingRun.run_id.in_(last_ids), self.is_within(TrainingRun))
            with self.database.read() as session:
                for row in session.execute(query):
                    found[ModelKey(row[0], model_type)] = RunSummary(*row[1:])
        return found

    def live_versions(self) -> dict[ModelKey, LiveVersion]:
        """Return the production version of each model that has one."""
        other = aliased(ModelEvaluation)
        latest = select(other.evaluation_id).where(other.model_version_id == ModelVersion.version_id)
        latest = latest.order_by(other.evaluated_at.desc(), other.evaluation_id.desc()).limit(1)
        is_latest = ModelEvaluation.evaluation_id == latest.correlate(ModelVersion).scalar_subquery()
        naive = ModelEvaluation.baseline_metrics["overall_score"].as_float()
        columns = (ModelVersion.version_id, ModelVersion.algorithm, ModelVersion.promoted_at)
        query = select(
            ModelVersion.stream, ModelVersion.model_type, *columns, ModelEvaluation.overall_score, naive
        ).outerjoin(ModelEvaluation, is_latest)
        query = query.where(ModelVersion.is_production, self.is_within(ModelVersion))
        with self.database.read() as session:
            rows = session.execute(query).all()
        return {ModelKey(stream, parse_model_type(name)): LiveVersion(*rest) for stream, name, *rest in rows}

    def production_algorithms(self) -> dict[ModelKey, str]:
        """Return the algorithm of each production version."""
        query = select(ModelVersion.stream, ModelVersion.model_type, ModelVersion.algorithm).where(
            ModelVersion.is_production, self.is_within(ModelVersion)
        )
        with self.database.read() as session:
            rows = session.execute(query).all()
        return {ModelKey(stream, parse_model_type(name)): algorithm for stream, name, algorithm in rows}


def _count_posts(model_type: ModelTypeName, until: datetime) -> Select[str, int]:
    """Return the query of the number of our posts up to a time, by stream; of content, of those with text."""
    count = func.count(Post.content) if model_type == "content" else func.count()
    return select(Post.stream, count).where(Post.created_at <= until).group_by(Post.stream)


def _last_ids(model_type: ModelTypeName, *, completed: bool, as_of: datetime | None = None) -> Select[tuple[str]]:
    """Return the query of the latest run of each stream, by one look at an index for each."""
    streams, run = distinct_values(TrainingRun.stream), aliased(TrainingRun)
    last = select(run.run_id).where(run.stream == streams.c.value, run.model_type == model_type, run.as_of == as_of)
    if completed:
        last = last.where(run.status == "completed")
    last = last.order_by(run.started_at.desc(), run.run_id.desc()).limit(1)
    return select(last.correlate(streams).scalar_subquery()).select_from(streams)
