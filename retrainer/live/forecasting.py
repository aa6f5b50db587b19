"""Forecast live posts with both sides of a comparison, as a replay does, and score the forecasts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from retrainer.algorithms.model import TrainedModel
from retrainer.evaluation.sequential import crps_stakes, score_stakes
from retrainer.live.paid_forecasts import PaidSide, served_forecasts, shadow_forecasts
from retrainer.live.posts import Context, first_row_after, place_of, post_key
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, utc_times
from retrainer.model_types.content import ContentForecast
from retrainer.pipeline.loading import find_state, load_live_fit
from retrainer.registry.live import PostScore
from retrainer.registry.live_tables import ForecastState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.live.posts import Batch, PostKey
    from retrainer.model_types.base import ModelType
    from retrainer.project import Project
    from retrainer.registry.budgets import TestSide
    from retrainer.registry.live_tables import ABTest, LiveComparison
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

_ORIGINS_AT_ONCE = 2_000
_MIN_CONDENSED_POSTS = 10_000  # fewer are read in less time, and many streams of few posts need no states in a database

NO_FORECAST = ContentForecast(None, outcome="failed")  # which cannot be scored


class Side(Protocol):
    """One side of a comparison."""

    def context(self, after: PostKey) -> Context:
        """Return the posts up to one on which its forecasts of later posts depend."""

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:
        """Return one forecast per origin, of the model type's class.

        Raises:
            RetrainerError: it cannot be loaded or cannot forecast.
        """


@dataclass(frozen=True)
class FitSide:
    """A fit whose forecasts are free: they are computed when they are needed."""

    project: Project
    runtime: Runtime
    version: ModelVersion

    @cached_property
    def _algorithm(self) -> LoadedAlgorithm:
        return self.runtime.algorithms(self.version.algorithm, self.version.model_type_name)

    def context(self, after: PostKey) -> Context:
        """Return the posts that the algorithm says, or all that its state does not know."""
        count = self._algorithm.description.context_posts.get(self.version.model_type_name)
        if count is None and self.state is not None and place_of(_end_of(self.state)) <= place_of(after):
            return Context(1, _end_of(self.state))
        return Context(count)

    @cached_property
    def state(self) -> ForecastState | None:
        """What its algorithm has condensed posts to; None if nothing was stored."""
        return find_state(self.project, self.version, self._algorithm)

    def forget(self) -> None:
        """Read the state again: posts have changed."""
        self.__dict__.pop("state", None)
        self.__dict__.pop("_condensed", None)

    @cached_property
    def model(self) -> TrainedModel:
        """The fit, loaded."""
        return load_live_fit(self.project, self.runtime, self.version)

    @cached_property
    def _latest(self) -> list[tuple[pd.DataFrame, bytes, Any]]:
        return []

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:
        """Compute the forecasts, or return the last ones again: several comparisons need the same."""
        key = b"".join((origins.time.tobytes(), origins.position.tobytes()))
        for known, known_key, forecasts in self._latest:
            if known is posts and known_key == key:
                return forecasts
        known, first, state = self._beyond_the_state(posts)
        if state is not None and origins.position.min() < first:
            known, first, state = posts, 0, None
        forecasts = self.model.predict(known, replace(origins, position=origins.position - first), state=state)
        self._latest[:] = [(posts, key, forecasts)]
        return forecasts

    def condense(self, posts: pd.DataFrame) -> ForecastState | None:
        """Return the state after the last of some posts, if there is a new one that is worth storing.

        Args:
            posts: all usable posts up to one, or those that forecasts after it depend on.
        """
        if not self._algorithm.can_condense or self.project.posts.is_foreign:
            return None
        known, _, state = self._beyond_the_state(posts)
        time, post_id = post_key(posts, -1)
        enough = _MIN_CONDENSED_POSTS if self.state is None or state is None else self.state.good_for + 1
        if len(known) < enough or self._condensed == [(time, post_id)]:
            return None
        found = self.model.condense(known, state)
        self._condensed[:] = [(time, post_id)]
        if found is None:
            return None
        data, good_for = found
        return ForecastState(
            stream=self.version.stream,
            model_type=self.version.model_type,
            fit=self.version.fit,
            format=self._algorithm.description.state_format,
            through=time,
            through_post_id=post_id,
            good_for=good_for,
            data=data,
        )

    @cached_property
    def _condensed(self) -> list[tuple[datetime, str]]:
        """The last post up to which posts were condensed."""
        return []

    def _beyond_the_state(self, posts: pd.DataFrame) -> tuple[pd.DataFrame, int, bytes | None]:
        """Return the posts from the last one that the state knows on, the row of that one, and the state.

        Without a state, or where it knows a later post than the last one, return all posts.
        """
        if self.state is None:
            return posts, 0, None
        row = first_row_after(posts, _end_of(self.state)) - 1
        if row < 0 or post_key(posts, row) != _end_of(self.state):
            return posts, 0, None
        known = posts.iloc[row:].reset_index(drop=True) if row else posts
        return known, row, self.state.data


@dataclass(frozen=True)
class NaiveSide:
    """The naive forecast, fitted to the posts up to the start of a comparison.

    Attributes:
        load: returns the fit that is kept with the comparison; if none is, fits it.
    """

    comparison: LiveComparison
    algorithm: LoadedAlgorithm
    load: Callable[[], bytes]

    def context(self, after: PostKey) -> Context:  # noqa: ARG002
        """Return the posts that the algorithm says."""
        return Context(self.algorithm.description.context_posts.get(self.comparison.model_type_name))

    @cached_property
    def model(self) -> TrainedModel:
        """The fit, loaded."""
        model_type = self.comparison.model_type_name
        return TrainedModel(self.algorithm, self.algorithm.options({}, model_type), json.loads(self.load()), model_type)

    def forget(self) -> None:
        """Load the fit again: posts have changed."""
        self.__dict__.pop("model", None)

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:
        """Compute the forecasts."""
        return self.model.predict(posts, origins)


@dataclass(frozen=True)
class ServedSide(FitSide):
    """A fit whose forecasts cost money: those that were made when it was asked are scored."""

    def context(self, after: PostKey) -> Context:  # noqa: ARG002
        """Return the last post: which ones it knew stands with each forecast."""
        return Context(1)

    def condense(self, posts: pd.DataFrame) -> None:
        """Return None: its forecasts were made already."""

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:
        """Return the forecasts that were made."""
        found = served_forecasts(self.project.registry, self.version.fit, posts, origins.position + 1)
        return [forecast or NO_FORECAST for forecast in found]


@dataclass(frozen=True)
class PaidSides:
    """The paid sides of an A/B test of content, which forecast every post."""

    project: Project
    runtime: Runtime
    test: ABTest
    versions: dict[TestSide, ModelVersion]
    calls: bool

    def context(self, after: PostKey) -> Context:
        """Return the posts on which the calls that are to be made depend."""
        return context_of([FitSide(self.project, self.runtime, version) for version in self.versions.values()], after)

    def predict(self, batch: Batch, now: datetime) -> dict[TestSide, list[ContentForecast | None]]:
        """Return the forecasts of the first posts of a batch, as many as are settled; make those that are missing."""
        sides = [
            PaidSide(
                self.test.test_id,
                name,
                version.version_id,
                version.fit,
                load_live_fit(self.project, self.runtime, version) if self.calls else None,
            )
            for name, version in self.versions.items()
        ]
        found = shadow_forecasts(self.project, self.runtime, sides, batch.posts, batch.rows, now)
        return dict(zip(self.versions, found, strict=True))


@dataclass(frozen=True)
class MadeSide:
    """A side whose forecasts of a batch have been made already.

    Attributes:
        side: the side.
        made: its forecasts, by the row of the post.
    """

    side: Side
    made: dict[int, ContentForecast | None]

    def context(self, after: PostKey) -> Context:
        """Return the posts on which its forecasts depend."""
        return self.side.context(after)

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:  # noqa: ARG002
        """Return the forecasts that were made."""
        return [self.made[int(position) + 1] or NO_FORECAST for position in origins.position]


def context_of(sides: Sequence[Side | PaidSides], after: PostKey) -> Context:
    """Return the posts up to one on which the forecasts of all sides depend."""
    return reduce(Context.joined, (side.context(after) for side in sides))


def _end_of(state: ForecastState) -> tuple[datetime, str]:
    """Return the last post that a state knows."""
    return state.through, state.through_post_id


def score_batch(
    comparison: LiveComparison, batch: Batch, sides: tuple[Side, Side], moved: Collection[str] = ()
) -> list[PostScore]:
    """Forecast and score the posts of a batch with both sides.

    Posts that one of them cannot forecast are left out and, by the clock, those before which no origin was.

    Args:
        moved: the ids of posts that are left out, since the sides knew them under an earlier time.

    Raises:
        RetrainerError: a side cannot be loaded or cannot forecast.
    """
    rows = batch.rows
    if not len(rows):
        return []
    if moved:
        rows = rows[~batch.posts["post_id"].iloc[rows].isin(list(moved)).to_numpy()]
    origins, rows = _origins(comparison, batch.posts, rows)
    model_type = get_model_type(comparison.model_type_name)
    parts = [slice(start, start + _ORIGINS_AT_ONCE) for start in range(0, len(rows), _ORIGINS_AT_ONCE)]
    return [score for part in parts for score in _score(model_type, batch.posts, sides, origins[part], rows[part])]


def _origins(
    comparison: LiveComparison, posts: pd.DataFrame, rows: NDArray[np.int64]
) -> tuple[Origins, NDArray[np.int64]]:
    """Return the origins from which posts are forecast, one each, and the rows of these posts.

    By the clock, it is the first one since the post before. The number of all origins in a gap depends on how long it
    turns out to be, so their mean would favour forecasts that are too early.
    """
    if comparison.origin == "post" or comparison.spacing_hours is None:
        known = get_model_type(comparison.model_type_name).target_time_known
        return Origins.before(posts, rows, target_time_known=known), rows
    times = utc_times(posts).astype(np.int64)  # in microseconds
    start = np.datetime64(comparison.starts_after.replace(tzinfo=None), "us").astype(np.int64)
    spacing = max(1, round(timedelta(hours=comparison.spacing_hours) / timedelta(microseconds=1)))
    first = start + spacing * np.maximum(-((start - times[rows - 1]) // spacing), 1)
    reached = first < times[rows]
    return Origins(first[reached].astype("datetime64[us]"), rows[reached] - 1), rows[reached]


def _score(
    model_type: ModelType[Any, Any],
    posts: pd.DataFrame,
    sides: tuple[Side, Side],
    origins: Origins,
    rows: NDArray[np.int64],
) -> list[PostScore]:
    """Score the forecasts of the posts at `rows`, each from its origin."""
    forecasts, others = (side.predict(posts, origins) for side in sides)
    keep = model_type.scorable(forecasts) & model_type.scorable(others)
    if not keep.any():
        return []
    first = int(origins.position[0])  # the targets need no earlier post
    shifted = replace(origins, position=origins.position - first)
    targets = model_type.targets(posts.iloc[first:], shifted, rows - first)
    own, actual = model_type.select(forecasts, targets, keep)
    other, _ = model_type.select(others, targets, keep)
    figures, other_figures = model_type.figures(own, actual), model_type.figures(other, actual)
    if model_type.name == "timing":
        stakes = crps_stakes(own.quantiles, other.quantiles, actual.wait_hours)
    else:
        scores = (model_type.overall_score(figures), model_type.overall_score(other_figures))
        stakes = score_stakes(*scores)
    scored = posts[["post_id", "created_at"]].iloc[rows[keep]]
    columns = (
        scored["post_id"].tolist(),
        [time.to_pydatetime() for time in scored["created_at"]],
        *(values.tolist() for values in (figures, other_figures, *stakes)),
    )
    return [PostScore(*row) for row in zip(*columns, strict=True)]
