"""The documents of forecasts of the next post."""

from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from retrainer.render.documents.base import Bounds, Document, Timestamp, VersionId

if TYPE_CHECKING:
    from retrainer.pipeline.forecast import NextPost


class IntervalDocument(Document):
    """The interval that contains the next post with the probability `level`, in hours from `at`."""

    level: float = Field(examples=[0.8])
    hours: Bounds = Field(examples=[[0.4, 11.6]])


class PostCountDocument(Document):
    """How many posts there will be from start to end."""

    start: Timestamp = Field(examples=["2025-11-06T12:10:00Z"])
    end: Timestamp = Field(examples=["2025-11-09T12:10:00Z"])
    expected: float = Field(examples=[21.3])
    interval: Annotated[list[int], Field(min_length=2, max_length=2, examples=[[14, 29]])]


class DayCountDocument(PostCountDocument):
    """How many posts there will be on a day, or on the part of it that is forecast."""

    day: date = Field(examples=["2025-11-07"], description="In the time zone of the simulation.")
    start: Timestamp = Field(examples=["2025-11-07T00:00:00Z"])
    end: Timestamp = Field(examples=["2025-11-08T00:00:00Z"])
    expected: float = Field(examples=[7.2])
    interval: Annotated[list[int], Field(min_length=2, max_length=2, examples=[[3, 11]])]


class PostTimeDocument(Document):
    """When one of the coming posts will come. A time later than the futures end is null."""

    number: int = Field(examples=[1], description="1 is the next post.")
    median_at: Timestamp | None = Field(examples=["2025-11-06T15:16:00Z"])
    interval_at: Annotated[
        list[Timestamp | None],
        Field(min_length=2, max_length=2, examples=[["2025-11-06T12:34:00Z", "2025-11-06T23:46:00Z"]]),
    ]


class SimulationDocument(Document):
    """What simulated futures say about the coming posts. The intervals have the level of the document's `interval`."""

    paths: int = Field(examples=[500], description="The number of futures.")
    timezone: str = Field(examples=["UTC"], description="Where the days begin and end.")
    until: Timestamp | None = Field(
        examples=["2025-11-09T12:10:00Z"], description="Null if only the next posts were asked for."
    )
    total: PostCountDocument | None = Field(description="The posts until then.")
    days: list[DayCountDocument]
    posts: list[PostTimeDocument]


class ExpectedScoreDocument(Document):
    """The interval in which the score of the text is expected, by the version's scores on earlier posts.

    It shows how well the version has scored lately. It does not tell a good text from a bad one.
    """

    low: float = Field(examples=[0.31])
    high: float = Field(examples=[0.58])
    level: float = Field(examples=[0.8], description="The share of scores that such intervals contain.")
    posts: int = Field(examples=[120], description="The number of earlier posts whose scores it is based on.")


class _NextPostDocument(Document):
    model_type: str
    version_id: VersionId
    made_at: Timestamp = Field(examples=["2025-11-06T12:10:00Z"])
    at: Timestamp = Field(
        examples=["2025-11-06T12:10:00Z"],
        description="The time as of which the forecast is made; it knows the posts up to then.",
    )
    origin_at: Timestamp = Field(
        examples=["2025-11-06T11:12:00Z"], description="The last post up to `at`, the newest that the forecast knows."
    )
    last_post_at: Timestamp = Field(
        examples=["2025-11-06T11:12:00Z"], description="The last post when the forecast was made."
    )
    stale: bool = Field(
        examples=[False],
        description="Whether the time from `origin_at` to `at` is unusually long: newer posts may be missing.",
    )
    next_post_at: Timestamp = Field(examples=["2025-11-06T14:40:00Z"])
    side: Literal["production", "challenger"] | None = Field(
        examples=[None], description="The side of the A/B test that answers `subject`; null without one or a test."
    )


class WaitDocument(Document):
    """The distribution of the wait for the next post, in hours from `at`."""

    at: Timestamp = Field(
        examples=["2025-11-06T12:10:00Z"],
        description="The time as of which the forecast is made; it knows the posts up to then.",
    )
    next_post_at: Timestamp = Field(examples=["2025-11-06T14:40:00Z"])
    point_hours: float = Field(
        examples=[2.5], description="The wait that is expected to score best: within 6 hours counts most."
    )
    median_hours: float = Field(examples=[3.1], description="Half of the waits are shorter.")
    interval: IntervalDocument
    probability: dict[str, float] = Field(examples=[{"within_6h": 0.71, "within_12h": 0.88, "within_24h": 0.97}])


class NextTimingDocument(WaitDocument, _NextPostDocument):
    """When the next post comes."""

    model_type: Literal["timing"]
    as_of_last_post: WaitDocument | None = Field(
        description="The forecast right after the last post, if the posts are stale and the request had no `at`."
    )
    simulation: SimulationDocument | None = Field(description="Null without `until` and `next`.")


class NextContentDocument(_NextPostDocument):
    """What the next post says."""

    model_type: Literal["content"]
    version_id: VersionId = Field(examples=["claude_api_content_20251106_120530_b4e9"])
    text: str | None = Field(examples=["The first frost is here. Time to bring the pots inside."])
    outcome: str | None = Field(examples=["ok"])
    tokens: int | None = Field(examples=[1240])
    cost_usd: float | None = Field(examples=[0.0041])
    expected_score: ExpectedScoreDocument | None = Field(
        description="Null without a text, with fewer than 50 scored posts, or if none of the last 200 posts is scored."
    )
    agreement: float | None = Field(
        examples=[None],
        description="The mean similarity of the samples from which the text was chosen, 0 to 1; null without samples. "
        "It does not say how well the text will score.",
    )


def next_post_document(forecast: "NextPost") -> NextTimingDocument | NextContentDocument:
    """Build the document of a forecast of either model type."""
    if forecast.model_type == "content":
        return NextContentDocument.model_validate(forecast)
    earlier = forecast.as_of_last_post
    return NextTimingDocument.build(
        forecast,
        **_distribution(forecast),
        as_of_last_post=None if earlier is None else WaitDocument.build(earlier, **_distribution(earlier)),
    )


def _distribution(forecast: "NextPost") -> dict[str, object]:
    return {
        "interval": {"level": forecast.interval_level, "hours": list(forecast.interval_hours or ())},
        "probability": {f"within_{hours}h": share for hours, share in (forecast.probability or {}).items()},
    }
