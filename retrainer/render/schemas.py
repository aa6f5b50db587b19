"""The documents as OpenAPI describes them. They are made in documents.py; nothing here is sent."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from retrainer.model_types import ModelTypeName
from retrainer.render import examples

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2025-11-06T12:00:00Z"])]
VersionId = Annotated[str, Field(examples=["prophet_timing_20251106_120000_a3f2"])]
RunId = Annotated[str, Field(examples=["run_20251106_120000_a3f2"])]
Absent = SkipJsonSchema[None]  # of a field that may be missing, and is never null
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


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


class Metrics(BaseModel):
    """The figures of some forecasts; only those of their model type are there, and those that a plugin adds."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [examples.METRICS]})
    __pydantic_extra__: dict[str, float]

    overall_score: float
    num_predictions: Annotated[int | Absent, Field(description="How many forecasts were scored.")] = None
    mae_hours: float | Absent = None
    rmse_hours: float | Absent = None
    median_error_hours: float | Absent = None
    within_6h_accuracy: Annotated[float | Absent, Field(description="Share within 6 hours of the point.")] = None
    within_12h_accuracy: Annotated[float | Absent, Field(description="Share within 12 hours.")] = None
    within_24h_accuracy: Annotated[float | Absent, Field(description="Share within 24 hours.")] = None
    crps_hours: float | Absent = None
    interval_coverage: Annotated[float | Absent, Field(description="Share of waits in the 80% interval.")] = None
    length_similarity: float | Absent = None
    word_overlap: float | Absent = None
    skill: Annotated[float | Absent, Field(description="Gain of the overall score over the naive forecast's.")] = None
    crps_skill: Annotated[float | Absent, Field(description="Gain of the CRPS over the naive forecast's.")] = None


class Window(BaseModel):
    """Which posts were foretold, and from where."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.WINDOW]})

    start: Annotated[Moment, Field(description="The time of the first post that could be foretold.")]
    end: Annotated[Moment, Field(description="The time of the last.")]
    posts: Annotated[int, Field(description="How many posts lie in it.")]
    origin: Annotated[
        Literal["post", "clock"], Field(description="Whether from the moment of each post, or by the clock.")
    ]


class Naive(BaseModel):
    """The naive forecast on the same posts."""

    metrics: Metrics | None


class Evidence(BaseModel):
    """How sure a comparison is."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EVIDENCE]})

    interval_percentage: Annotated[Pair | None, Field(description="The improvement lies in it with the level.")]
    level: float
    probability_better: Annotated[float, Field(description="That b is better than a.")]
    settled_at: Annotated[float, Field(description="The one-sided confidence that settles it.")]
    smallest_detectable_percentage: Annotated[
        float | None, Field(description="The improvement that would have shown in 80% of cases.")
    ]
    more_posts: Annotated[
        int | None, Field(description="About how many more would settle it; 0 where it is settled, null if unknown.")
    ]
    num_predictions: int
    block_length: Annotated[int, Field(description="Of the resampling, in posts.")]
    resamples: int
    seed: int


class Costs(BaseModel):
    """What the forecasts of both sides cost, in US dollars."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.COSTS]})

    a: float
    b: float


class Difference(BaseModel):
    """A situation in which two versions do not score alike."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DIFFERENCE]})

    situation: str
    num_predictions: Annotated[int, Field(description="How many of the posts were foretold in it.")]
    score_a: float
    score_b: float


class Figures(BaseModel):
    """The figures behind a decision; empty where it was made by hand, or where there was nothing to compare with."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.FIGURES]})

    version_a: VersionId | Absent = None
    version_b: VersionId | Absent = None
    metrics_a: Metrics | None = None
    metrics_b: Metrics | None = None
    baseline_metrics: Metrics | None = None
    num_predictions: int | Absent = None
    window: Window | None = None
    evidence: Evidence | None = None
    cost_usd: Costs | None = None
    differences: list[Difference] | Absent = None


class Reliability(BaseModel):
    """What was stated, held against what came."""

    what: Annotated[str, Field(examples=["post within 6 h"])]
    stated: Annotated[float, Field(description="The probability, or the mean of those stated.", examples=[0.62])]
    observed: Annotated[float, Field(description="The share for which it came true.", examples=[0.58])]
    num_predictions: Annotated[int, Field(examples=[20])]


class TimingPrediction(BaseModel):
    """One forecast of a wait, in hours, and what came."""

    post_id: str
    point_hours: float
    median_hours: float
    interval_hours: Annotated[Pair, Field(description="The 80% interval.")]
    actual_hours: float


class ContentPrediction(BaseModel):
    """One forecast of a text, and what came."""

    post_id: str
    text: str | None
    outcome: Annotated[str, Field(examples=["ok"])]
    actual: str


class ModelEvaluation(BaseModel):
    """The scores of a version on one window of posts that it had not seen."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EVALUATION]})

    evaluation_id: str
    run_id: RunId | None
    evaluated_at: Moment
    version_id: VersionId
    metrics: Metrics
    baseline: Naive
    num_predictions: int
    window: Window
    reliability: list[Reliability]
    forecasts_file: Annotated[str, Field(description="All forecasts, among the files of the version.")]
    predictions_json: Annotated[
        list[TimingPrediction | ContentPrediction], Field(description="A sample of the forecasts.")
    ]


class Importance(BaseModel):
    """One thing that a version's forecasts lean on."""

    label: Annotated[str, Field(examples=["hour of the week"])]
    value: Annotated[float, Field(description="How much it matters, or what was learnt of it.", examples=[0.31])]
    unit: Annotated[str, Field(examples=["bits a post"])]
    note: Annotated[str, Field(examples=["busiest Tuesday 14:00, quietest Sunday 04:00"])]


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
    evidence: Figures


class VersionLife(Version):
    """One version with its evaluations and the decisions about it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.VERSION_LIFE]})

    evaluations: list[ModelEvaluation]
    ledger: list[Decision]
    importance: Annotated[list[Importance], Field(description="What its forecasts lean on, where it can say so.")]


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
    error: str | None
    tokens: Annotated[int | None, Field(description="Of paid calls.")]
    cost_usd: Annotated[float | None, Field(description="Of paid calls.")]
    refusals: Annotated[int | None, Field(description="Paid calls that were refused.")]


class History(BaseModel):
    """Training runs, the newest first, and the latest changes of production beside them."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.HISTORY]})

    training_runs: list[Run]
    count: Annotated[int, Field(description="How many runs are listed here.")]
    total: Annotated[int, Field(description="How many runs there are of those that were asked for.")]
    changes: Annotated[
        list[Decision],
        Field(
            description="The latest promotions and rollbacks of the model type, at most `limit`, the newest first. They"
            " are the same on every page and whatever `status` and `promoted` choose: those choose runs, and a rollback"
            " belongs to none."
        ),
    ]


class Side(BaseModel):
    """One of two versions."""

    version_id: VersionId
    score: Annotated[float | None, Field(examples=[0.7123])]
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
    window: Window | None
    evidence: Evidence | None
    cost_usd: Annotated[Costs | None, Field(description="Null where neither side costs anything.")]
    differences: Annotated[list[Difference], Field(description="Where the two differ most, the weightiest first.")]


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
    hours: Pair


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
