"""The documents of forecasts of the next post."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from retrainer.render.documents.base import Bounds, Document, Timestamp, VersionId

if TYPE_CHECKING:
    from retrainer.pipeline.forecast import NextPost


class IntervalDocument(Document):
    """The interval that holds the next post with the probability `level`, in hours from now."""

    level: float = Field(examples=[0.8])
    hours: Bounds = Field(examples=[[0.4, 11.6]])


class _NextPostDocument(Document):
    model_type: str
    version_id: VersionId
    made_at: Timestamp = Field(examples=["2025-11-06T12:10:00Z"])
    last_post_at: Timestamp = Field(examples=["2025-11-06T11:12:00Z"])
    next_post_at: Timestamp = Field(examples=["2025-11-06T14:40:00Z"])


class NextTimingDocument(_NextPostDocument):
    """When the next post comes."""

    model_type: Literal["timing"]
    point_hours: float = Field(examples=[2.5])
    median_hours: float = Field(examples=[3.1])
    interval: IntervalDocument
    probability: dict[str, float] = Field(examples=[{"within_6h": 0.71, "within_12h": 0.88, "within_24h": 0.97}])


class NextContentDocument(_NextPostDocument):
    """What the next post says."""

    model_type: Literal["content"]
    version_id: VersionId = Field(examples=["claude_api_content_20251106_120530_b4e9"])
    text: str | None = Field(examples=["The first frost is here. Time to bring the pots inside."])
    outcome: str | None = Field(examples=["ok"])
    tokens: int | None = Field(examples=[1240])
    cost_usd: float | None = Field(examples=[0.0041])


def next_post_document(forecast: "NextPost") -> NextTimingDocument | NextContentDocument:
    """Build the document of a forecast of either model type."""
    if forecast.model_type == "content":
        return NextContentDocument.model_validate(forecast)
    interval = {"level": forecast.interval_level, "hours": list(forecast.interval_hours or ())}
    probability = {f"within_{hours}h": share for hours, share in (forecast.probability or {}).items()}
    return NextTimingDocument.build(forecast, interval=interval, probability=probability)
