"""The documents of live scores: how production versions do on the posts that came since."""

from datetime import date
from typing import TYPE_CHECKING, Self, get_args

from pydantic import Field

from retrainer.evaluation.calibration import CalibrationWord
from retrainer.live.summary import Against, Verdict
from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import PREVIOUS_VERSION_ID, Document, StreamName, Timestamp, VersionId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.live import refresh, report, summary
    from retrainer.streams import ModelKey

_NAIVE = {"overall_score": 0.6753, "crps_hours": 4.88, "interval_coverage": 0.81}


class LiveFiguresDocument(Document):
    """What live posts scored."""

    overall_score: float = Field(examples=[0.7123])
    crps_hours: float | None = Field(examples=[4.21], description="Null for content, like the coverage.")
    interval_coverage: float | None = Field(examples=[0.796], description="Share of waits in the 80% interval.")

    @classmethod
    def from_score(cls, score: "summary.Score | None") -> Self | None:
        if score is None:
            return None
        return cls(overall_score=score.score, crps_hours=score.crps, interval_coverage=score.coverage)


class ErrorIntervalDocument(Document):
    """By how much the error of the live fit is smaller than another's, as a share; below 0, it is larger.

    For timing, the error is the CRPS, capped; for content, 1 minus the score. The interval holds with a probability of
    95% at any number of looks.
    """

    low: float | None = Field(examples=[0.08], description="Null if it may be over 150% larger.")
    high: float | None = Field(examples=[0.21], description="Null if it may be over 37.5% smaller.")
    estimate: float | None = Field(examples=[0.14], description="Null if the other has made no error yet.")


class LiveComparisonDocument(Document):
    """The live fit beside another forecast, on the live posts that both forecast."""

    against: Against = Field(description="The naive forecast, the version that was replaced, or that of an A/B test.")
    other_version_id: VersionId | None = Field(examples=[None], description="Null for the naive forecast.")
    other_fit: str = Field(examples=["naive"])
    since: Timestamp = Field(description="Only posts later than this are live for both.")
    num_posts: int = Field(examples=[412])
    live: LiveFiguresDocument | None
    other: LiveFiguresDocument | None = Field(examples=[_NAIVE])
    skill: float | None = Field(examples=[0.114])
    error_smaller_by: ErrorIntervalDocument | None
    e_worse: float = Field(
        examples=[0.02],
        description="Evidence that the live fit is worse: if it is not, this ever reaches c with a probability of at "
        "most 1/c.",
    )
    e_better: float = Field(examples=[96000.0], description="Evidence that it is better.")

    @classmethod
    def from_report(cls, one: "summary.ComparisonReport") -> Self:
        live, other = (LiveFiguresDocument.from_score(side) for side in (one.live, one.other))
        return cls.build(one, live=live, other=other, error_smaller_by=one.error)


class LiveWeekDocument(Document):
    """The live posts of a week, Monday to Sunday, UTC."""

    start: Timestamp = Field(examples=["2025-11-03T00:00:00Z"])
    num_posts: int = Field(examples=[31])
    live: LiveFiguresDocument
    naive: LiveFiguresDocument = Field(examples=[_NAIVE])
    previous: LiveFiguresDocument | None = Field(examples=[_NAIVE])
    challenger: LiveFiguresDocument | None = Field(examples=[None])
    skill: float = Field(examples=[0.114], description="Against the naive forecast.")
    error_smaller_by: ErrorIntervalDocument = Field(
        description="Than that of the naive forecast, over all live posts up to the end of the week."
    )

    @classmethod
    def from_report(cls, week: "report.LiveWeek") -> Self:
        sides = {
            name: LiveFiguresDocument.from_score(getattr(week, name))
            for name in ("live", "naive", *get_args(Against)[1:])
        }
        return cls.build(week, num_posts=week.live.num_posts, error_smaller_by=week.so_far, **sides)


class CalibrationDocument(Document):
    """Whether the waits match the forecast distributions."""

    num_posts: int = Field(examples=[412])
    fifths: list[float] = Field(
        examples=[[0.21, 0.19, 0.2, 0.2, 0.2]],
        description="Shares of posts in the five fifths of their forecast distributions, the earliest first.",
    )
    word: CalibrationWord


class ScoreCoverageDocument(Document):
    """How often the scores of texts were within the 80% interval expected for them."""

    coverage: float = Field(examples=[0.79])
    width: float = Field(examples=[0.27], description="The mean width of the intervals.")
    posts: int = Field(examples=[412], description="The number of latest live posts measured.")


class PromiseDocument(Document):
    """The improvement that the promotion was decided on, beside the live one."""

    over: VersionId = Field(examples=[PREVIOUS_VERSION_ID])
    num_posts: int = Field(examples=[75], description="The held-out posts that decided.")
    percentage: float | None = Field(examples=[5.48], description="By how much the score was better on them.")
    live_num_posts: int = Field(examples=[398])
    live_percentage: float | None = Field(examples=[4.1], description="By how much it is better on live posts.")


