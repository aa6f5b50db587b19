"""The tables of live scores and A/B tests. `retrainer.registry.tables` has all others."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  SQLAlchemy evaluates the annotations
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from retrainer.registry.tables import PREFIX, Base, ModelVersion, Numbers, OfModel, PlainText, one_of

COMPARED_WITH = ("naive", "previous", "challenger")
AB_TEST_STATUSES = ("running", "ended")


class LiveComparison(OfModel, Base):
    """A live fit beside another forecaster on live posts: those later than all posts that either of them knows.

    `fit` is `VERSION` for an evaluated fit and `VERSION/REFIT_ID` for one that was fitted again. `state` is that of the
    e-process, and like `num_scored` and the sums always agrees with the rows of `LiveScore`.
    """

    __tablename__ = f"{PREFIX}live_comparisons"

    comparison_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id))
    fit: Mapped[str] = mapped_column(Text)
    refit: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    against: Mapped[str] = mapped_column(String(20))
    other_version_id: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))  # NULL for naive
    other_fit: Mapped[str] = mapped_column(Text)  # `naive` for naive
    other_refit: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    origin: Mapped[str] = mapped_column(String(20))
    spacing_hours: Mapped[float | None]  # of clock origins, counted from the start
    starts_after: Mapped[datetime]  # the time of the last post that is not live …
    starts_after_post_id: Mapped[str | None] = mapped_column(Text)  # … and its id; NULL: all posts of that time
    created_at: Mapped[datetime]
    is_current: Mapped[bool] = mapped_column(default=True)  # used last of those of its fit and kind
    through: Mapped[datetime | None]  # the time of the last post that was looked at …
    through_post_id: Mapped[str | None] = mapped_column(Text)  # … and its id
    rescore_from: Mapped[datetime | None]  # posts changed: scores from this time on are to be made again
    posts_digest: Mapped[bytes | None] = mapped_column(LargeBinary)  # of the posts of a foreign table up to `through`
    num_scored: Mapped[int] = mapped_column(default=0)
    sums: Mapped[list[Any]] = mapped_column(default=list)  # of `figures` over all scores; none without scores
    other_sums: Mapped[list[Any]] = mapped_column(default=list)
    state: Mapped[bytes] = mapped_column(LargeBinary)
    naive_model: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # fitted to the posts to the start

    __table_args__ = (
        CheckConstraint(one_of("against", COMPARED_WITH), name="ck_retrainer_live_comparisons_against"),
        Index(
            "uq_retrainer_live_comparisons",
            "stream",
            "model_type",
            "fit",
            "against",
            "other_fit",
            "origin",
            "starts_after",
            unique=True,
        ),
    )


class LiveScore(Base):
    """The scores of both sides of a live comparison on one post, of which `figures` has the components.

    With clock origins, the post is forecast from the first one in the gap before it.
    """

    __tablename__ = f"{PREFIX}live_scores"

    comparison_id: Mapped[int] = mapped_column(ForeignKey(LiveComparison.comparison_id), primary_key=True)
    post_id: Mapped[str] = mapped_column(PlainText, primary_key=True)
    created_at: Mapped[datetime]  # of the post
    # of the live fit: the score components, for timing followed by crps_hours, covered, pit
    figures: Mapped[list[float]] = mapped_column(Numbers)
    other_figures: Mapped[list[float]] = mapped_column(Numbers)
    loss: Mapped[float]  # these five as in `Stakes`
    other_loss: Mapped[float]
    lose: Mapped[float]
    other_lose: Mapped[float]
    most: Mapped[float]

    __table_args__ = (Index("ix_retrainer_live_scores_created_at", "comparison_id", "created_at", "post_id"),)


class ABTest(OfModel, Base):
    """A test of a challenger against production on live posts."""

    __tablename__ = f"{PREFIX}ab_tests"

    test_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id))  # production at the start
    challenger_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id))
    started_at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    share: Mapped[float]  # the percentage of callers that the challenger answers
    max_posts: Mapped[int]
    level: Mapped[float]
    max_cost: Mapped[float | None]  # US dollars a side
    comparison_id: Mapped[int | None] = mapped_column(ForeignKey(LiveComparison.comparison_id))
    status: Mapped[str] = mapped_column(String(20), default="running")
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint(one_of("status", AB_TEST_STATUSES), name="ck_retrainer_ab_tests_status"),
        Index(
            "uq_retrainer_ab_tests_running",
            "stream",
            "model_type",
            unique=True,
            sqlite_where=text("status = 'running'"),
        ),
        Index("ix_retrainer_ab_tests_started_at", "stream", "model_type", "started_at"),
    )


class LiveForecast(OfModel, Base):
    """A paid forecast of content that was made for a caller, kept so that it can be scored."""

    __tablename__ = f"{PREFIX}live_forecasts"

    forecast_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id))
    fit: Mapped[str] = mapped_column(Text)
    last_post_id: Mapped[str] = mapped_column(Text)  # the last post that it knew …
    last_post_at: Mapped[datetime]  # … and its time
    made_at: Mapped[datetime]
    target_time: Mapped[datetime]
    post_id: Mapped[str | None] = mapped_column(Text)  # for which an A/B test had it made; NULL if it was served
    forecast: Mapped[dict[str, Any]]

    __table_args__ = (Index("ix_retrainer_live_forecasts_fit", "stream", "model_type", "fit", "last_post_at"),)


class ForecastState(OfModel, Base):
    """The posts up to one, condensed by the algorithm of a fit to what its later forecasts need."""

    __tablename__ = f"{PREFIX}forecast_states"

    fit: Mapped[str] = mapped_column(Text, primary_key=True)
    format: Mapped[int]  # the `state_format` of the algorithm
    through: Mapped[datetime]  # the time of the last post that it knows …
    through_post_id: Mapped[str] = mapped_column(Text)  # … and its id
    good_for: Mapped[int]  # so many more posts; then there should be a new one
    data: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (Index("ix_retrainer_forecast_states_stream", "stream", "model_type"),)
