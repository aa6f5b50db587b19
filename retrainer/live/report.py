"""How the production version really does: its live scores by week, the verdict, and whether its promise was kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from retrainer.errors import NothingInProduction
from retrainer.evaluation.calibration import Calibration, PitSums
from retrainer.evaluation.decision_rule import improvement_percentage
from retrainer.evaluation.sequential import VERDICT_THRESHOLD, ConfidenceSequence, EProcess, Stakes
from retrainer.live.error_interval import ErrorInterval
from retrainer.model_types import get_model_type
from retrainer.model_types.base import skill_score
from retrainer.registry.tables import COMPARED_WITH
from retrainer.streams import of_stream, stream_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live import PostScore
    from retrainer.registry.tables import LiveComparison, ModelVersion

    Floats = NDArray[np.float64]

Against = Literal["naive", "previous", "challenger"]
Verdict = Literal["fine", "worse_than_naive", "worse_than_previous", "too_few_posts"]

_WEEK = timedelta(days=7)
_MONDAY = np.datetime64("1970-01-05", "us")


class Score(NamedTuple):
    """What n live posts scored.

    Attributes:
        num_posts: n.
        score: the overall score.
        crps: the CRPS in hours; None for content.
    """

    num_posts: int
    score: float
    crps: float | None


@dataclass(frozen=True)
class LiveWeek:
    """The live posts of an ISO week, UTC.

    Attributes:
        start: its Monday.
        live: the scores of the live fit; the posts are those that it is compared with the naive forecast on.
        naive: those of the naive forecast on the same posts.
        previous, challenger: those of the other versions on the posts that both sides forecast; None without any.
        coverage: the share of waits in the 80% interval of the live fit; None for content.
        so_far: by how much the error of the live fit is smaller than that of the naive forecast, over all live posts
            up to the end of the week.
    """

    start: datetime
    live: Score
    naive: Score
    previous: Score | None
    challenger: Score | None
    coverage: float | None
    so_far: ErrorInterval

    @property
    def skill(self) -> float:
        """The skill against the naive forecast: 0 is as good, 1 is perfect."""
        return skill_score(self.live.score, self.naive.score)


@dataclass(frozen=True)
class ComparisonReport:
    """The live fit beside another forecast, on all live posts that both forecast.

    Attributes:
        against: what the other one is.
        other_version_id: its version; None for the naive forecast.
        other_fit: the name of its fit.
        since: the time of the last post that either side knew.
        live, other: the scores; None without live posts.
        error: by how much the error of the live fit is smaller than that of the other.
        e_worse: the evidence that the live fit is worse: under no difference, it exceeds c at any time with a
            probability of at most 1/c.
        e_better: the evidence that it is better.
    """

    against: Against
    other_version_id: str | None
    other_fit: str
    since: datetime
    live: Score | None
    other: Score | None
    error: ErrorInterval | None
    e_worse: float
    e_better: float

    @property
    def num_posts(self) -> int:
        """The number of live posts that both forecast."""
        return self.live.num_posts if self.live is not None else 0

    @property
    def skill(self) -> float | None:
        """The skill of the live fit against the other; None without live posts."""
        return None if self.live is None or self.other is None else skill_score(self.live.score, self.other.score)


@dataclass(frozen=True)
class Promise:
    """The improvement that the promotion was decided on, beside the live one.

    Attributes:
        over: the version that the promoted one was compared with.
        num_posts: the number of held-out posts.
        percentage: by how much the score was better on them; None if that cannot be said.
        live_num_posts: the number of live posts that both forecast.
        live_percentage: by how much it is better on them; None likewise, or without any.
    """

    over: str
    num_posts: int
    percentage: float | None
    live_num_posts: int
    live_percentage: float | None


@dataclass(frozen=True)
class LiveReport:
    """How the production version of a model does on the posts that came since.

    Attributes:
        at: the time of the report, UTC.
        version_id: the production version.
        fit: the name of the fit that is live.
        since: the last post that it knew; None before it was scored for the first time.
        comparisons: with the naive forecast, the version that it replaced and the challenger of a running A/B test, as
            far as there are any.
        weeks: the weeks with live posts, in order; only the later ones if so asked for.
        coverage: the share of all live waits in the 80% interval; None for content or without any.
        calibration: of all live posts; None for content, and for forecasts at evenly spaced times.
        late_posts: how many posts arrived that are older than what the fit knew, and are never scored; None if
            the posts are in a foreign table, which does not say.
        verdict: the answer in a word …
        sentence: … and in a sentence.
        promise: None for a version that was promoted without a comparison.
    """

    stream: str
    model_type: ModelTypeName
    at: datetime
    version_id: str
    algorithm: str
    promoted_at: datetime | None
    fit: str
    since: datetime | None
    comparisons: list[ComparisonReport]
    weeks: list[LiveWeek]
    coverage: float | None
    calibration: Calibration | None
    late_posts: int | None
    verdict: Verdict
    sentence: str
    promise: Promise | None

    def against(self, other: Against) -> ComparisonReport | None:
        """Return the comparison with another forecast; None if there is none."""
        return next((one for one in self.comparisons if one.against == other), None)

    @property
    def num_posts(self) -> int:
        """The number of live posts."""
        naive = self.against("naive")
        return naive.num_posts if naive is not None else 0


def report_live(
    project: Project, model_type: ModelTypeName, now: datetime, since: datetime | None = None
) -> LiveReport:
    """Report on the stored live scores of the production version. Nothing is scored or written.

    Args:
        now: only posts up to this time count.
        since: leave out the weeks before this time; all else is about all live posts.

    Raises:
        NothingInProduction: the model type has no production version.
    """
    registry = project.registry
    version = registry.get_production(model_type)
    if version is None:
        several = len(project.list_streams()) > 1
        hint = f"Run `retrainer train {model_type}{stream_argument(project.stream, several=several)}`"
        of = of_stream(project.stream, several=several)
        raise NothingInProduction(f"no {model_type} version{of} is in production", hint=hint)
    readers = [_Reader(model_type, one) for one in current_comparisons(project, version)]
    for reader in readers:
        reader.read(project, now)
    comparisons = [reader.report() for reader in readers]
    naive = next((one for one in readers if one.comparison.against == "naive"), None)
    verdict, sentence = judge(comparisons)
    return LiveReport(
        stream=project.stream,
        model_type=model_type,
        at=now,
        version_id=version.version_id,
        algorithm=version.algorithm,
        promoted_at=version.promoted_at,
        fit=fit_name(version),
        since=naive.comparison.starts_after if naive else None,
        comparisons=comparisons,
        weeks=_weeks(readers, since),
        coverage=naive.coverage() if naive else None,
        calibration=naive.calibration if naive else None,
        late_posts=_count_late_posts(project, version, naive.comparison) if naive else None,
        verdict=verdict,
        sentence=sentence,
        promise=_promise(project, version, comparisons),
    )


def current_comparisons(project: Project, version: ModelVersion) -> list[LiveComparison]:
    """Return the stored comparisons of the fit in production: with naive, the version before, and a challenger."""
    found: dict[str, LiveComparison] = {}
    for one in project.registry.list_live_comparisons(version.model_type_name, fit_name(version)):  # newest first
        found.setdefault(one.against, one)
    return [found[name] for name in COMPARED_WITH if name in found]


def fit_name(version: ModelVersion) -> str:
    """Return the name of the fit of a version that serves: VERSION, or VERSION/REFIT."""
    return version.version_id if version.refit is None else f"{version.version_id}/{version.refit.refit_id}"


class _Sums:
    """The sums of the figures of both sides over some posts."""

    def __init__(self) -> None:
        self.count = 0
        self.live: Floats = np.zeros(0)
        self.other: Floats = np.zeros(0)

    def add(self, live: Floats, other: Floats) -> None:
        """Add (n, k) figures."""
        if not self.count:
            self.live, self.other = np.zeros(live.shape[1]), np.zeros(other.shape[1])
        self.count += len(live)
        self.live = self.live + live.sum(axis=0)
        self.other = self.other + other.sum(axis=0)


class _Reader:
    """Reads the scores of a comparison in chunks, in constant memory.

    Attributes:
        weeks: the sums of each ISO week with live posts, by its Monday, in order.
        so_far: by how much the error of the live fit is smaller up to the end of each of these weeks.
        process: the evidence.
    """

    def __init__(self, model_type: ModelTypeName, comparison: LiveComparison) -> None:
        self.comparison = comparison
        self._kind = get_model_type(model_type)
        self._num_components = len(self._kind.component_names)
        self.weeks: dict[np.datetime64, _Sums] = {}
        self.so_far: list[ErrorInterval] = []
        self._total = _Sums()
        self._sequence = ConfidenceSequence()
        self.process = EProcess()
        self._pit = PitSums.empty()

    def read(self, project: Project, now: datetime) -> None:
        """Read all scores of posts up to a time."""
        for scores in project.registry.stream_live_scores(self.comparison.comparison_id, until=now):
            self._add(scores)
        if self.weeks:
            self._end_week()
        if self._total.count == self.comparison.num_scored and self.comparison.state:
            self.process = EProcess.from_bytes(self.comparison.state)

    def _add(self, scores: Sequence[PostScore]) -> None:
        times = np.array([score.created_at.replace(tzinfo=None) for score in scores], dtype="datetime64[us]")
        live = np.array([score.figures for score in scores], dtype=float)
        other = np.array([score.other_figures for score in scores], dtype=float)
        stakes = Stakes(*np.array([[getattr(score, name) for score in scores] for name in Stakes._fields]))
        self.process.update(stakes)
        self._total.add(live, other)
        if live.shape[1] > self._num_components:
            self._pit.add(live[:, self._num_components + 2])
        mondays = _MONDAY + (times - _MONDAY) // np.timedelta64(_WEEK) * np.timedelta64(_WEEK)
        bounds = [0, *(np.flatnonzero(mondays[1:] != mondays[:-1]) + 1).tolist(), len(mondays)]
        for start, stop in pairwise(bounds):
            monday = mondays[start]
            if self.weeks and monday not in self.weeks:
                self._end_week()
            self.weeks.setdefault(monday, _Sums()).add(live[start:stop], other[start:stop])
            self._sequence.update(stakes.rows(start, stop))

    def _end_week(self) -> None:
        self.so_far.append(ErrorInterval.of_a(self._sequence.interval()))

    def report(self) -> ComparisonReport:
        """Return the comparison on all posts that were read."""
        row, total = self.comparison, self._total
        return ComparisonReport(
            against=cast("Against", row.against),
            other_version_id=row.other_version_id,
            other_fit=row.other_fit,
            since=row.starts_after,
            live=self.score(total.count, total.live) if total.count else None,
            other=self.score(total.count, total.other) if total.count else None,
            error=self.so_far[-1] if self.so_far else None,
            e_worse=self.process.worse,
            e_better=self.process.better,
        )

    def score(self, count: int, sums: Floats) -> Score:
        """Return the scores of so many posts."""
        means = sums / count
        crps = float(means[self._num_components]) if len(means) > self._num_components else None
        return Score(count, float(self._kind.overall_score(means[: self._num_components])), crps)

    def coverage(self, sums: _Sums | None = None) -> float | None:
        """Return the share of waits in the 80% interval, of a week or of all posts; None without distributions."""
        sums = self._total if sums is None else sums
        has_distributions = len(sums.live) > self._num_components
        return float(sums.live[self._num_components + 1] / sums.count) if has_distributions else None

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of all posts; the mean PIT of several origins has another distribution."""
        return self._pit.result() if self._pit.count and self.comparison.origin == "post" else None


