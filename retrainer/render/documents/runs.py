"""The documents of training runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import Field

from retrainer.model_types import ModelTypeName
from retrainer.registry.ledger import TestOutcome
from retrainer.render.documents.base import PREVIOUS_VERSION_ID, Document, RunId, StreamName, Timestamp, VersionId
from retrainer.render.documents.evaluations import ComparisonDocument, EvaluationDocument
from retrainer.render.documents.versions import DecisionDocument

if TYPE_CHECKING:
    from retrainer.fleet.run import FleetResult
    from retrainer.live.rollback import Review
    from retrainer.live.summary import Score
    from retrainer.pipeline.results import Failure, RunResult
    from retrainer.registry import tables


class RunDocument(Document):
    """One training run."""

    run_id: RunId
    stream: StreamName
    model_type: ModelTypeName
    algorithm: str = Field(examples=["prophet"])
    model_version_id: VersionId | None
    started_at: Timestamp
    completed_at: Timestamp | None = Field(examples=["2025-11-06T12:03:45Z"])
    duration_seconds: float | None = Field(examples=[225.3])
    as_of: Timestamp | None = Field(examples=[None])
    status: Literal["running", "completed", "failed"] = Field(examples=["completed"])
    num_training_samples: int | None = Field(examples=[298])
    num_test_samples: int | None = Field(examples=[75])
    test_mae_hours: float | None = Field(examples=[8.45])
    test_within_6h_accuracy: float | None = Field(examples=[0.625])
    test_overall_score: float | None = Field(examples=[0.7123])
    compared_with: VersionId | None = Field(examples=[PREVIOUS_VERSION_ID])
    production_score: float | None = Field(examples=[0.6753])
    promoted_to_production: bool = Field(examples=[True])
    improvement_percentage: float | None = Field(examples=[5.48])
    promotion_reason: str | None = Field(examples=["New model is 5.5% better"])
    error: str | None = Field(examples=[None])
    tokens: int | None = Field(examples=[0], description="Tokens of paid calls.")
    cost_usd: float | None = Field(examples=[0.0], description="Cost of paid calls.")
    refusals: int | None = Field(examples=[0], description="Paid calls that the service refused.")


class ListedRunDocument(RunDocument):
    """One training run, with the live scores of its version."""

    live_score: float | None = Field(None, examples=[0.6981], description="Score on live posts.")
    num_live_posts: int | None = Field(None, examples=[412])

    @classmethod
    def from_row(cls, run: "tables.TrainingRun", live: "Mapping[str, Score]") -> Self:
        """Build the document.

        Args:
            live: the live scores of versions that have any.
        """
        score = live.get(run.model_version_id or "")
        return cls.build(run, live_score=score and score.score, num_live_posts=score and score.num_posts)


def run_document(run: "tables.TrainingRun") -> dict[str, Any]:
    """Return a run as events carry it."""
    return RunDocument.model_validate(run).model_dump(mode="json")


class HistoryDocument(Document):
    """Training runs, newest first, and the latest changes of production."""

    training_runs: list[ListedRunDocument]
    count: int = Field(examples=[1], description="The number of runs on this page.")
    total: int = Field(examples=[37], description="The number of runs that match the filters.")
    changes: list[DecisionDocument] = Field(
        description="The latest promotions and rollbacks of the model type, at most `limit`, newest first. They are"
        " the same on every page, whatever `status` and `promoted` select: those filter runs, and a rollback belongs"
        " to no run."
    )

    @classmethod
    def from_rows(
        cls,
        runs: "Sequence[tables.TrainingRun]",
        total: int,
        changes: "Sequence[tables.LedgerEntry]",
        live: "Mapping[str, Score]",
    ) -> Self:
        listed = [ListedRunDocument.from_row(run, live) for run in runs]
        return cls.model_validate({"training_runs": listed, "count": len(runs), "total": total, "changes": changes})


class ScoredRunDocument(RunDocument):
    """A completed run with its evaluation, and its comparison with production."""

    evaluation: EvaluationDocument | None
    comparison: ComparisonDocument | None


class DryRunDocument(Document):
    """A dry run, of which nothing was recorded."""

    run_id: None = None
    stream: StreamName
    model_type: ModelTypeName
    algorithm: str
    status: Literal["dry_run"] = "dry_run"
    promoted_to_production: bool = False
    would_promote: bool | None
    improvement_percentage: float | None
    promotion_reason: str | None
    evaluation: EvaluationDocument | None
    comparison: ComparisonDocument | None


class RunErrorDocument(Document):
    """Why a model type was not retrained."""

    stream: StreamName
    model_type: ModelTypeName
    code: str
    message: str
    hint: str


class TrainingDocument(Document):
    """What `train` did: its runs, and the errors."""

    training_runs: list[ScoredRunDocument | DryRunDocument | RunDocument]
    count: int
    errors: list[RunErrorDocument]

    @classmethod
    def from_outcomes(cls, outcomes: "Sequence[RunResult | Failure]") -> Self:
        from retrainer.pipeline.results import Failure  # noqa: PLC0415  imported by now: it made the outcomes

        runs: list[ScoredRunDocument | DryRunDocument | RunDocument] = []
        errors: list[RunErrorDocument] = []
        for outcome in outcomes:
            if not isinstance(outcome, Failure):
                runs.append(run_from_result(outcome))
                continue
            errors.append(RunErrorDocument.build(outcome, **outcome.error.document()["error"]))
            if outcome.run is not None:
                runs.append(RunDocument.model_validate(outcome.run))
        return cls(training_runs=runs, count=len(runs), errors=errors)


def run_from_result(result: "RunResult") -> ScoredRunDocument | DryRunDocument:
    """Build the document of a run that completed."""
    version_id = result.run.model_version_id if result.run else None
    evaluation = EvaluationDocument.from_result(result.evaluation, version_id) if result.evaluation else None
    comparison = ComparisonDocument.from_result(result.comparison) if result.comparison else None
    if result.run is not None:
        return ScoredRunDocument.build(result.run, evaluation=evaluation, comparison=comparison)
    decision = result.decision
    return DryRunDocument.build(
        result,
        would_promote=decision.promote if decision else None,
        improvement_percentage=decision.improvement_percentage if decision else None,
        promotion_reason=result.reason,
        evaluation=evaluation,
        comparison=comparison,
    )


FleetOutcome = Literal["promoted", "not_promoted", "failed", "skipped"]


class FleetRunDocument(Document):
    """What came of one model of a stream."""

    stream: StreamName
    model_type: ModelTypeName
    outcome: FleetOutcome
    run_id: RunId | None
    version_id: VersionId | None
    algorithm: str | None = Field(examples=["prophet"])
    score: float | None = Field(examples=[0.7123])
    skill: float | None = Field(examples=[0.12])
    seconds: float | None = Field(examples=[1.2])
    cost_usd: float | None = Field(examples=[0.0])
    reason: str | None = Field(examples=["New model is 5.5% better"])


class ReviewDocument(Document):
    """A rollback by evidence, or a production version that is proved worse and was not rolled back."""

    stream: StreamName
    model_type: ModelTypeName
    outcome: Literal["rollback", "degraded"]
    version_id: VersionId = Field(description="The version that is in production now.")
    from_version_id: VersionId | None = Field(description="The version in production before the rollback.")
    reason: str = Field(examples=["On 290 live posts the error of 'a' is 8% to 21% larger than that of 'b'"])
    evidence: dict[str, Any] = Field(examples=[{"against": "previous", "e_value": 132.4, "num_posts": 290}])

    @classmethod
    def from_review(cls, review: "Review") -> Self:
        evidence, change = review.evidence or {}, review.change
        return cls.build(
            review,
            version_id=change.to_version if change else evidence["version_id"],
            from_version_id=change.from_version if change else None,
        )


class EndedTestDocument(Document):
    """An A/B test that was decided."""

    stream: StreamName
    model_type: ModelTypeName
    test_id: str = Field(examples=["ab_timing_20251106_120000_a3f2"])
    challenger_id: VersionId
    outcome: TestOutcome
    reason: str = Field(examples=["The challenger won the A/B test on 812 live posts"])


class ModelKeyDocument(Document):
    """A stream and a model type."""

    stream: StreamName
    model_type: ModelTypeName


class FleetDocument(Document):
    """What `train` of several streams did."""

    training_runs: list[FleetRunDocument] = Field(description="In the order in which they ended.")
    count: int = Field(examples=[1])
    errors: list[RunErrorDocument]
    outcomes: dict[str, int] = Field(examples=[{"promoted": 1, "not_promoted": 0, "failed": 0, "skipped": 0}])
    not_started: list[ModelKeyDocument] = Field(description="The models that were not started.")
    stale_streams: list[str] = Field(description="Streams whose posts are first noticed to have stopped arriving.")
    not_due: int = Field(examples=[0], description="How many models were not due.")
    ended_tests: list[EndedTestDocument] = Field(description="The A/B tests that were decided.")
    reviews: list[ReviewDocument] = Field(description="Rollbacks by evidence, and what is newly degraded.")
    stopped: str | None = Field(examples=[None], description="Why it stopped before all were done.")
    seconds: float = Field(examples=[12.3])
    cost_usd: float = Field(examples=[0.0])

    @classmethod
    def from_result(cls, result: "FleetResult") -> Self:
        return cls.build(
            result,
            training_runs=[FleetRunDocument.build(outcome, outcome=outcome.kind) for outcome in result.outcomes],
            count=len(result.outcomes),
            errors=[
                RunErrorDocument.build(outcome.error, stream=outcome.stream, model_type=outcome.model_type)
                for outcome in result.failures
            ],
            outcomes={kind: result.counts[kind] for kind in get_args(FleetOutcome)},
            ended_tests=[
                EndedTestDocument.build(
                    entry,
                    test_id=entry.evidence["test_id"],
                    challenger_id=entry.version_id,
                    outcome=entry.evidence["outcome"],
                )
                for entry in result.ended_tests
            ],
            reviews=[ReviewDocument.from_review(review) for review in result.reviews],
        )


class RunIdsDocument(Document):
    """The id of each model type's run; null if none was started."""

    timing: RunId | None
    content: RunId | None = Field(examples=["run_20251106_120000_b4e9"])


class StartedDocument(Document):
    """The runs that were started."""

    status: Literal["started"]
    message: str = Field(examples=["Model retraining started in background"])
    note: str = Field(examples=["Check /models/training-history for progress"])
    run_ids: RunIdsDocument

    @classmethod
    def from_run_ids(cls, run_ids: Mapping[str, str | None]) -> Self:
        return cls(
            status="started",
            message="Model retraining started in background",
            note="Check /models/training-history for progress",
            run_ids=RunIdsDocument.model_validate(run_ids),
        )
