"""The documents of evaluations and comparisons: scores on posts that no version was trained on."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field

from retrainer.render.documents.base import (
    PREVIOUS_VERSION_ID,
    Absent,
    Bounds,
    DescribedBy,
    Document,
    RunId,
    Timestamp,
    VersionId,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.evaluation import comparison, evaluate
    from retrainer.model_types import base
    from retrainer.registry import tables


_PREVIOUS_METRICS = {"overall_score": 0.6753, "mae_hours": 9.12, "within_6h_accuracy": 0.59}


class MetricsDocument(Document):
    """The metrics of some forecasts: those of their model type, and those that a plugin adds."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    overall_score: float = Field(examples=[0.7123])
    num_predictions: int | Absent = Field(None, examples=[20], description="The number of forecasts that were scored.")
    mae_hours: float | Absent = Field(None, examples=[8.45])
    rmse_hours: float | Absent = Field(None, examples=[12.6])
    median_error_hours: float | Absent = None
    within_6h_accuracy: float | Absent = Field(None, examples=[0.625], description="Share within 6 hours of the point.")
    within_12h_accuracy: float | Absent = Field(None, examples=[0.78], description="Share within 12 hours.")
    within_24h_accuracy: float | Absent = Field(None, examples=[0.93], description="Share within 24 hours.")
    crps_hours: float | Absent = None
    interval_coverage: float | Absent = Field(None, description="Share of waits in the 80% interval.")
    length_similarity: float | Absent = None
    word_overlap: float | Absent = None
    skill: float | Absent = Field(None, description="Gain of the overall score over the naive forecast's.")
    crps_skill: float | Absent = Field(None, description="Gain of the CRPS over the naive forecast's.")


class WindowDocument(Document):
    """The posts that were forecast, and the origins of the forecasts."""

    start: Timestamp = Field(examples=["2025-08-14T09:31:12Z"], description="The first post that could be forecast.")
    end: Timestamp = Field(examples=["2025-11-06T11:12:00Z"], description="The last one.")
    posts: int = Field(examples=[75], description="The number of posts in the window.")
    origin: Literal["post", "clock"] = Field(
        description="Whether forecasts are made right after each post, or at evenly spaced times."
    )


class NaiveDocument(Document):
    """The naive forecast on the same posts."""

    metrics: Annotated[dict[str, Any] | None, DescribedBy(MetricsDocument | None)] = Field(
        examples=[{"overall_score": 0.4127, "mae_hours": 15.3, "within_6h_accuracy": 0.43}]
    )


class ReliabilityDocument(Document):
    """A stated probability beside the observed share."""

    what: str = Field(examples=["post within 6 h"])
    stated: float = Field(examples=[0.62], description="The probability, or the mean of those stated.")
    observed: float = Field(examples=[0.58], description="The share of forecasts for which it came true.")
    num_predictions: int = Field(examples=[20])


class TimingPredictionDocument(Document):
    """One forecast of a wait, in hours, and the actual wait."""

    post_id: str = Field(examples=["115026551"])
    point_hours: float = Field(examples=[2.5])
    median_hours: float = Field(examples=[3.1])
    interval_hours: Bounds = Field(examples=[[0.4, 11.6]], description="The 80% interval.")
    actual_hours: float = Field(examples=[4.2])


class ContentPredictionDocument(Document):
    """One forecast of a text, and the actual text."""

    post_id: str = Field(examples=["115026551"])
    text: str | None = Field(examples=["The first frost is here. Time to bring the pots inside."])
    outcome: str = Field(examples=["ok"])
    actual: str = Field(examples=["First frost tonight. The pots are inside."])


class EvaluationDocument(Document):
    """The scores of a model on a window of posts that it was not trained on."""

    version_id: VersionId | None
    metrics: Annotated[dict[str, Any], DescribedBy(MetricsDocument)]
    baseline: NaiveDocument
    num_predictions: int
    window: Annotated[dict[str, Any], DescribedBy(WindowDocument)]
    reliability: list[ReliabilityDocument]

    @classmethod
    def from_result(cls, evaluation: "evaluate.Evaluation", version_id: str | None) -> Self:
        window = {**evaluation.window.document(), "post_ids": evaluation.post_ids}
        return cls.build(
            evaluation, version_id=version_id, baseline={"metrics": evaluation.naive_metrics}, window=window
        )


