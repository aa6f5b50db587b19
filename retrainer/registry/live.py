"""The registry's live comparisons and their scores, brought up to date by `retrainer.live.update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, delete, func, insert, or_, select, update

from retrainer.registry.queries import is_of
from retrainer.registry.refits import fit_name
from retrainer.registry.scope import Scope
from retrainer.registry.tables import LiveComparison, LiveScore, ModelVersion, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName
    from retrainer.streams import ModelKey

_CHUNK_ROWS = 2_000


class Progress(NamedTuple):
    """Where a comparison stands: what `LiveComparison` has in the columns of these names.

    Attributes:
        through: the time of the last post that was looked at, UTC; None before the first.
        through_post_id: its id.
        rescore_from: the time from which on posts have changed since they were scored, UTC; None if none has.
    """

    through: datetime | None
    through_post_id: str | None
    rescore_from: datetime | None

    @classmethod
    def of(cls, comparison: LiveComparison) -> Progress:
        """Return where a comparison stands."""
        return cls(comparison.through, comparison.through_post_id, comparison.rescore_from)


class Live(Scope):
    """The part of the registry about live scores."""

    def list_live_comparisons(self, model_type: ModelTypeName, fit: str | None = None) -> list[LiveComparison]:
        """Return the comparisons of a type, or those of one live fit, newest first."""
        query = select(LiveComparison).where(is_of(LiveComparison, self.key(model_type)))
        if fit is not None:
            query = query.where(LiveComparison.fit == fit)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(LiveComparison.comparison_id.desc())))

    def list_current_live_comparisons(self) -> dict[ModelKey, list[LiveComparison]]:
        """Return the comparisons of the live fits of the streams, by model: the newest against each forecaster."""
        query = select(LiveComparison, ModelVersion).join(
            ModelVersion, LiveComparison.version_id == ModelVersion.version_id
        )
        query = query.where(ModelVersion.is_production, self.is_within(LiveComparison))
        found: dict[ModelKey, dict[str, LiveComparison]] = {}
        with self.database.read() as session:
            for comparison, version in session.execute(query.order_by(LiveComparison.comparison_id.desc())):
                if comparison.fit == fit_name(version.version_id, version.refit):
                    found.setdefault(version.model_key, {}).setdefault(comparison.against, comparison)
        return {key: list(comparisons.values()) for key, comparisons in found.items()}

    def get_live_comparison(self, comparison_id: int) -> LiveComparison | None:
        """Return a comparison; None if there is none of this id."""
        with self.database.read() as session:
            return session.get(LiveComparison, comparison_id)

    def add_live_comparison(self, comparison: LiveComparison) -> LiveComparison:
        """Record a comparison and return it; or the one that is there of the same sides with the same start."""
        with self.database.write() as session:
            return add_live_comparison(session, comparison)

    def read_naive_model(self, comparison_id: int) -> bytes | None:
        """Return the naive forecast that was fitted for a comparison."""
        query = select(LiveComparison.naive_model).where(LiveComparison.comparison_id == comparison_id)
        with self.database.read() as session:
            return session.scalar(query)

    def get_run_of(self, version_id: str) -> TrainingRun | None:
        """Return the run that made a version; None for an imported version."""
        query = select(TrainingRun).where(TrainingRun.model_version_id == version_id).limit(1)
        with self.database.read() as session:
            return session.scalar(query)

    def stream_live_scores(
        self,
        comparison_id: int,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        chunk_rows: int = _CHUNK_ROWS,
    ) -> Iterator[list[LiveScore]]:
        """Yield the scores of a comparison in order of (created_at, post_id), so that memory does not grow with them.

        Args:
            since: the first time of a post, UTC; None for all.
            until: the last time of a post, UTC; None for all.
        """
        of_period = [LiveScore.comparison_id == comparison_id]
        if since is not None:
            of_period.append(LiveScore.created_at >= since)
        if until is not None:
            of_period.append(LiveScore.created_at <= until)
        after: tuple[datetime, str] | None = None
        while True:
            conditions = of_period if after is None else [*of_period, _is_after(*after)]
            query = select(LiveScore).where(*conditions).order_by(LiveScore.created_at, LiveScore.post_id)
            with self.database.read() as session:
                scores = list(session.scalars(query.limit(chunk_rows)))
            if scores:
                yield scores
            if len(scores) < chunk_rows:
                return
            after = scores[-1].created_at, scores[-1].post_id

    def count_live_scores(self, comparison_id: int, until: datetime) -> int:
        """Count the scores of a comparison up to the time of a post."""
        query = select(func.count()).where(LiveScore.comparison_id == comparison_id, LiveScore.created_at <= until)
        with self.database.read() as session:
            return session.scalar(query) or 0


def add_live_comparison(session: Session, comparison: LiveComparison) -> LiveComparison:
    """Add a comparison in a transaction; or return the one that is there of the same sides with the same start."""
    key = ("stream", "model_type", "fit", "against", "other_fit", "origin", "starts_after")
    same = and_(*(getattr(LiveComparison, name) == getattr(comparison, name) for name in key))
    found = session.scalar(select(LiveComparison).where(same))
    if found is not None:
        return found
    session.add(comparison)
    session.flush()
    return comparison


def append_live_scores(
    session: Session,
    comparison: LiveComparison,
    scores: Sequence[LiveScore],
    state: bytes,
    through: tuple[datetime, str],
) -> bool:
    """Append scores in order, in a transaction, if the comparison still stands where it stood when it was read.

    Args:
        comparison: as it was read before the scores were made.
        scores: the new ones, later than all others.
        state: of the e-process with them.
        through: time and id of the last post that was looked at, whether it could be scored or not.

    Returns:
        False if it was changed meanwhile: nothing was written.
    """
    values = {
        "through": through[0],
        "through_post_id": through[1],
        "num_scored": LiveComparison.num_scored + len(scores),
        "state": state,
    }
    if not _update_if_unchanged(session, comparison, values):
        return False
    if scores:
        columns = [column.key for column in LiveScore.__mapper__.column_attrs]
        session.execute(insert(LiveScore), [{name: getattr(score, name) for name in columns} for score in scores])
    return True


def cut_live_scores(
    session: Session,
    comparison: LiveComparison,
    after: tuple[datetime, str] | None,
    state: bytes,
    num_scored: int,
) -> bool:
    """Delete the scores of later posts than one, so that they are made again, and forget that posts have changed.

    Args:
        comparison: as it was read before.
        after: time and id of the last post whose score remains; None for none.
        state: of the e-process without the deleted ones.
        num_scored: how many remain.

    Returns:
        False if the comparison was changed meanwhile: nothing was written.
    """
    time, post_id = after or (None, None)
    values = {
        "through": time,
        "through_post_id": post_id,
        "rescore_from": None,
        "num_scored": num_scored,
        "state": state,
    }
    if not _update_if_unchanged(session, comparison, values):
        return False
    later = delete(LiveScore).where(LiveScore.comparison_id == comparison.comparison_id)
    session.execute(later if after is None else later.where(_is_after(*after)))
    return True


def mark_posts_changed(session: Session, stream: str, since: datetime) -> None:
    """Record, in the transaction that changes posts, that scores of posts from a time on are to be made again.

    Args:
        since: the earliest time, before or after, of the posts that were added, deleted, changed or moved.
    """
    scored = (LiveComparison.stream == stream) & (LiveComparison.through >= since)
    is_later = or_(LiveComparison.rescore_from.is_(None), LiveComparison.rescore_from > since)
    session.execute(update(LiveComparison).where(scored, is_later).values(rescore_from=since))


def _update_if_unchanged(session: Session, comparison: LiveComparison, values: Mapping[str, object]) -> bool:
    stands = [
        getattr(LiveComparison, name).is_not_distinct_from(value)
        for name, value in Progress.of(comparison)._asdict().items()
    ]
    same = LiveComparison.comparison_id == comparison.comparison_id
    query = update(LiveComparison).where(same, *stands).values(values)
    options = {"synchronize_session": False}
    return session.execute(query.returning(LiveComparison.comparison_id), execution_options=options).first() is not None


def _is_after(time: datetime, post_id: str) -> ColumnElement[bool]:
    same_time = (LiveScore.created_at == time) & (LiveScore.post_id > post_id)
    return (LiveScore.created_at > time) | same_time
