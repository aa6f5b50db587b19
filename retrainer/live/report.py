"""How the production version really does: its live scores by week, the verdict, and whether its promise was kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from retrainer.errors import NothingInProduction
from retrainer.evaluation.calibration import Calibration, PitSums
from retrainer.evaluation.decision_rule import improvement_percentage
from retrainer.evaluation.sequential import ConfidenceSequence, EProcess, Stakes
from retrainer.live.drift import Drift, measure_drift
from retrainer.live.error_interval import ErrorInterval
from retrainer.live.summary import (
    Against,
    ComparisonReport,
    Score,
    Verdict,
    describe_verdict,
    find_comparison,
    find_verdict,
    list_comparisons,
)
from retrainer.model_types import get_model_type
from retrainer.model_types.base import skill_score
from retrainer.pipeline.score_history import load_score_history
from retrainer.streams import of_stream, stream_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.expected_score import Coverage
    from retrainer.project import Project
    from retrainer.registry.live import PostScore
    from retrainer.registry.live_tables import LiveComparison
    from retrainer.registry.tables import ModelVersion

    Floats = NDArray[np.float64]

_WEEK = timedelta(days=7)
_MONDAY = np.datetime64("1970-01-05", "us")


class Evidence(NamedTuple):
    """The e-values that the live fit is worse, and better."""

    worse: float
    better: float


@dataclass(frozen=True)
class LiveWeek:
    """The live posts of an ISO week, UTC.

    Attributes:
        start: its Monday.
        live: the scores of the live fit; the posts are those that it is compared with the naive forecast on.
        naive: those of the naive forecast on the same posts.
        previous, challenger: those of the other versions on the posts that both sides forecast; None without any.
        so_far: by how much the error of the live fit is smaller than that of the naive forecast, over all live posts
            up to the end of the week.
        evidence: the evidence at the end of the week that the live fit is worse than each of the others, and better.
    """

    start: datetime
    live: Score
    naive: Score
    previous: Score | None
    challenger: Score | None
    so_far: ErrorInterval
    evidence: dict[Against, Evidence]

    @property
    def skill(self) -> float:
        """The skill against the naive forecast: 0 is as good, 1 is perfect."""
        return skill_score(self.live.score, self.naive.score)


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
        comparisons: with the naive forecast, the previous version and the challenger of a running A/B test, as
            far as there are any.
        weeks: the weeks with live posts, in order; only the later ones if so asked for.
        calibration: of all live posts; None for content.
        expected_score_coverage: content: how often the scores of the latest live posts were in the interval expected
            before them; None with too few to say.
        late_posts: how many posts arrived that are older than what the fit knew, and are never scored; None if
            the posts are in a foreign table, which does not say.
        verdict: the answer in a word …
        sentence: … and in a sentence.
        promise: None for a version that was promoted without a comparison.
        drift: how the stream has changed since the live fit was trained, one of each kind.
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
    calibration: Calibration | None
    expected_score_coverage: Coverage | None
    late_posts: int | None
    verdict: Verdict
    sentence: str
    promise: Promise | None
    drift: list[Drift]

    def against(self, other: Against) -> ComparisonReport | None:
        """Return the comparison with another forecast; None if there is none."""
        return find_comparison(self.comparisons, other)

    @property
    def num_posts(self) -> int:
        naive = self.against("naive")
        return naive.num_posts if naive is not None else 0


def report_live(
    project: Project,
    model_type: ModelTypeName,
    now: datetime,
    since: datetime | None = None,
    drift: list[Drift] | None = None,
) -> LiveReport:
    """Report on the stored live scores of the production version. Nothing is scored or written.

    Args:
        now: only posts up to this time count.
        since: leave out the weeks before this time; all else is about all live posts.
        drift: how the stream has changed; None to measure it.

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
    readers = [_Reader(model_type, row) for row in list_comparisons(registry, model_type)]
    for reader in readers:
        reader.read(project, now)
    comparisons = [reader.report() for reader in readers]
    naive = next((one for one in readers if one.comparison.against == "naive"), None)
    return LiveReport(
        stream=project.stream,
        model_type=model_type,
        at=now,
        version_id=version.version_id,
        algorithm=version.algorithm,
        promoted_at=version.promoted_at,
        fit=version.fit,
        since=naive.comparison.starts_after if naive else None,
        comparisons=comparisons,
        weeks=_weeks(readers, since),
        calibration=naive.calibration if naive else None,
        expected_score_coverage=_expected_score_coverage(project, version, now) if naive else None,
        late_posts=_count_late_posts(project, version, naive.comparison) if naive else None,
        verdict=find_verdict(comparisons),
        sentence=describe_verdict(comparisons),
        promise=_promise(project, version, comparisons),
        drift=measure_drift(project, model_type, now) if drift is None else drift,
    )


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
        evidence: the evidence at the end of each of them.
    """

    def __init__(self, model_type: ModelTypeName, comparison: LiveComparison) -> None:
        self.comparison = comparison
        self._model_type = model_type
        self._pit_column = len(get_model_type(model_type).component_names) + 2
        self.weeks: dict[np.datetime64, _Sums] = {}
        self.so_far: list[ErrorInterval] = []
        self.evidence: dict[np.datetime64, Evidence] = {}
        self._total = _Sums()
        self._sequence = ConfidenceSequence()
        self._process = EProcess()
        self._pit = PitSums.empty()

    def read(self, project: Project, now: datetime) -> None:
        """Read all scores of posts up to a time."""
        for scores in project.registry.stream_live_scores(self.comparison.comparison_id, until=now):
            self._add(scores)
        if self.weeks:
            self._end_week()

    def _add(self, scores: Sequence[PostScore]) -> None:
        times = np.array([score.created_at.replace(tzinfo=None) for score in scores], dtype="datetime64[us]")
        live = np.array([score.figures for score in scores], dtype=float)
        other = np.array([score.other_figures for score in scores], dtype=float)
        stakes = Stakes(*np.array([[getattr(score, name) for score in scores] for name in Stakes._fields]))
        self._total.add(live, other)
        if live.shape[1] > self._pit_column:
            self._pit.add(live[:, self._pit_column])
        mondays = _MONDAY + (times - _MONDAY) // np.timedelta64(_WEEK) * np.timedelta64(_WEEK)
        bounds = [0, *(np.flatnonzero(mondays[1:] != mondays[:-1]) + 1).tolist(), len(mondays)]
        for start, stop in pairwise(bounds):
            monday = mondays[start]
            if self.weeks and monday not in self.weeks:
                self._end_week()
            self.weeks.setdefault(monday, _Sums()).add(live[start:stop], other[start:stop])
            self._sequence.update(stakes.rows(start, stop))
            self._process.update(stakes.rows(start, stop))

    def _end_week(self) -> None:
        self.so_far.append(ErrorInterval.of_a(self._sequence.interval()))
        self.evidence[next(reversed(self.weeks))] = Evidence(self._process.worse, self._process.better)

    def report(self) -> ComparisonReport:
        """Return the comparison on all posts that were read."""
        total = self._total
        return replace(
            ComparisonReport.from_row(self.comparison),
            live=self.score(total.count, total.live) if total.count else None,
            other=self.score(total.count, total.other) if total.count else None,
            error=self.so_far[-1] if self.so_far else None,
            e_worse=self._process.worse,
            e_better=self._process.better,
        )

    def score(self, count: int, sums: Floats) -> Score:
        """Return the scores of so many posts."""
        return Score.from_sums(self._model_type, count, sums)

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of all posts; None without distributions."""
        return self._pit.result() if self._pit.count else None


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
                so_far=so_far,
                evidence={cast("Against", name): by[name].evidence[monday] for name in others},
            )
        )
    return weeks


def _expected_score_coverage(project: Project, version: ModelVersion, now: datetime) -> Coverage | None:
    if version.model_type != "content":
        return None
    return load_score_history(project, version, now).live_coverage()


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
