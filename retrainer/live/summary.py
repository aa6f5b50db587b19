"""How production versions do on live posts, by the sums that are kept with each comparison: one query, however many."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from retrainer.errors import DamagedValue
from retrainer.evaluation.sequential import ROLLBACK_THRESHOLD, VERDICT_THRESHOLD
from retrainer.live.scores import Totals, read_sums
from retrainer.model_types import get_model_type
from retrainer.model_types.base import skill_score
from retrainer.registry.live_tables import COMPARED_WITH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from retrainer.live.error_interval import ErrorInterval
    from retrainer.model_types import ModelTypeName
    from retrainer.registry.live_tables import LiveComparison
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion
    from retrainer.streams import ModelKey

Against = Literal["naive", "previous", "challenger"]
Verdict = Literal["fine", "worse_than_naive", "worse_than_previous", "as_good_as_naive", "too_few_posts"]

log = logging.getLogger(__name__)

_SMALL = 0.02  # a smaller difference of errors does not matter


class Score(NamedTuple):
    """What live posts scored.

    Attributes:
        num_posts: how many there are.
        score: the overall score.
        crps: the CRPS in hours; None for content.
        coverage: the share of waits in the 80% interval; None for content.
    """

    num_posts: int
    score: float
    crps: float | None
    coverage: float | None

    @classmethod
    def from_sums(cls, model_type: ModelTypeName, num_posts: int, sums: NDArray[np.float64] | Sequence[float]) -> Score:
        """Return the scores of posts by the sums of their figures; see `LiveScore.figures`."""
        kind = get_model_type(model_type)
        means = np.asarray(sums, dtype=float) / num_posts
        components, distribution = np.split(means, [len(kind.component_names)])
        crps, coverage = distribution[:2].tolist() if len(distribution) else (None, None)
        return cls(num_posts, float(kind.overall_score(components)), crps, coverage)


@dataclass(frozen=True)
class ComparisonReport:
    """The live fit beside another forecast, on all live posts that both forecast.

    Attributes:
        against: what the other one is.
        other_version_id: its version; None for the naive forecast.
        other_fit: the name of its fit.
        since: the time of the last post that either side knew.
        live, other: the scores; None without live posts.
        e_worse: the evidence that the live fit is worse: without any difference, it ever exceeds c with a probability
            of at most 1 / c.
        e_better: the evidence that it is better.
        error: by how much the error of the live fit is smaller than that of the other; None if it was not computed, or
            without live posts.
    """

    against: Against
    other_version_id: str | None
    other_fit: str
    since: datetime
    live: Score | None
    other: Score | None
    e_worse: float
    e_better: float
    error: ErrorInterval | None = None

    @classmethod
    def from_row(cls, row: LiveComparison) -> ComparisonReport:
        """Return the comparison by what is kept with it.

        Raises:
            DamagedValue: that is damaged.
        """
        totals = Totals.of(row)
        model_type, count = row.model_type_name, totals.num_scored
        return cls(
            against=cast("Against", row.against),
            other_version_id=row.other_version_id,
            other_fit=row.other_fit,
            since=row.starts_after,
            live=Score.from_sums(model_type, count, totals.sums) if count else None,
            other=Score.from_sums(model_type, count, totals.other_sums) if count else None,
            e_worse=totals.evidence.worse,
            e_better=totals.evidence.better,
        )

    @property
    def num_posts(self) -> int:
        """The number of live posts that both forecast."""
        return self.live.num_posts if self.live is not None else 0

    @property
    def skill(self) -> float | None:
        """The skill of the live fit against the other; None without live posts."""
        return None if self.live is None or self.other is None else skill_score(self.live.score, self.other.score)

    @property
    def is_worse(self) -> bool:
        """Whether the live fit is certainly worse."""
        return self.e_worse >= VERDICT_THRESHOLD

    @property
    def is_better(self) -> bool:
        """Whether the live fit is certainly better."""
        return self.e_better >= VERDICT_THRESHOLD


@dataclass(frozen=True)
class LiveSummary:
    """How a production version does.

    Attributes:
        comparisons: with the naive forecast, the previous version and the challenger of a running A/B test, as
            far as there are any.
    """

    version: ModelVersion
    comparisons: list[ComparisonReport]

    def against(self, other: Against) -> ComparisonReport | None:
        """Return the comparison with another forecast; None if there is none."""
        return find_comparison(self.comparisons, other)

    @property
    def fit(self) -> str:
        """The name of the fit that is live."""
        return self.version.fit

    @property
    def num_posts(self) -> int:
        naive = self.against("naive")
        return naive.num_posts if naive is not None else 0

    @property
    def verdict(self) -> Verdict:
        """The verdict in a word."""
        return find_verdict(self.comparisons)

    def find_worse(self, *, several: bool) -> ComparisonReport | None:
        """Return the comparison that proves the version worse than the naive forecast or the previous version.

        Args:
            several: whether it is one of several streams; each takes the evidence of a rollback then, since the wrong
                verdicts on many good versions add up.
        """
        threshold = ROLLBACK_THRESHOLD if several else VERDICT_THRESHOLD
        others = (self.against("naive"), self.against("previous"))
        return next((one for one in others if one is not None and one.e_worse >= threshold), None)

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        return describe_verdict(self.comparisons)


def summarize_live(
    registry: Registry, model_type: ModelTypeName | None = None
) -> tuple[dict[ModelKey, LiveSummary], dict[ModelKey, DamagedValue]]:
    """Return a summary of each production version, and the error of each whose live scores are damaged."""
    rows, damaged = read_comparisons(registry, model_type)
    by_model: dict[ModelKey, list[LiveComparison]] = {}
    for row in rows:
        by_model.setdefault(row.model_key, []).append(row)
    found: dict[ModelKey, LiveSummary] = {}
    for version in registry.list_production():
        key = version.model_key
        if key in damaged or model_type not in {None, key.model_type}:
            continue
        try:
            found[key] = LiveSummary(version, [ComparisonReport.from_row(row) for row in by_model.get(key, [])])
        except DamagedValue as error:
            damaged[key] = error
    return found, damaged


def read_comparisons(
    registry: Registry, model_type: ModelTypeName | None = None
) -> tuple[list[LiveComparison], dict[ModelKey, DamagedValue]]:
    """Return the current comparisons that can be read, and the error of each model that has others."""
    try:
        return list_comparisons(registry, model_type), {}
    except DamagedValue:
        keys = sorted(one.model_key for one in registry.list_production() if model_type in {None, one.model_type})
    return _read_undamaged(registry, keys)


def _read_undamaged(
    registry: Registry, keys: Sequence[ModelKey]
) -> tuple[list[LiveComparison], dict[ModelKey, DamagedValue]]:
    """Do it for some models: a damaged row fails a whole query, so it is looked for by halves."""
    if not keys:
        return [], {}
    across = registry.across({key.stream for key in keys})
    try:
        rows = list_comparisons(across, keys[0].model_type if len(keys) == 1 else None)
        return [row for row in rows if row.model_key in keys], {}
    except DamagedValue as error:
        if len(keys) == 1:
            return [], {keys[0]: error}
    middle = len(keys) // 2
    (first, some), (second, others) = (_read_undamaged(registry, part) for part in (keys[:middle], keys[middle:]))
    return first + second, some | others


def score_versions(rows: Iterable[LiveComparison]) -> dict[str, Score]:
    """Return the live scores of versions over all of their live fits; see `list_scored_versions`.

    A version whose scores are damaged is logged and left out.
    """
    found: dict[str, tuple[int, NDArray[np.float64]]] = {}
    types: dict[str, ModelTypeName] = {}
    damaged: set[str] = set()
    for row in rows:
        count, sums = found.get(row.version_id, (0, 0.0))
        try:
            found[row.version_id] = (count + row.num_scored, sums + read_sums(row)[0])
        except DamagedValue as error:
            log.warning("Cannot show the live scores of '%s': %s", row.version_id, error)
            damaged.add(row.version_id)
        types[row.version_id] = row.model_type_name
    return {
        version_id: Score.from_sums(types[version_id], *sums)
        for version_id, sums in found.items()
        if version_id not in damaged
    }


def list_comparisons(registry: Registry, model_type: ModelTypeName | None = None) -> list[LiveComparison]:
    """Return the current comparisons of the fits in production, of all streams of the registry, in a fixed order.

    With a challenger, only that of a running A/B test.

    Args:
        model_type: None for both.
    """
    rows = registry.list_current_live_comparisons(model_type)
    if any(row.against == "challenger" for row in rows):
        tested = {test.comparison_id for test in registry.list_running_tests()}
        rows = [row for row in rows if row.against != "challenger" or row.comparison_id in tested]
    return sorted(rows, key=lambda row: (row.stream, row.model_type, COMPARED_WITH.index(row.against)))


def find_comparison(comparisons: Sequence[ComparisonReport], other: Against) -> ComparisonReport | None:
    """Return the comparison with another forecast; None if there is none."""
    return next((one for one in comparisons if one.against == other), None)


def find_verdict(comparisons: Sequence[ComparisonReport]) -> Verdict:
    """Return the verdict on a production version; each is wrong with a probability of at most 5%, at all looks.

    That it is as good as naive is only known where the interval was computed.
    """
    naive, previous = (find_comparison(comparisons, other) for other in ("naive", "previous"))
    if naive is not None and naive.is_worse:
        return "worse_than_naive"
    if previous is not None and previous.is_worse:
        return "worse_than_previous"
    if naive is not None and naive.is_better:
        return "fine"
    is_equal = naive is not None and naive.error is not None and naive.error.max_difference <= _SMALL
    return "as_good_as_naive" if is_equal else "too_few_posts"


def describe_verdict(comparisons: Sequence[ComparisonReport]) -> str:
    """Return the verdict as a sentence, with the interval if it was computed."""
    naive, previous = (find_comparison(comparisons, other) for other in ("naive", "previous"))
    match find_verdict(comparisons):
        case "worse_than_naive":
            return _sentence("Worse than the naive forecast", naive, "worse")
        case "worse_than_previous":
            return _sentence("Worse than the previous version", previous, "worse")
        case "fine":
            return _sentence("Fine", naive, "better")
        case "as_good_as_naive":
            return _sentence("As good as the naive forecast", naive, None)
        case "too_few_posts":
            return _sentence("Too few posts to say", naive, None)


def _sentence(verdict: str, comparison: ComparisonReport | None, found: Literal["worse", "better"] | None) -> str:
    if comparison is None or not comparison.num_posts:
        return f"{verdict}: no live post has been scored yet."
    posts = "1 live post" if comparison.num_posts == 1 else f"{comparison.num_posts:,} live posts"
    if comparison.error is None:
        return f"{verdict}, over {posts}."
    if found is None and not comparison.error.is_known:
        return f"{verdict}: {posts} so far."
    other = "the naive forecast's" if comparison.against == "naive" else f"that of '{comparison.other_fit}'"
    is_it = comparison.error.describe(found)
    return f"{verdict}: over {posts} its error is {is_it} {other}; this holds however often you look."
