"""The documents of versions, and of the decisions about them."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import (
    PREVIOUS_VERSION_ID,
    DescribedBy,
    Document,
    RunId,
    StreamName,
    Timestamp,
    VersionId,
)
from retrainer.render.documents.evaluations import FiguresDocument, ModelEvaluationDocument
from retrainer.render.documents.explanations import ExplanationDocument, ImportanceDocument
from retrainer.streams import stream_argument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer import algorithms
    from retrainer.live.summary import Score
    from retrainer.model_types import base
    from retrainer.pipeline.retention import Prunable
    from retrainer.registry import tables
    from retrainer.registry.promotions import Change


class VersionDocument(Document):
    """One trained model."""

    version_id: VersionId
    stream: StreamName
    model_type: ModelTypeName
    algorithm: str = Field(examples=["prophet"])
    trained_at: Timestamp
    status: Literal["trained", "active", "archived", "failed"] = Field(examples=["active"])
    is_production: bool = Field(examples=[True])
    promoted_at: Timestamp | None = Field(examples=["2025-11-06T12:05:00Z"])
    num_training_samples: int = Field(examples=[298])
    training_duration_seconds: float = Field(examples=[12.5])
    trained_through: Timestamp = Field(examples=["2025-08-14T09:31:12Z"])
    trained_through_post_id: str = Field(examples=["115026551"])
    num_refit_samples: int | None = Field(
        examples=[373], description="The posts that the live fit was fitted to; null if the evaluated fit is live."
    )
    refit_through: Timestamp | None = Field(
        examples=["2025-11-06T11:58:40Z"], description="The last of them; null likewise."
    )
    refit_through_post_id: str | None = Field(examples=["115498321"])
    hyperparameters: dict[str, Any] = Field(examples=[{}])
    file_path: str = Field(examples=["models/timing/prophet_timing_20251106_120000_a3f2"])
    pinned: bool = Field(examples=[False])
    pruned_at: Timestamp | None = Field(examples=[None])


class ProductionDocument(Document):
    """The production version of each model type of a stream; null if there is none."""

    stream: StreamName
    timing_model: VersionDocument | None
    content_model: VersionDocument | None = Field(examples=[None])

    @classmethod
    def from_rows(cls, rows: "Mapping[ModelTypeName, tables.ModelVersion | None]", stream: str) -> Self:
        return cls.model_validate({"stream": stream, **{f"{name}_model": row for name, row in rows.items()}})


class ProductionsDocument(Document):
    """The production versions of several streams; those without any are left out."""

    streams: list[ProductionDocument]
    count: int = Field(examples=[1], description="The number of streams with a production version.")

    @classmethod
    def from_rows(cls, rows: "Sequence[tables.ModelVersion]") -> Self:
        found: dict[str, dict[str, tables.ModelVersion | str | None]] = {}
        for row in rows:
            stream = found.setdefault(row.stream, {"stream": row.stream, "timing_model": None, "content_model": None})
            stream[f"{row.model_type}_model"] = row
        return cls.model_validate({"streams": [found[name] for name in sorted(found)], "count": len(found)})


class VersionsDocument(Document):
    """Versions, newest first."""

    versions: list[VersionDocument]
    count: int = Field(examples=[1])

    @classmethod
    def from_rows(cls, rows: "Sequence[tables.ModelVersion]") -> Self:
        return cls.model_validate({"versions": rows, "count": len(rows)})


class DecisionDocument(Document):
    """One entry of the ledger."""

    at: Timestamp
    recorded_at: Timestamp
    stream: StreamName
    model_type: ModelTypeName
    action: str = Field(examples=["promotion"])
    version_id: VersionId | None
    from_version_id: VersionId | None = Field(examples=[PREVIOUS_VERSION_ID])
    to_version_id: VersionId | None
    actor: str = Field(examples=["retrainer@server"])
    automatic: bool = Field(examples=[True])
    reason: str = Field(examples=["New model is 5.5% better"])
    run_id: RunId | None
    evidence: Annotated[dict[str, Any], DescribedBy(FiguresDocument)]
    refit_through: Timestamp | None = Field(
        examples=["2025-11-06T11:58:40Z"], description="The last post that the live fit knows."
    )


class VersionLifeDocument(VersionDocument):
    """One version with its evaluations and the decisions about it, newest first."""

    evaluations: list[ModelEvaluationDocument]
    ledger: list[DecisionDocument]
    importance: list[ImportanceDocument] = Field(description="Feature importance, if the algorithm reports it.")
    explanation: ExplanationDocument | None = Field(
        None, description="The latest result of `retrainer explain`; null without any."
    )
    live_score: float | None = Field(None, examples=[0.6981], description="Score on live posts.")
    num_live_posts: int | None = Field(None, examples=[412])

    @classmethod
    def from_rows(
        cls,
        version: "tables.ModelVersion",
        evaluations: "Sequence[tuple[tables.ModelEvaluation, Sequence[base.Reliability]]]",
        entries: "Sequence[tables.LedgerEntry]",
        importance: "Sequence[algorithms.Importance]",
        live: "Score | None" = None,
        explanation: "tables.ModelExplanation | None" = None,
    ) -> Self:
        documents = [ModelEvaluationDocument.from_row(row, reliability) for row, reliability in evaluations]
        return cls.build(
            version,
            evaluations=documents,
            ledger=entries,
            importance=importance,
            explanation=explanation and ExplanationDocument.from_row(explanation),
            live_score=live and live.score,
            num_live_posts=live and live.num_posts,
        )


class ChangedDocument(Document):
    """The result of a promotion or rollback."""

    status: Literal["success"]
    message: str = Field(examples=["Model prophet_timing_20251106_120000_a3f2 promoted to production"])
    stream: StreamName
    version_id: VersionId
    from_version_id: VersionId | None = Field(examples=[PREVIOUS_VERSION_ID])
    changed: bool = Field(examples=[True])

    @classmethod
    def from_promotion(cls, change: "Change | None", version_id: str, stream: str) -> Self:
        """Build the document of a promotion; without a change, the version was in production already."""
        return cls(
            status="success",
            stream=stream,
            message=f"Model {version_id} {'promoted to' if change else 'is already in'} production",
            version_id=version_id,
            from_version_id=change.from_version if change else None,
            changed=change is not None,
        )

    @classmethod
    def from_rollback(cls, change: "Change", *, hold: bool, several: bool) -> Self:
        """Build the document of a rollback.

        Args:
            hold: whether it puts automatic promotion on hold.
            several: whether the stream is one of several.
        """
        message = f"Rolled back from {change.from_version} to {change.to_version}"
        if hold:
            release = f"retrainer release {change.model_type}{stream_argument(change.stream, several=several)}"
            message += f"; automatic promotion is on hold until `{release}`"
        return cls(
            status="success",
            stream=change.stream,
            message=message,
            version_id=change.to_version,
            from_version_id=change.from_version,
            changed=True,
        )


class PrunedVersionDocument(Document):
    """An archived version, and what deleting its files frees."""

    version_id: str
    stream: str
    bytes_on_disk: int
    bytes_in_database: int


class PrunedDocument(Document):
    """The versions whose files were deleted, or would be."""

    dry_run: bool
    versions: list[PrunedVersionDocument]
    count: int

    @classmethod
    def from_result(cls, prunable: "Sequence[Prunable]", *, dry_run: bool) -> Self:
        versions = [
            PrunedVersionDocument.build(item, version_id=item.version.version_id, stream=item.version.stream)
            for item in prunable
        ]
        return cls(dry_run=dry_run, versions=versions, count=len(versions))
