"""The documents as OpenAPI describes them. They are made in documents.py; nothing here is sent."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrainer.api import examples
from retrainer.model_types import ModelTypeName

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-11-06T12:00:00Z"])]
VersionId = Annotated[str, Field(examples=["prophet_timing_20251106_120000_a3f2"])]
RunId = Annotated[str, Field(examples=["run_20251106_120000_a3f2"])]
Metrics = dict[str, float]


class ErrorText(BaseModel):
    """What went wrong, and what to do."""

    code: Annotated[str, Field(examples=["unknown_name"])]
    message: Annotated[str, Field(examples=["unknown version 'prophet_timing_20251106_120000_a3f2'"])]
    hint: Annotated[str, Field(examples=["`retrainer versions` lists them"])]


class Failure(BaseModel):
    """The answer to whatever failed."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.FAILURE]})

    error: ErrorText


class Version(BaseModel):
    """One trained model."""

    version_id: VersionId
    model_type: ModelTypeName
    algorithm: Annotated[str, Field(examples=["prophet"])]
    trained_at: Moment
    status: Literal["trained", "active", "archived", "failed"]
    is_production: bool
    promoted_at: Moment | None
    num_training_samples: Annotated[int, Field(examples=[298])]
    training_duration_seconds: Annotated[float, Field(examples=[12.5])]
    trained_through: Moment
    trained_through_post_id: str
    hyperparameters: dict[str, Any]
    file_path: str
    pinned: bool
    pruned_at: Moment | None


class Production(BaseModel):
    """What is live; null where nothing is."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PRODUCTION]})

    timing_model: Version | None
    content_model: Version | None


class Versions(BaseModel):
    """Versions, the newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.VERSIONS]})

    versions: list[Version]
    count: int


class Decision(BaseModel):
    """One entry of the ledger."""

    at: Moment
    recorded_at: Moment
    model_type: ModelTypeName
    action: Annotated[str, Field(examples=["promotion"])]
    version_id: VersionId | None
    from_version_id: VersionId | None
    to_version_id: VersionId | None
    actor: str
    automatic: bool
    reason: str
    run_id: RunId | None
    evidence: dict[str, Any]


class VersionLife(Version):
    """One version with its evaluations and the decisions about it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.VERSION_LIFE]})

    evaluations: list[dict[str, Any]]
    ledger: list[Decision]
    importance: Annotated[list[dict[str, Any]], Field(description="What its forecasts lean on, where it can say so.")]


class Run(BaseModel):
    """One training run."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RUN]})

    run_id: RunId
    model_type: ModelTypeName
    algorithm: str
    model_version_id: VersionId | None
    started_at: Moment
    completed_at: Moment | None
    duration_seconds: Annotated[float | None, Field(examples=[225.3])]
    as_of: Moment | None
    status: Literal["running", "completed", "failed"]
    num_training_samples: int | None
    num_test_samples: int | None
    test_mae_hours: Annotated[float | None, Field(examples=[8.45])]
    test_within_6h_accuracy: Annotated[float | None, Field(examples=[0.625])]
    test_overall_score: float | None
    compared_with: VersionId | None
    production_score: float | None
    promoted_to_production: bool
    improvement_percentage: float | None
    promotion_reason: Annotated[str | None, Field(examples=["New model is 5.5% better"])]
    tokens: Annotated[int | None, Field(description="Of paid calls.")] = None
    cost_usd: Annotated[float | None, Field(description="Of paid calls.")] = None
    refusals: Annotated[int | None, Field(description="Paid calls that were refused.")] = None
    error: str | None


class History(BaseModel):
    """Training runs, the newest first, and the changes of production beside them."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.HISTORY]})

    training_runs: list[Run]
    count: int
    total: int
    changes: list[Decision]


class Side(BaseModel):
    """One of two versions."""

    version_id: VersionId
    score: Annotated[float | None, Field(examples=[0.7123])]
    metrics: Metrics | None


class Naive(BaseModel):
    """The naive forecast on the same posts."""

    metrics: Metrics | None


class Comparison(BaseModel):
    """Version b against version a, on the same posts."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.COMPARISON]})

    version_a: Side
    version_b: Side
    baseline: Naive
    winner: VersionId | None
    improvement_percentage: Annotated[float | None, Field(examples=[5.48])]
    recommendation: Literal["promote", "reject", "not_enough_evidence"]
    reason: str
    num_predictions: int
    window: dict[str, Any] | None
    evidence: Annotated[dict[str, Any] | None, Field(description="How sure the difference is.")] = None
    cost_usd: Annotated[dict[str, Any] | None, Field(description="What the forecasts of each side cost.")] = None
    differences: Annotated[list[dict[str, Any]], Field(description="Where the two differ.")] = []


class RunIds(BaseModel):
    """The runs that were started; null where none was."""

    timing: RunId | None
    content: RunId | None


class Started(BaseModel):
    """That runs were started."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.STARTED]})

    status: Literal["started"]
    message: Annotated[str, Field(examples=["Model retraining started in background"])]
    note: Annotated[str, Field(examples=["Check /models/training-history for progress"])]
    run_ids: RunIds


class Changed(BaseModel):
    """That production was changed, or was what it should be already."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CHANGED]})

    status: Literal["success"]
    message: str
    version_id: VersionId
    from_version_id: VersionId | None
    changed: bool


class Interval(BaseModel):
    """Where the next post comes with the probability `level`, in hours from now."""

    level: float
    hours: Annotated[list[float], Field(min_length=2, max_length=2)]


class NextTiming(BaseModel):
    """When the next post comes."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NEXT_TIMING]})

    model_type: Literal["timing"]
    version_id: VersionId
    made_at: Moment
    last_post_at: Moment
    next_post_at: Moment
    point_hours: float
    median_hours: float
    interval: Interval
    probability: dict[str, float]


class NextContent(BaseModel):
    """What the next post says."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NEXT_CONTENT]})

    model_type: Literal["content"]
    version_id: VersionId
    made_at: Moment
    last_post_at: Moment
    next_post_at: Moment
    text: str | None
    outcome: str | None
    tokens: int | None
    cost_usd: float | None


class Health(BaseModel):
    """That the server lives, or is ready."""

    status: Annotated[str, Field(examples=["ready"])]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# PostgreSQL keeps no NUL in a text.
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$", description="Why, for the record.")]


class RetrainOptions(_Options):
    """How to retrain."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model_type": "timing"}]})

    model_type: Annotated[ModelTypeName | None, Field(description="Only this model type; otherwise both.")] = None
    auto_promote: Annotated[bool | None, Field(description="Instead of retraining.auto_promote.")] = None


class PromoteOptions(_Options):
    """How to promote."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Reviewed"}]})

    reason: Reason = "Promoted through the API"


class RollbackOptions(_Options):
    """How to roll back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Too many misses", "hold": True}]})

    to: Annotated[
        VersionId | None,
        Field(min_length=1, max_length=200, description="Go back until this version is live; otherwise one step."),
    ] = None
    reason: Reason = "Rolled back through the API"
    hold: Annotated[bool, Field(description="Stop automatic promotion of the type until `retrainer release`.")] = True