def _weeks(readers: Sequence[_Reader], since: datetime | None) -> list[LiveWeek]:
    by = {reader.comparison.against: reader for reader in readers}
    naive, weeks = by.get("naive"), []
    for (monday, sums), so_far in zip(naive.weeks.items(), naive.so_far, strict=True) if naive else ():
        start = monday.astype(datetime).replace(tzinfo=UTC)
        if since is not None and start + _WEEK <= since:
            continue
        others = {name: reader.weeks[monday] for name, reader in by.items() if monday in reader.weeks}
        scores = {name: by[name].score(other.count, other.other) for name, other in others.items()}
        weeks.append(
            LiveWeek(
                start=start,
                live=by["naive"].score(sums.count, sums.live),
                naive=scores["naive"],
                previous=scores.get("previous"),
                challenger=scores.get("challenger"),
                coverage=by["naive"].coverage(sums),
                so_far=so_far,
            )
        )
    return weeks


def judge(comparisons: Sequence[ComparisonReport]) -> tuple[Verdict, str]:
    """Return the verdict on a production version, and the sentence that explains it."""
    by = {one.against: one for one in comparisons}
    naive, previous = by.get("naive"), by.get("previous")
    if naive is not None and naive.error is not None and naive.e_worse >= VERDICT_THRESHOLD:
        return "worse_than_naive", _sentence("Worse than the naive forecast", naive, "worse")
    if previous is not None and previous.error is not None and previous.e_worse >= VERDICT_THRESHOLD:
        return "worse_than_previous", _sentence("Worse than the version that it replaced", previous, "worse")
    if naive is None or naive.error is None:
        return "too_few_posts", "Too few posts to say: no live post has been scored yet."
    if naive.e_better >= VERDICT_THRESHOLD:
        return "fine", _sentence("Fine", naive, "better")
    return "too_few_posts", _sentence("Too few posts to say", naive, None)


