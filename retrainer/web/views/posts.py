"""The page of the posts: how many come, when, with which gaps, how good the data is, whether the stream has changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from retrainer.errors import RetrainerError, ServerBusy
from retrainer.live.drift import CONCERNS, measure_drift
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.model_types.base import hours_between, utc_times
from retrainer.pipeline.stale_posts import describe_staleness
from retrainer.posts.freshness import USUAL_DAYS, Freshness
from retrainer.render.charts import posts as charts
from retrainer.times import format_hours
from retrainer.web.rendering import Page
from retrainer.web.specs import page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from retrainer.live.drift import Drift
    from retrainer.model_types import ModelTypeName
    from retrainer.posts.freshness import PostsActivity
    from retrainer.project import Project
    from retrainer.registry.tables import Post
    from retrainer.render.charts.chart import Chart
    from retrainer.web.site import Visit

SHOWN_POSTS = 20
MAX_AGE_SECONDS = 60.0  # of what is shown of the posts, while their number stays the same
WAIT_SECONDS = 30.0  # until a million posts are read
MAX_CHARACTERS = 300  # of a text that is shown
_MUCH = 0.05  # from this share of the posts on, something about them deserves a look
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))  # in seconds
_LONG_GAPS = 10  # times the longest usual gap


@dataclass(frozen=True)
class Quality:
    """Something about the data.

    Attributes:
        name: what was looked at.
        value: what was found, in words.
        tone: `warning` if it deserves a look, or empty.
        note: what follows from it; empty if nothing does.
    """

    name: str
    value: str
    tone: Literal["", "warning"] = ""
    note: str = ""


@dataclass(frozen=True)
class DriftView:
    """How the stream has changed since the live fit of a model type was trained.

    Attributes:
        found: of each kind that concerns the model type; empty if nothing is in production.
        chart: the evidence.
    """

    model_type: ModelTypeName
    found: Sequence[Drift]
    chart: Chart | None


@dataclass(frozen=True)
class PostsView:
    """What the page shows.

    Attributes:
        location: where the posts are.
        activity: how many there are, and how many come.
        first: the time of the first post; None without posts.
        staleness: why they are stale; None if they are not.
        charts: the rate over time, the hours of the week, the gaps.
        quality: of the data.
        drift: by model type.
        latest: the latest posts, newest first.
        max_characters: of a text that is shown.
        usual_days: the days that the usual number of posts a day is of.
    """

    location: str
    activity: PostsActivity
    first: datetime | None
    staleness: str | None
    charts: Sequence[Chart]
    quality: Sequence[Quality]
    drift: Sequence[DriftView]
    latest: Sequence[Post]
    max_characters: int = MAX_CHARACTERS
    usual_days: int = USUAL_DAYS


def posts(visit: Visit) -> Page:
    """Return the page of the posts of a stream. What it shows of them may be a minute old."""
    project, now = visit.project, visit.now

    def gather() -> PostsView | RetrainerError:
        try:
            return gather_posts(project, now)
        except RetrainerError as error:
            return error

    key = ("posts", project.stream, project.posts.count(now))
    view = visit.site.background.get(key, gather, max_age=MAX_AGE_SECONDS, wait=WAIT_SECONDS)
    if view is None:
        raise ServerBusy("the posts are still being read", hint="Reload the page in a moment")
    if isinstance(view, RetrainerError):
        raise view
    return Page("posts.html", "Posts", {"view": view}, "/posts")


def gather_posts(project: Project, now: datetime, model_types: Sequence[ModelTypeName] = MODEL_TYPE_NAMES) -> PostsView:
    """Gather what there is to say about the posts of a stream up to now.

    Args:
        model_types: those whose drift is measured.
    """
    store = project.posts
    activity = store.activity(now)
    loaded = store.load_lengths(now)
    times = utc_times(loaded)
    latest, _ = store.list_posts(None, now, SHOWN_POSTS)
    drawn = (charts.rate(times), charts.hours_of_week(times), charts.gaps(times))
    return PostsView(
        location=store.location,
        activity=activity,
        first=loaded["created_at"].iloc[0].to_pydatetime() if len(loaded) else None,
        staleness=describe_staleness(activity.freshness) if activity.freshness else None,
        charts=[chart for chart in drawn if chart],
        quality=measure_quality(loaded, activity.freshness) if len(loaded) else [],
        drift=[_gather_drift(project, model_type, now, loaded) for model_type in model_types],
        latest=latest[::-1],
    )


def _gather_drift(project: Project, model_type: ModelTypeName, now: datetime, posts: pd.DataFrame) -> DriftView:
    found = [one for one in measure_drift(project, model_type, now, posts) if one.kind in CONCERNS[model_type]]
    chart = charts.drift(found)
    title = f"Have the posts changed since the {model_type} version in production was trained?"
    return DriftView(model_type, found, chart and replace(chart, title=title))


def measure_quality(posts: pd.DataFrame, freshness: Freshness | None) -> list[Quality]:
    """Return what there is to say about the quality of posts.

    Args:
        posts: `created_at` and `length`, in order; at least one.
        freshness: with the longest usual gap, against which the gaps are held.
    """
    times, lengths = utc_times(posts), posts["length"].to_numpy(np.float64)
    gaps = hours_between(times[:-1], times[1:])
    return [
        _without_text(lengths),
        _same_time(gaps),
        *([_whole_minutes(times)] if len(times) > 1 else []),
        *([_longest_gap(times, gaps, freshness)] if len(gaps) else []),
        _lengths(lengths),
    ]


def _without_text(lengths: np.ndarray) -> Quality:
    count, share = int(np.isnan(lengths).sum()), float(np.isnan(lengths).mean())
    note = "A content model learns only from the others." if count else ""
    return Quality("Posts without text", f"{count:,} ({share:.1%})", "warning" if share >= _MUCH else "", note)


def _same_time(gaps: np.ndarray) -> Quality:
    count = int((gaps == 0).sum())
    share = count / max(len(gaps), 1)
    note = "If they were imported in bulk, these may not be the times of posting." if share >= _MUCH else ""
    tone: Literal["", "warning"] = "warning" if share >= _MUCH else ""
    return Quality("Posts with the same time as the previous one", f"{count:,} ({share:.1%})", tone, note)


def _whole_minutes(times: np.ndarray) -> Quality:
    seconds = times.astype("datetime64[s]").astype(np.int64)
    finest = next(
        (name for step, name in ((86_400, "day"), (3600, "hour"), (60, "minute")) if not (seconds % step).any()), None
    )
    if finest is None:
        return Quality("Times", "to the second")
    tone: Literal["", "warning"] = "" if finest == "minute" else "warning"
    note = "" if finest == "minute" else "A timing model needs the time of day of each post."
    return Quality("Times", f"to the {finest}", tone, note)


def _longest_gap(times: np.ndarray, gaps: np.ndarray, freshness: Freshness | None) -> Quality:
    row = int(gaps.argmax())
    longest = float(gaps[row])
    start = times[row].astype("datetime64[D]").item()
    usual = freshness.usual_gap.total_seconds() / 3600 if freshness and freshness.usual_gap else longest
    is_hole = len(gaps) >= 1000 and longest > _LONG_GAPS * usual  # noqa: PLR2004  fewer show no usual gap
    note = "Posts may be missing there; a model treats it as a silence." if is_hole else ""
    return Quality("Longest gap", f"{format_hours(longest)}, from {start}", "warning" if is_hole else "", note)


def _lengths(lengths: np.ndarray) -> Quality:
    known = lengths[~np.isnan(lengths)]
    if not len(known):
        return Quality("Length of texts", "no post has a text", "warning")
    low, middle, high = np.quantile(known, [0.05, 0.5, 0.95])
    return Quality("Length of texts", f"median {middle:,.0f} characters; 5% to 95%: {low:,.0f} to {high:,.0f}")


ROUTES = [page("/posts", posts, work="inspect", cached="briefly")]
