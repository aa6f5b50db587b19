"""The scores of a content version on posts that it was not trained on, by which the next one is expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrainer.model_types import get_model_type
from retrainer.model_types.expected_score import HISTORY, measure_coverage
from retrainer.pipeline.loading import load_forecasts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from numpy.typing import NDArray

    from retrainer.model_types.expected_score import Coverage
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

_MAX_EVALUATIONS = 5  # to read: each is of posts from all the time since the training


class ScoredPost(NamedTuple):
    """The score of a version on a post.

    Attributes:
        since: a time not after the post's and not before that of any earlier post, UTC: the time of the post, or of the
            one before.
        score: the overall score.
        is_live: whether it is a live score, not one of an evaluation.
    """

    since: datetime
    post_id: str
    score: float
    is_live: bool


@dataclass(frozen=True)
class ScoreHistory:
    """The latest scores of a version in order of the posts, each post once.

    Attributes:
        posts: the posts with their scores.
    """

    posts: list[ScoredPost]

    @property
    def scores(self) -> NDArray[np.float64]:
        """(n,) the scores."""
        return np.array([post.score for post in self.posts], dtype=float)

    def only(self, post_ids: Collection[str]) -> ScoreHistory:
        """Return the scores of some posts."""
        return ScoreHistory([post for post in self.posts if post.post_id in post_ids])

    def live_coverage(self) -> Coverage | None:
        """Return how often live scores were in the interval expected before; None with too few to say."""
        first = next((index for index, post in enumerate(self.posts) if post.is_live), len(self.posts))
        return measure_coverage(self.scores, first)


def load_score_history(project: Project, version: ModelVersion, until: datetime) -> ScoreHistory:
    """Load the scores of the latest 1,000 posts that are known: live scores, and those of recorded evaluations.

    A post with both has the live score: that is of the fit which serves. Forecasts that cannot be read are left out,
    with a warning.

    Args:
        until: the time up to which posts count, UTC. The last of an evaluation may be later: its forecast is not.
    """
    found = {post.post_id: post for post in _of_evaluations(project, version, until)}
    found |= {post.post_id: post for post in _live(project, version, until)}
    return ScoreHistory(sorted(found.values(), key=lambda post: post.since)[-HISTORY:])


def _of_evaluations(project: Project, version: ModelVersion, until: datetime) -> Iterator[ScoredPost]:
    """Yield the scores of evaluations, the oldest first."""
    model_type = get_model_type(version.model_type_name)
    for evaluation in reversed(project.registry.list_evaluations(version.version_id, limit=_MAX_EVALUATIONS)):
        stored = load_forecasts(project, version, evaluation)
        if stored is None:
            continue
        scored = model_type.scorable(stored.forecasts)
        components = model_type.score_components(*model_type.select(stored.forecasts, stored.targets, scored))
        scores = model_type.overall_score(components).tolist()
        for row, score in zip(np.flatnonzero(scored).tolist(), scores, strict=True):
            since = stored.times[row].astype("datetime64[us]").item().replace(tzinfo=UTC)
            if since <= until:
                yield ScoredPost(since, stored.post_ids[row], score, is_live=False)


def _live(project: Project, version: ModelVersion, until: datetime) -> Iterator[ScoredPost]:
    """Yield the live scores of the fits of a version, those of the latest fit last."""
    model_type = get_model_type(version.model_type_name)
    components = len(model_type.component_names)
    for comparison in project.registry.list_scored_versions([version.version_id]):
        end = until
        if comparison.rescore_from is not None:  # the posts since then have changed
            end = min(end, comparison.rescore_from - timedelta(microseconds=1))
        for row in project.registry.list_latest_live_scores(comparison.comparison_id, end, HISTORY):
            score = float(model_type.overall_score(np.array(row.figures[:components])))
            yield ScoredPost(row.created_at, row.post_id, score, is_live=True)