class ModelEvaluationDocument(Document):
    """A recorded evaluation of a version."""

    evaluation_id: str = Field(examples=["eval_20251106_120330_c7d1"])
    run_id: RunId | None
    evaluated_at: Timestamp
    version_id: VersionId
    metrics: Annotated[dict[str, Any], DescribedBy(MetricsDocument)]
    baseline: NaiveDocument
    num_predictions: int = Field(examples=[20])
    window: Annotated[dict[str, Any], DescribedBy(WindowDocument)]
    reliability: list[ReliabilityDocument]
    forecasts_file: str = Field(
        examples=["evaluations/eval_20251106_120330_c7d1.npz"], description="The version's file with all forecasts."
    )
    predictions_json: Annotated[list[Any], DescribedBy(list[TimingPredictionDocument | ContentPredictionDocument])] = (
        Field(description="A sample of the forecasts.")
    )

    @classmethod
    def from_row(cls, row: "tables.ModelEvaluation", reliability: "Sequence[base.Reliability]") -> Self:
        window = {"origin": "post", **row.window}  # the only rule when none was recorded
        baseline = {"metrics": row.baseline_metrics}
        return cls.build(
            row, version_id=row.model_version_id, baseline=baseline, window=window, reliability=reliability
        )


class EvidenceDocument(Document):
    """How certain a comparison is."""

    interval_percentage: Bounds | None = Field(
        examples=[[1.2, 9.7]], description="The confidence interval of the improvement."
    )
    level: float = Field(examples=[0.95], description="The level of that interval.")
    probability_better: float = Field(examples=[0.993], description="The probability that b is better than a.")
    settled_at: float = Field(examples=[0.95], description="The one-sided confidence that settles the comparison.")
    smallest_detectable_percentage: float | None = Field(
        examples=[5.1], description="The minimum detectable effect, at 80% power."
    )
    more_posts: int | None = Field(
        examples=[0], description="About how many more posts would settle it; 0 if settled, null if unknown."
    )
    num_predictions: int = Field(examples=[20])
    block_length: int = Field(examples=[3], description="The block length of the bootstrap, in posts.")
    resamples: int = Field(examples=[2000])
    seed: int = Field(examples=[0])


class CostsDocument(Document):
    """The cost of the forecasts of both versions, in US dollars."""

    a: float = Field(examples=[0.082])
    b: float = Field(examples=[0.075])


class DifferenceDocument(Document):
    """A situation in which the scores of two versions differ."""

    situation: str = Field(examples=["on a weekend"])
    num_predictions: int = Field(examples=[8], description="How many posts were forecast in it.")
    score_a: float = Field(examples=[0.61])
    score_b: float = Field(examples=[0.72])


class FiguresDocument(Document):
    """The figures behind a decision; empty if it was made by hand, or there was no version to compare with."""

    version_a: VersionId | Absent = Field(None, examples=[PREVIOUS_VERSION_ID])
    version_b: VersionId | Absent = None
    metrics_a: MetricsDocument | None = Field(None, examples=[_PREVIOUS_METRICS])
    metrics_b: MetricsDocument | None = None
    baseline_metrics: MetricsDocument | None = None
    num_predictions: int | Absent = Field(None, examples=[20])
    window: WindowDocument | None = None
    evidence: EvidenceDocument | None = None
    cost_usd: CostsDocument | None = None
    differences: list[DifferenceDocument] | Absent = None


class SideDocument(Document):
    """One of two versions."""

    version_id: VersionId
    score: float | None = Field(examples=[0.7123])
    metrics: Annotated[dict[str, Any] | None, DescribedBy(MetricsDocument | None)]

    @classmethod
    def from_metrics(cls, version_id: str, metrics: dict[str, float] | None) -> Self:
        return cls(version_id=version_id, score=metrics["overall_score"] if metrics else None, metrics=metrics)


class ComparisonDocument(Document):
    """Version b against version a, on the same posts."""

    version_a: SideDocument = Field(
        examples=[{"version_id": PREVIOUS_VERSION_ID, "score": 0.6753, "metrics": _PREVIOUS_METRICS}]
    )
    version_b: SideDocument
    baseline: NaiveDocument
    winner: VersionId | None
    improvement_percentage: float | None = Field(examples=[5.48])
    recommendation: Literal["promote", "reject", "not_enough_evidence"]
    reason: str = Field(examples=["New model is 5.5% better"])
    num_predictions: int = Field(examples=[20])
    window: Annotated[dict[str, Any] | None, DescribedBy(WindowDocument | None)]
    evidence: Annotated[dict[str, Any] | None, DescribedBy(EvidenceDocument | None)]
    cost_usd: CostsDocument | None = Field(description="Null if the forecasts of neither version cost anything.")
    differences: list[DifferenceDocument] = Field(description="Where the scores differ most, largest first.")

    @classmethod
    def from_result(cls, comparison: "comparison.Comparison") -> Self:
        return cls.build(
            comparison,
            version_a=SideDocument.from_metrics(comparison.version_a, comparison.metrics_a),
            version_b=SideDocument.from_metrics(comparison.version_b, comparison.metrics_b),
            baseline={"metrics": comparison.naive_metrics},
            window=comparison.window.document() if comparison.window else None,
            evidence=comparison.evidence.document() if comparison.evidence else None,
            cost_usd=comparison.costs,
        )