def _sentence(verdict: str, comparison: ComparisonReport, found: Literal["worse", "better"] | None) -> str:
    count, error = comparison.num_posts, comparison.error
    other = "the naive forecast's" if comparison.against == "naive" else f"that of '{comparison.other_fit}'"
    posts = "1 live post" if count == 1 else f"{count:,} live posts"
    how_much = error.describe(found) if error is not None else "unknown"
    return f"{verdict}: over {posts} its error is {how_much} {other}; this holds however often you look."


def _count_late_posts(project: Project, version: ModelVersion, comparison: LiveComparison) -> int | None:
    """Count the posts that arrived after the live fit was promoted, and are older than the posts it knew."""
    known_at = version.promoted_at or comparison.created_at
    return project.posts.count_late(comparison.starts_after, known_at)


def _promise(project: Project, version: ModelVersion, comparisons: Sequence[ComparisonReport]) -> Promise | None:
    """Return what the latest promotion of a version promised; None if it was promoted without a comparison."""
    entries = project.registry.version_history(version.version_id)
    promotion = next(
        (one for one in entries if (one.action, one.to_version_id) == ("promotion", version.version_id)), None
    )
    evidence = promotion.evidence if promotion is not None else {}
    old, new = (evidence.get(side) for side in ("metrics_a", "metrics_b"))
    if promotion is None or promotion.from_version_id is None or not (old and new):
        return None
    previous = next((one for one in comparisons if one.against == "previous"), None)
    if previous is not None and previous.other_version_id != promotion.from_version_id:
        previous = None
    live = (
        None
        if previous is None or previous.live is None or previous.other is None
        else improvement_percentage(previous.other.score, previous.live.score)
    )
    return Promise(
        over=promotion.from_version_id,
        num_posts=int(evidence.get("num_predictions") or 0),
        percentage=improvement_percentage(old["overall_score"], new["overall_score"]),
        live_num_posts=previous.num_posts if previous else 0,
        live_percentage=live,
    )
