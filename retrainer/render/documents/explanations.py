"""The documents of what the forecasts of a version depend on."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from retrainer.render.documents.base import Bounds, DescribedBy, Document, Timestamp, VersionId
from retrainer.render.documents.evaluations import WindowDocument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer import algorithms
    from retrainer.registry import tables


class ImportanceDocument(Document):
    """How much one input matters to a version's forecasts."""

    label: str = Field(examples=["hour of the week"])
    value: float = Field(examples=[0.31], description="How much it matters, or what was learned about it.")
    unit: str = Field(examples=["bits a post"])
    note: str = Field(examples=["busiest Tuesday 14:00, quietest Sunday 04:00"])


class WorthDocument(Document):
    """How much better the forecasts are with a part than without, by a metric."""

    value: float = Field(
        examples=[0.031], description="Positive if the forecasts are better with the part, for CRPS too."
    )
    interval: Bounds | None = Field(examples=[[0.012, 0.049]], description="The 95% interval.")


class WorthsDocument(Document):
    """What a part is worth, by metric."""

    overall_score: WorthDocument
    lift: WorthDocument | None = Field(None, description="Content only.")
    crps_hours: WorthDocument | None = Field(None, description="Timing only.")


class PartWorthDocument(Document):
    """What a part of the context, or an input, is worth."""

    name: str = Field(examples=["last_posts"])
    label: str = Field(examples=["the last posts"])
    num_predictions: int = Field(examples=[20], description="The number of posts on which it was measured.")
    worth: WorthsDocument | None = Field(description="null if it could not be measured.")
    problem: str = Field(examples=[""], description="Why it could not be measured.")


class ExplainedMetricsDocument(Document):
    """The metrics of the full forecasts."""

    overall_score: float = Field(examples=[0.4312])
    lift: float | None = Field(None, examples=[0.0181], description="Content only.")
    crps_hours: float | None = Field(None, description="Timing only.")


class ExplanationDocument(Document):
    """What the forecasts of a version depend on."""

    explanation_id: str = Field(examples=["explanation_20251107_090000_5b1e"])
    version_id: VersionId
    explained_at: Timestamp
    method: Literal["left_out", "permuted"] = Field(
        description="Content: a part of the context is left out. Timing: an input is taken from another forecast."
    )
    window: Annotated[dict[str, Any], DescribedBy(WindowDocument)]
    num_predictions: int = Field(examples=[20])
    metrics: Annotated[dict[str, Any], DescribedBy(ExplainedMetricsDocument)]
    parts: Annotated[list[Any], DescribedBy(list[PartWorthDocument])]
    seed: int | None = Field(examples=[None], description="The seed of the permutations.")
    cost_usd: float = Field(examples=[0.0123])
    problem: str = Field(examples=[""], description="Why parts are missing; empty if none are.")

    @classmethod
    def from_row(cls, row: "tables.ModelExplanation") -> Self:
        return cls.build(row, version_id=row.model_version_id)


class ExplainedVersionDocument(ExplanationDocument):
    """The result of `explain`, with the algorithm's own feature importance."""

    importance: list[ImportanceDocument] = Field(description="Feature importance, if the algorithm reports it.")

    @classmethod
    def from_result(cls, row: "tables.ModelExplanation", importance: "Sequence[algorithms.Importance]") -> Self:
        return cls.build(row, version_id=row.model_version_id, importance=importance)
