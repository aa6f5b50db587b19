"""The document of `status`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import Document, StreamName, Timestamp, VersionId
from retrainer.render.documents.runs import RunDocument

if TYPE_CHECKING:
    from retrainer.health import DiskSpace
    from retrainer.posts.freshness import PostsActivity
    from retrainer.status import ModelTypeStatus, Status
    from retrainer.streams_status import StreamsStatus

MAX_PROBLEMS = 100  # in the document of several streams


class ProblemDocument(Document):
    """Something that needs attention."""

    kind: str = Field(
        examples=["stale_posts"], description="The kind of problem; the kinds of `doctor` are among them."
    )
    subject: str = Field(
        examples=["posts"],
        description="The run, version, algorithm, model type, path or schedule concerned; `posts` for the posts.",
    )
    message: str = Field(examples=["the posts are stale: the newest is 9.0 days old"])
    hint: str = Field(examples=["Check that posts are still fetched or imported"])
    stream: str | None = Field(
        examples=["default"], description="The stream concerned; null for what concerns the whole project."
    )


class HoldDocument(Document):
    """A hold on automatic promotion."""

    since: Timestamp
    actor: str = Field(examples=["ada@server"])
    reason: str = Field(examples=["holiday season"])


class RunningABTestDocument(Document):
    """A running A/B test."""

    test_id: str = Field(examples=["ab_timing_20251106_121000_5c1e"])
    challenger_id: VersionId
    started_at: Timestamp


class ModelTypeStatusDocument(Document):
    """One model type."""

    model_type: ModelTypeName
    enabled: bool = Field(examples=[True])
    algorithm: str = Field(examples=["prophet"], description="The configured algorithm.")
    version_id: VersionId | None = Field(description="The production version.")
    live_since: Timestamp | None = Field(description="When the production version was promoted.")
    hold: HoldDocument | None = Field(examples=[None])
    ab_test: RunningABTestDocument | None = Field(examples=[None])
    is_due: bool = Field(examples=[False], description="Whether the next run is due.")
    due_why: str = Field(
        examples=["the last run was 2.0 days ago (schedule_days is 7)"], description="Why the next run is due, or not."
    )
    due_at: Timestamp | None = Field(description="When the next run is due by `retraining.schedule_days`.")
    last_run: RunDocument | None

    @classmethod
    def from_status(cls, one: "ModelTypeStatus") -> Self:
        version = one.production
        return cls.build(
            one,
            version_id=version.version_id if version else None,
            live_since=version.promoted_at if version else None,
            is_due=one.due.is_due,
            due_why=one.due.why,
        )


class PostsStatusDocument(Document):
    """The posts, and whether they still arrive."""

    count: int = Field(examples=[373])
    newest_at: Timestamp | None
    silence_hours: float | None = Field(examples=[5.2], description="The hours since the newest post.")
    usual_gap_hours: float | None = Field(
        examples=[61.5], description="The longest usual gap between posts: 99.9% of the gaps are at most that long."
    )
    stale: bool | None = Field(
        examples=[False], description="Whether the newest post is older than the longest usual gap; null without posts."
    )
    recent_per_day: float = Field(examples=[3.1], description="Posts a day in the last week.")
    usual_per_day: float | None = Field(examples=[2.9], description="Posts a day in the 12 weeks before the last week.")

    @classmethod
    def from_activity(cls, posts: "PostsActivity") -> Self:
        freshness = posts.freshness
        return cls.build(
            posts,
            newest_at=freshness.newest_at if freshness else None,
            silence_hours=_hours(freshness.silence) if freshness else None,
            usual_gap_hours=_hours(freshness.usual_gap) if freshness and freshness.usual_gap is not None else None,
            stale=freshness.is_stale if freshness else None,
        )


class ScheduleDocument(Document):
    """A schedule on this machine."""

    kind: Literal["cron", "systemd"]
    where: str = Field(examples=["your crontab"])
    line: str = Field(examples=["0 3 * * * /srv/venv/bin/python -P -m retrainer train --fetch --if-due"])
    active: bool | None = Field(
        examples=[True],
        description="Whether the cron daemon is running, or the timer is active; null if that is unknown.",
    )


class DiskDocument(Document):
    """The disk of the models folder."""

    folder: str = Field(examples=["/srv/project/models"])
    free_bytes: int = Field(examples=[12_000_000_000])
    total_bytes: int = Field(examples=[50_000_000_000])

    @classmethod
    def from_space(cls, space: "DiskSpace") -> Self:
        return cls(folder=str(space.folder), free_bytes=space.free, total_bytes=space.total)


class NeededPluginDocument(Document):
    """An algorithm that the settings or production need."""

    name: str = Field(examples=["prophet"])
    model_type: ModelTypeName
    problem: str | None = Field(examples=[None])


class StatusDocument(Document):
    """The state of a project."""

    at: Timestamp
    project: str = Field(examples=["/srv/project"])
    needs_attention: bool = Field(examples=[False], description="Whether there are problems.")
    problems: list[ProblemDocument] = Field(examples=[[]])
    stream: StreamName
    types: list[ModelTypeStatusDocument]
    posts: PostsStatusDocument
    schedules: list[ScheduleDocument]
    disk: DiskDocument | None
    plugins: list[NeededPluginDocument]

    @classmethod
    def from_status(cls, status: "Status") -> Self:
        return cls.build(
            status,
            needs_attention=bool(status.problems),
            types=[ModelTypeStatusDocument.from_status(one) for one in status.types],
            posts=PostsStatusDocument.from_activity(status.posts),
            disk=DiskDocument.from_space(status.disk) if status.disk else None,
        )


class ModelTypeCountsDocument(Document):
    """How many streams of some kind there are for a model type."""

    model_type: ModelTypeName
    enabled: int = Field(examples=[500], description="Streams whose models of the type are retrained.")
    live: int = Field(examples=[498], description="Streams with a production version.")
    due: int = Field(examples=[12])
    held: int = Field(examples=[1], description="Streams whose automatic promotion is on hold.")
    failed: int = Field(examples=[3], description="Streams whose latest run failed.")


class StreamsStatusDocument(Document):
    """The state of several streams."""

    at: Timestamp
    project: str = Field(examples=["/srv/project"])
    needs_attention: bool = Field(examples=[True], description="Whether there are problems.")
    problem_counts: dict[str, int] = Field(examples=[{"failed_run": 3}], description="How many there are of each kind.")
    problems: list[ProblemDocument] = Field(description=f"The first {MAX_PROBLEMS} of them.")
    streams: int = Field(examples=[500])
    types: list[ModelTypeCountsDocument]
    posts: int = Field(examples=[186_500])
    newest_at: Timestamp | None
    schedules: list[ScheduleDocument]
    disk: DiskDocument | None
    plugins: list[NeededPluginDocument]

    @classmethod
    def from_status(cls, status: "StreamsStatus") -> Self:
        return cls.build(
            status,
            needs_attention=bool(status.problems),
            problems=status.problems[:MAX_PROBLEMS],
            disk=DiskDocument.from_space(status.disk) if status.disk else None,
        )


def _hours(duration: timedelta) -> float:
    return duration / timedelta(hours=1)