class DriftDocument(Document):
    """How the stream has changed since the posts that the live fit was trained on."""

    kind: str = Field(examples=["rate"], description="rate, gaps, hours (of the week), length or no_text.")
    alarm: bool = Field(examples=[True], description="Whether the change is large enough to matter.")
    since: date | None = Field(examples=["2025-12-01"], description="The day of the alarm, UTC.")
    before: float | None = Field(examples=[3.1])
    latest: float | None = Field(examples=[7.1])
    ratio: float | None = Field(examples=[2.3])
    shift_hours: float | None = Field(examples=[None])
    evidence: float | None = Field(examples=[2210.5], description="Alarms at the threshold.")
    threshold: float = Field(examples=[1095])
    training_days: int = Field(examples=[120])
    days: int = Field(examples=[40])
    window_days: int = Field(examples=[28])
    sentence: str = Field(examples=["Posts come 2.3 times as often as in training"])


class NextTrainDocument(Document):
    """What the next `train` would do by evidence."""

    outcome: str = Field(examples=["kept"], description="kept, rollback, or degraded: worse, but not rolled back.")
    reason: str | None = Field(examples=[None])
    ab_test: str | None = Field(
        examples=[None], description="promoted, kept or futile, if the running A/B test would end so."
    )
    ab_test_reason: str | None = Field(examples=[None])

    @classmethod
    def from_preview(cls, preview: "refresh.NextTrain | None") -> Self | None:
        if preview is None:
            return None
        return cls.build(preview.review, ab_test=preview.ab_test, ab_test_reason=preview.ab_test_reason or None)


class LiveModelDocument(Document):
    """How a production version does on the posts that came since: the verdict."""

    stream: StreamName
    model_type: ModelTypeName
    version_id: VersionId
    fit: str = Field(
        examples=["prophet_timing_20251106_120000_a3f2/20251106_120412_5d1c0a7e"],
        description="The fit that is live: the ID of the version, and that of the fit if it was fitted again.",
    )
    num_posts: int = Field(examples=[412])
    verdict: Verdict
    sentence: str = Field(
        examples=["Fine: over 412 live posts its error is 8% to 21% smaller than the naive forecast's; …"]
    )
    comparisons: list[LiveComparisonDocument]

    @classmethod
    def from_summary(cls, key: "ModelKey", one: "summary.LiveSummary") -> Self:
        return cls.build(
            one,
            **key._asdict(),
            version_id=one.version.version_id,
            comparisons=[LiveComparisonDocument.from_report(each) for each in one.comparisons],
        )


class LiveDocument(LiveModelDocument):
    """How a production version does on live posts, in full."""

    at: Timestamp
    algorithm: str = Field(examples=["prophet"])
    promoted_at: Timestamp | None
    since: Timestamp | None = Field(description="The last post that the live fit knew; null before it was scored.")
    weeks: list[LiveWeekDocument]
    calibration: CalibrationDocument | None
    expected_score_coverage: ScoreCoverageDocument | None = Field(
        examples=[None], description="Content only; null with too few posts."
    )
    late_posts: int | None = Field(
        examples=[0],
        description="Posts that arrived late, and are not scored: the live fit may know later ones. Null if the posts "
        "are in a foreign table.",
    )
    promise: PromiseDocument | None
    drift: list[DriftDocument]
    next_train: NextTrainDocument | None = Field(None, examples=[None], description="Only with `--dry-run`.")

    @classmethod
    def from_report(cls, found: "report.LiveReport", preview: "refresh.NextTrain | None" = None) -> Self:
        """Build the document.

        Args:
            preview: what the next `train` would do; None if that was not asked for.
        """
        return cls.build(
            found,
            comparisons=[LiveComparisonDocument.from_report(one) for one in found.comparisons],
            weeks=[LiveWeekDocument.from_report(week) for week in found.weeks],
            next_train=NextTrainDocument.from_preview(preview),
        )


class LiveModelsDocument(Document):
    """How production versions do: in full for one stream, their verdicts for several."""

    models: list[LiveDocument] | list[LiveModelDocument]
    count: int = Field(examples=[1])

    @classmethod
    def from_reports(
        cls, found: "Sequence[report.LiveReport]", previews: "Mapping[ModelTypeName, refresh.NextTrain]"
    ) -> Self:
        models = [LiveDocument.from_report(one, previews.get(one.model_type)) for one in found]
        return cls(models=models, count=len(models))

    @classmethod
    def from_summaries(cls, found: "Mapping[ModelKey, summary.LiveSummary]") -> Self:
        models = [LiveModelDocument.from_summary(key, one) for key, one in found.items()]
        return cls(models=models, count=len(models))
