"""The document of streams."""

from typing import TYPE_CHECKING, Self

from pydantic import Field

from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import Document, RunId, StreamName, Timestamp, VersionId
from retrainer.render.documents.status import HoldDocument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.overview import ModelOverview, StreamOverview


class LastFailureDocument(Document):
    """The latest run of a model, which failed."""

    run_id: RunId
    started_at: Timestamp
    error: str | None = Field(examples=["Not enough posts: 12 of 50"])


class StreamModelDocument(Document):
    """One model type of a stream."""

    model_type: ModelTypeName
    enabled: bool = Field(examples=[True], description="Whether it is retrained.")
    version_id: VersionId | None = Field(description="The production version.")
    algorithm: str | None = Field(examples=["prophet"], description="The algorithm of the production version.")
    live_since: Timestamp | None = Field(description="When the production version was promoted.")
    score: float | None = Field(
        examples=[0.6735], description="The overall score of the latest evaluation of the production version."
    )
    skill: float | None = Field(examples=[0.112], description="Gain of that score over the naive forecast's.")
    is_due: bool = Field(examples=[False], description="Whether the next run is due.")
    due_why: str = Field(
        examples=["the last run was 2.0 days ago (schedule_days is 7)"], description="Why the next run is due, or not."
    )
    hold: HoldDocument | None = Field(examples=[None])
    last_failure: LastFailureDocument | None = Field(
        examples=[None], description="The latest run, if it failed; null if it completed."
    )

    @classmethod
    def from_overview(cls, model: "ModelOverview") -> Self:
        live = model.live
        return cls.build(
            model,
            version_id=live.version_id if live else None,
            algorithm=live.algorithm if live else None,
            live_since=live.promoted_at if live else None,
            score=live.score if live else None,
            is_due=model.due.is_due,
            due_why=model.due.why,
            last_failure=model.failure,
        )


class StreamDocument(Document):
    """One stream: its posts and its models."""

    stream: StreamName
    posts: int = Field(examples=[373])
    newest_at: Timestamp | None = Field(description="The time of the newest post.")
    models: list[StreamModelDocument]

    @classmethod
    def from_overview(cls, one: "StreamOverview") -> Self:
        return cls.build(one, models=[StreamModelDocument.from_overview(model) for model in one.models])


class StreamsDocument(Document):
    """Streams, each with those of its models that were asked for."""

    streams: list[StreamDocument]
    count: int = Field(examples=[1])
    total: int = Field(examples=[1], description="The number of streams that match, on all pages.")

    @classmethod
    def from_overviews(cls, streams: "Sequence[StreamOverview]", total: int) -> Self:
        documents = [StreamDocument.from_overview(one) for one in streams]
        return cls(streams=documents, count=len(documents), total=total)
