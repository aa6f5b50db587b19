"""The registry's live comparisons and their scores, brought up to date by `retrainer.live.update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, case, delete, func, insert, or_, select, update
from sqlalchemy.orm.attributes import set_committed_value

from retrainer.registry.forecast_states import drop_forecast_states
from retrainer.registry.live_tables import ABTest, LiveComparison, LiveScore
from retrainer.registry.queries import PLAIN, is_of
from retrainer.registry.scope import Scope
from retrainer.registry.tables import LedgerEntry, ModelVersion, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Select
    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName

_CHUNK_ROWS = 5_000
_MAX_PARAMETERS = 1_000


class Progress(NamedTuple):
    """Where a comparison stands: what `LiveComparison` has in the columns of these names.

    Attributes:
        through: the time of the last post that was looked at, UTC; None before the first.
        through_post_id: its id.
        rescore_from: the time from which on posts have changed since they were scored, UTC; None if none has.
        state: that of the e-process: another process may have made the scores again up to the same post.
    """

    through: datetime | None
    through_post_id: str | None
    rescore_from: datetime | None
    state: bytes

    @classmethod
    def of(cls, comparison: LiveComparison) -> Progress:
        """Return where a comparison stands."""
        return cls(comparison.through, comparison.through_post_id, comparison.rescore_from, comparison.state)


class PostScore(NamedTuple):
    """A row of `LiveScore`, without its comparison."""

    post_id: str
    created_at: datetime
    figures: list[float]
    other_figures: list[float]
    loss: float
    other_loss: float
    lose: float
    other_lose: float
    most: float


class Live(Scope):
    """The part of the registry about live scores."""

    def list_live_comparisons(
        self, model_type: ModelTypeName, fit: str | None = None, against: str | None = None
    ) -> list[LiveComparison]:
        """Return the comparisons of a type, newest first; only those of one live fit, or of one kind, if given."""
        query = select(LiveComparison).where(is_of(LiveComparison, self.key(model_type)))
        if fit is not None:
            query = query.where(LiveComparison.fit == fit)
        if against is not None:
            query = query.where(LiveComparison.against == against)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(LiveComparison.comparison_id.desc())))

    def get_live_comparison(self, comparison_id: int) -> LiveComparison:
        with self.database.read() as session:
            return session.get_one(LiveComparison, comparison_id)

    def add_live_comparison(self, comparison: LiveComparison, test_id: str | None = None) -> LiveComparison:
        """Record a comparison as current and return it; or the one that is there of the same sides with the same start.

        Args:
            test_id: the A/B test that is decided by it.
        """
        with self.database.write(durable=False) as session:  # it is made again if it is lost
            added = _add_live_comparison(session, comparison)
            if test_id is not None:
                query = update(ABTest).where(ABTest.test_id == test_id)
                session.execute(query.values(comparison_id=added.comparison_id))
            return added

    def use_live_comparison(self, comparison: LiveComparison) -> None:
        """Record that a comparison is again the current one of its fit and kind."""
        with self.database.write() as session:
            _make_current(session, comparison)

    def get_naive_model(self, comparison_id: int) -> bytes | None:
        """Return the naive forecast that is kept with a comparison, which may be large; None if there is none."""
        query = select(LiveComparison.naive_model).where(LiveComparison.comparison_id == comparison_id)
        with self.database.read() as session:
            return session.scalar(query)

    def keep_naive_model(self, comparison_id: int, model: bytes) -> None:
        """Keep the naive forecast that was fitted for a comparison again."""
        query = update(LiveComparison).where(LiveComparison.comparison_id == comparison_id)
        with self.database.write() as session:
            session.execute(query.values(naive_model=model))

    def get_run_of(self, version_id: str) -> TrainingRun | None:
        """Return the run that made a version; None for an imported version."""
        query = select(TrainingRun).where(TrainingRun.model_version_id == version_id).limit(1)
        with self.database.read() as session:
            return session.scalar(query)

    def get_run_and_rollback(self, version_id: str) -> tuple[datetime | None, datetime | None]:
        """Return what the live posts of a version depend on, by one query.

        Returns:
            The time as of which the run that made it saw the posts, None for an imported version; and when an automatic
            rollback last took it out of production, None if none did.
        """
        run = select(func.coalesce(TrainingRun.as_of, TrainingRun.started_at))
        run = run.where(TrainingRun.model_version_id == version_id).limit(1)
        query = select(run.scalar_subquery(), _last_rollback_from(version_id).scalar_subquery())
        with self.database.read() as session:
            run_as_of, rollback = session.execute(query).one()
        return run_as_of, rollback

    def list_current_live_comparisons(self, model_type: ModelTypeName | None = None) -> list[LiveComparison]:
        """Return the comparison of each kind that was used last, of the fits in production; None for both types."""
        fit = case(
            (ModelVersion.refit_id.is_(None), ModelVersion.version_id),
            else_=ModelVersion.version_id + "/" + ModelVersion.refit_id,
        )
        of_fit = and_(
            LiveComparison.stream == ModelVersion.stream,
            LiveComparison.model_type == ModelVersion.model_type,
            LiveComparison.fit == fit,
        )
        query = (
            select(LiveComparison)
            .join(ModelVersion, of_fit)
            .where(self.is_within(ModelVersion), ModelVersion.is_production)
            .where(LiveComparison.is_current)
            .order_by(ModelVersion.stream, ModelVersion.model_type.desc())  # SQLite begins with the table in order
        )
        if model_type is not None:
            query = query.where(ModelVersion.model_type == model_type)
        with self.database.read() as session:
            return list(session.scalars(query))

    def list_scored_versions(self, version_ids: Iterable[str | None]) -> list[LiveComparison]:
        """Return the comparisons of these versions with the naive forecast that have scores, one for each live fit."""
        one, ids = LiveComparison, {version_id for version_id in version_ids if version_id is not None}
        query = select(one).where(self.is_within(one), one.against == "naive", one.num_scored > 0)
        if len(ids) <= _MAX_PARAMETERS:  # of more, those of all versions are read
            query = query.where(one.version_id.in_(ids))
        with self.database.read() as session:
            return list(session.scalars(query.order_by(one.comparison_id)))

    def get_last_rollback_from(self, version_id: str) -> datetime | None:
        """Return when an automatic rollback last took a version out of production; None if none did."""
        with self.database.read() as session:
            return session.scalar(_last_rollback_from(version_id))

    def stream_live_scores(
        self, comparison_id: int, *, until: datetime | None = None, chunk_rows: int = _CHUNK_ROWS
    ) -> Iterator[list[PostScore]]:
        """Yield the scores of a comparison in order of (created_at, post_id), so that memory does not grow with them.

        Args:
            until: the last time of a post, UTC; None for all.
            chunk_rows: the maximum number of rows at once.
        """
        of_period = [LiveScore.comparison_id == comparison_id]
        if until is not None:
            of_period.append(LiveScore.created_at <= until)
        after: tuple[datetime, str] | None = None
        while True:
            conditions = of_period if after is None else [*of_period, _is_after(*after)]
            columns = [LiveScore.__table__.c[name] for name in PostScore._fields]  # rows, not objects: twice as fast
            query = select(*columns).where(*conditions).order_by(LiveScore.created_at, LiveScore.post_id)
            with self.database.read() as session:
                rows = [PostScore._make(row) for row in session.execute(query.limit(chunk_rows))]
            if rows:
                yield rows
            if len(rows) < chunk_rows:
                return
            after = rows[-1].created_at, rows[-1].post_id

    def list_latest_live_scores(self, comparison_id: int, until: datetime, count: int) -> list[PostScore]:
        """Return the scores of the latest posts of a comparison up to a time, in order of (created_at, post_id).

        Args:
            until: the last time of a post, UTC.
            count: the maximum number of scores.
        """
        of_period = (LiveScore.comparison_id == comparison_id, LiveScore.created_at <= until)
        columns = [LiveScore.__table__.c[name] for name in PostScore._fields]
        query = select(*columns).where(*of_period).order_by(LiveScore.created_at.desc(), LiveScore.post_id.desc())
        with self.database.read() as session:
            return [PostScore._make(row) for row in session.execute(query.limit(count))][::-1]


def _last_rollback_from(version_id: str) -> Select[datetime]:
    query = select(LedgerEntry.at).where(
        LedgerEntry.from_version_id == version_id, LedgerEntry.action == "rollback", LedgerEntry.automatic
    )
    return query.order_by(LedgerEntry.entry_id.desc()).limit(1)


def _add_live_comparison(session: Session, comparison: LiveComparison) -> LiveComparison:
    key = ("stream", "model_type", "fit", "against", "other_fit", "origin", "starts_after")
    same = and_(*(getattr(LiveComparison, name) == getattr(comparison, name) for name in key))
    found = session.scalar(select(LiveComparison).where(same))
    if found is None:
        session.add(comparison)
        session.flush()
        found = comparison
    _make_current(session, found)
    return found


def _make_current(session: Session, comparison: LiveComparison) -> None:
    """Make a comparison the only current one of its fit and kind, and delete the naive forecasts of all others.

    They may be large, and are fitted again if they are needed again.
    """
    one = LiveComparison
    of_kind = is_of(one, comparison.model_key) & (one.against == comparison.against)
    is_this, is_of_fit = one.comparison_id == comparison.comparison_id, one.fit == comparison.fit
    others = update(one).where(of_kind, ~is_this, is_of_fit | one.naive_model.is_not(None))
    others = others.values(is_current=one.is_current & ~is_of_fit, naive_model=None)
    session.execute(others, execution_options=PLAIN)
    if not comparison.is_current:
        session.execute(update(one).where(is_this).values(is_current=True), execution_options=PLAIN)
        set_committed_value(comparison, "is_current", True)


def append_live_scores(
    session: Session,
    comparison: LiveComparison,
    scores: Sequence[PostScore],
    totals: Mapping[str, object],
) -> bool:
    """Append scores in order, in a transaction, if the comparison still stands where it stood when it was read.

    Args:
        comparison: as it was read before the scores were made.
        scores: the new ones, later than all others.
        totals: the new values of `through`, `num_scored`, `sums`, `state` and so on.

    Returns:
        False if the comparison was changed meanwhile: nothing was written.
    """
    if not _update_if_unchanged(session, comparison, totals):
        return False
    if scores:
        values = [{"comparison_id": comparison.comparison_id, **score._asdict()} for score in scores]
        session.execute(insert(LiveScore), values)
    return True


def cut_live_scores(
    session: Session, comparison: LiveComparison, after: tuple[datetime, str] | None, totals: Mapping[str, object]
) -> bool:
    """Delete the scores of later posts than one, so that they are made again, and forget that posts have changed.

    Args:
        comparison: as it was read before.
        after: time and id of the last post whose score remains; None for none.
        totals: the values of `num_scored`, `sums`, `state` and so on without the deleted scores.

    Returns:
        False if the comparison was changed meanwhile: nothing was written.
    """
    time, post_id = after or (None, None)
    values = {**totals, "through": time, "through_post_id": post_id, "rescore_from": None}
    if not _update_if_unchanged(session, comparison, values):
        return False
    later = delete(LiveScore).where(LiveScore.comparison_id == comparison.comparison_id)
    session.execute(later if after is None else later.where(_is_after(*after)))
    return True


def find_scored_streams(connection: Connection, streams: Iterable[str]) -> Iterator[str]:
    """Yield those of some streams that have comparisons."""
    names = list(streams)
    for start in range(0, len(names), _MAX_PARAMETERS):
        some = names[start : start + _MAX_PARAMETERS]
        query = select(LiveComparison.stream).where(LiveComparison.stream.in_(some)).distinct()
        yield from connection.scalars(query).all()


def mark_posts_changed(
    connection: Connection, stream: str, since: datetime, model_types: Sequence[ModelTypeName]
) -> None:
    """Record, in the transaction that changes posts, that scores of posts from a time on are to be made again.

    States of fits that know such posts are deleted.

    Args:
        since: the earliest time, before or after, of the posts that were added, deleted, changed or moved.
        model_types: the types that see a difference.
    """
    known = func.coalesce(LiveComparison.through, LiveComparison.starts_after)
    scored = (LiveComparison.stream == stream) & (known >= since)
    is_later = or_(LiveComparison.rescore_from.is_(None), LiveComparison.rescore_from > since)
    query = update(LiveComparison).where(scored, is_later, LiveComparison.model_type.in_(model_types))
    connection.execute(query.values(rescore_from=since))
    drop_forecast_states(connection, stream, since, model_types)


def _update_if_unchanged(session: Session, comparison: LiveComparison, values: Mapping[str, object]) -> bool:
    stands = [
        getattr(LiveComparison, name).is_not_distinct_from(value)
        for name, value in Progress.of(comparison)._asdict().items()
    ]
    same = LiveComparison.comparison_id == comparison.comparison_id
    query = update(LiveComparison).where(same, *stands).values(values)
    return session.execute(query.returning(LiveComparison.comparison_id), execution_options=PLAIN).first() is not None


def _is_after(time: datetime, post_id: str) -> ColumnElement[bool]:
    same_time = (LiveScore.created_at == time) & (LiveScore.post_id > post_id)
    return (LiveScore.created_at > time) | same_time
