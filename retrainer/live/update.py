"""Bring the live scores of a model type up to date.

Scores are made in batches of posts, each written in one transaction that checks that nothing has changed since the
batch was read: neither the posts nor where the comparison stands. So two processes may update at the same time, and
one that is killed leaves nothing half-written.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING

from retrainer.errors import AlgorithmError, DamagedValue, DatabaseError, PostsError, RetrainerError
from retrainer.evaluation.sequential import EProcess
from retrainer.live.forecasting import FitSide, MadeSide, NaiveSide, PaidSides, ServedSide, context_of, score_batch
from retrainer.live.posts import LivePosts, first_row_after, place_of
from retrainer.live.scores import Totals
from retrainer.pipeline.loading import NAIVE_ALGORITHM, is_paid, train_naive_model
from retrainer.registry.budgets import TEST_SIDES
from retrainer.registry.forecast_states import keep_forecast_states
from retrainer.registry.live import append_live_scores, cut_live_scores
from retrainer.registry.live_tables import LiveComparison

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.live.forecasting import Side
    from retrainer.live.posts import Batch, Context, PostKey
    from retrainer.live.summary import Against
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.budgets import TestSide
    from retrainer.registry.live import PostScore
    from retrainer.registry.live_tables import ABTest, ForecastState
    from retrainer.registry.promotions import InProduction
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import LedgerEntry, ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

MIN_POSTS = 2  # a gap needs two


def update_live(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    *,
    calls: bool = True,
    warn: bool = False,
    production: InProduction | None = None,
) -> list[LiveComparison]:
    """Score the new live posts up to a time with the fit in production, and return its comparisons as of that time.

    Each comparison is with one of: the naive forecast, the version that a rollback would return to, the challenger of
    the running A/B test. One of which a side cannot be loaded or cannot forecast is left out and logged.

    Args:
        now: the time, UTC; posts later than it are left alone.
        calls: whether the missing forecasts of the paid sides of an A/B test are to be made.
        warn: whether to warn about what cannot be scored. It may last: cron would mail a warning of each `train`.
        production: what is in production, if it was looked up just now.

    Returns:
        The comparisons, `naive` first; none without a production version. If `now` is before their `through`, they are
        as of `now`: not what the database has.

    Raises:
        DatabaseError, PostsError: the database or the posts cannot be read.
    """
    production = production or project.registry.find_in_production(model_type)
    if production is None:
        return []
    version, test, undoable = production
    update = _Update.begin(project, runtime, model_type, now, calls=calls)
    found: list[tuple[Against, ModelVersion | None, ABTest | None]] = [("naive", None, None)]
    previous = None if undoable is None else _find_previous(project, undoable)
    if previous is not None and previous.fit != version.fit:
        found.append(("previous", previous, None))
    if test is not None and test.version_id == version.version_id:
        found.append(("challenger", project.registry.get_version(test.challenger_id), test))
    comparisons = []
    for against, other, running in found:
        try:
            comparison = update.compare(version, against, other, running)
        except (DatabaseError, PostsError):
            raise
        except RetrainerError as error:
            beside = f"'{other.version_id}'" if other is not None else "the naive forecast"
            level = logging.WARNING if warn else logging.INFO
            log.log(level, "Cannot score '%s' beside %s on live posts: %s", version.version_id, beside, error)
        else:
            comparisons += [comparison] if comparison is not None else []
    return comparisons


def update_comparison(
    project: Project, runtime: Runtime, version: ModelVersion, now: datetime
) -> LiveComparison | None:
    """Score the new live posts up to a time with any fit, and return its comparison with the naive forecast by then.

    Args:
        version: the version, with the fit as its live fit.

    Returns:
        The comparison; None if there are too few posts for the naive forecast.

    Raises:
        RetrainerError: the fit cannot be loaded or cannot forecast, or the database or the posts cannot be read.
    """
    update = _Update.begin(project, runtime, version.model_type_name, now, calls=False)
    return update.compare(version, "naive", None, None)


def _find_previous(project: Project, promotion: LedgerEntry) -> ModelVersion | None:
    """Return the version that a promotion replaced, with the fit that was live then; None if it was pruned."""
    previous = project.registry.get_version_before(promotion)
    if previous.pruned_at is not None:
        log.info("The previous version, '%s', was pruned: live posts are not scored with it", previous.version_id)
        return None
    return previous


def find_start(version: ModelVersion, run_as_of: datetime | None) -> PostKey:
    """Return the last post that counts as known to the live fit of a version.

    The candidates of a run were chosen on its test posts, so a fit made by a run counts as knowing all of its posts.

    Args:
        run_as_of: the time as of which the run that made it saw the posts; None for an imported version.
    """
    if version.refit is not None:
        return version.refit.through, version.refit.through_post_id
    trained: PostKey = (version.trained_through, version.trained_through_post_id)
    return trained if run_as_of is None else _latest(trained, (run_as_of, None))


def _latest(*posts: PostKey) -> PostKey:
    return max(posts, key=place_of)


@dataclass(frozen=True)
class _Update:
    """One update of comparisons, which share what was read and loaded."""

    project: Project
    runtime: Runtime
    model_type: ModelTypeName
    now: datetime
    calls: bool

    @classmethod
    def begin(
        cls, project: Project, runtime: Runtime, model_type: ModelTypeName, now: datetime, *, calls: bool
    ) -> _Update:
        """Begin an update, in which each algorithm is looked up once."""
        return cls(project, replace(runtime, algorithms=cache(runtime.algorithms)), model_type, now, calls)

    @cached_property
    def _posts(self) -> LivePosts:
        return LivePosts(self.project.posts, self.model_type, self.now)

    @cached_property
    def _sides(self) -> dict[str, FitSide]:
        return {}

    def compare(
        self, version: ModelVersion, against: Against, other: ModelVersion | None, test: ABTest | None
    ) -> LiveComparison | None:
        """Find or make a comparison, and score its new posts; None if there are too few posts for it."""
        comparison = self._find(version, against, other, test)
        if comparison is None:
            return None
        sides = (self._side(version), self._naive(comparison) if other is None else self._side(other))
        paid: dict[TestSide, ModelVersion] = {}
        if test is not None and other is not None:
            both = zip(TEST_SIDES, (version, other), strict=True)
            paid = {name: one for name, one in both if is_paid(self.runtime, one)}
        of_test = PaidSides(self.project, self.runtime, test, paid, self.calls) if test is not None and paid else None
        began = min(one.training_began_at for one in (version, other) if one is not None)
        return self._bring_up_to_date(comparison, _Scorer(self.project, sides, of_test, began))

    def _find(
        self, version: ModelVersion, against: Against, other: ModelVersion | None, test: ABTest | None
    ) -> LiveComparison | None:
        """Find or make a comparison. One with the same sides and the same start goes on where it ended."""
        registry = self.project.registry
        run_as_of, rollback = registry.get_run_and_rollback(version.version_id)
        starts = [find_start(version, run_as_of)]
        if other is not None:
            starts.append(find_start(other, registry.get_run_and_rollback(other.version_id)[0]))
        if test is not None:
            starts.append((test.started_at, None))
        if rollback is not None:  # it went live again against the evidence, which must not count again
            starts.append((rollback, None))
        start = _latest(*starts)
        origin = self.project.settings.retraining.origin(self.model_type)
        other_fit = "naive" if other is None else other.fit
        for found in registry.list_live_comparisons(self.model_type, version.fit, against):
            if (found.other_fit, found.origin, found.starts_after) == (other_fit, origin, start[0]):
                if not found.is_current:
                    registry.use_live_comparison(found)
                return found
        made = LiveComparison(
            stream=self.project.stream,
            model_type=self.model_type,
            version_id=version.version_id,
            fit=version.fit,
            refit=version.refit.document() if version.refit else None,
            against=against,
            other_version_id=other.version_id if other is not None else None,
            other_fit=other_fit,
            other_refit=other.refit.document() if other is not None and other.refit else None,
            origin=origin,
            starts_after=start[0],
            starts_after_post_id=start[1],
            created_at=datetime.now(UTC),
            is_current=True,
            num_scored=0,
            sums=[],
            other_sums=[],
            state=EProcess().to_bytes(),
        )
        if not self._fit_to_start(made):
            return None
        return registry.add_live_comparison(made, test.test_id if test is not None else None)

    def _fit_to_start(self, comparison: LiveComparison) -> bool:
        """Fit what a comparison needs of the posts up to its start; return whether there are enough posts."""
        if comparison.against != "naive" and comparison.origin == "post":
            return True
        start = (comparison.starts_after, comparison.starts_after_post_id)
        posts = self._posts.read_until(start)
        if len(posts) < MIN_POSTS:
            return False
        comparison.spacing_hours = self._find_spacing(comparison)
        if comparison.against == "naive":
            comparison.naive_model = self._fit_naive(posts)
        return True

    def _find_spacing(self, comparison: LiveComparison) -> float | None:
        """Return the hours between clock origins, the mean gap up to the start of a comparison; None without them."""
        if comparison.origin != "clock":
            return None
        posts = self._posts.read_until((comparison.starts_after, comparison.starts_after_post_id))
        if len(posts) < MIN_POSTS:
            return comparison.spacing_hours
        span = posts["created_at"].iloc[-1] - posts["created_at"].iloc[0]
        return float(span.total_seconds() / 3600 / (len(posts) - 1))

    def _fit_naive(self, posts: pd.DataFrame) -> bytes:
        return json.dumps(train_naive_model(self.runtime, self.model_type, posts).model).encode()

    def _side(self, version: ModelVersion) -> FitSide:
        if version.fit not in self._sides:
            kind = ServedSide if is_paid(self.runtime, version) else FitSide
            if kind is ServedSide and self.model_type != "content":
                problem = (
                    f"'{version.algorithm}' makes paid forecasts, and paid {self.model_type} forecasts are not stored"
                )
                raise AlgorithmError(problem)
            self._sides[version.fit] = kind(self.project, self.runtime, version)
        return self._sides[version.fit]

    def _naive(self, comparison: LiveComparison) -> NaiveSide:
        algorithm = self.runtime.algorithms(NAIVE_ALGORITHM, self.model_type)

        def load() -> bytes:
            kept = self.project.registry.get_naive_model(comparison.comparison_id)
            if kept is not None:
                return kept
            posts = self._posts.read_until((comparison.starts_after, comparison.starts_after_post_id))
            if len(posts) < MIN_POSTS:
                raise AlgorithmError("too few posts are left for the naive forecast")
            model = self._fit_naive(posts)
            self.project.registry.keep_naive_model(comparison.comparison_id, model)
            return model

        return NaiveSide(comparison, algorithm, load)

    def _forget_posts(self, scorer: _Scorer) -> None:
        """Read posts again: they may have been read before a change."""
        self._posts.forget()
        for side in (*self._sides.values(), *scorer.sides):
            side.forget()

    def _bring_up_to_date(self, comparison: LiveComparison, scorer: _Scorer) -> LiveComparison:
        """Score the posts that a comparison has not seen yet, batch by batch."""
        registry = self.project.registry
        while True:
            if self._cut_if_changed(comparison, scorer) or self._add_up_again_if_damaged(comparison):
                comparison = registry.get_live_comparison(comparison.comparison_id)
                continue
            if comparison.through is not None and comparison.through > self.now:
                return _as_of(registry, comparison, self.now)
            after = _position(comparison)
            batch = self._posts.read(after, scorer.context(after))
            if batch is None:
                return comparison
            scored = scorer.score(comparison, batch, self.now)
            if scored is None:
                return comparison
            batch, scores = scored
            totals = Totals.of(comparison)
            totals.add(scores)
            time, post_id = batch.through
            columns = {
                **totals.columns(),
                "through": time,
                "through_post_id": post_id,
                "posts_digest": self._posts.digest(batch.through),
            }
            states = scorer.condense(batch)
            with registry.database.write(durable=False) as session:  # they are made again if they are lost
                is_written = self._posts.is_current(session.connection(), batch) and append_live_scores(
                    session, comparison, scores, columns
                )
                if is_written:
                    keep_forecast_states(session, states, self._sides)
            if not is_written:
                self._forget_posts(scorer)
                comparison = registry.get_live_comparison(comparison.comparison_id)
                continue
            for name, value in columns.items():
                setattr(comparison, name, value)
            if batch.is_last:
                return comparison

    def _cut_if_changed(self, comparison: LiveComparison, scorer: _Scorer) -> bool:
        """Delete the scores that a change of the posts may affect; return whether there was one.

        What was fitted to the posts up to the start is fitted again if they have changed.
        """
        registry = self.project.registry
        since = comparison.rescore_from or self._find_change_of_foreign_posts(comparison)
        if since is None:
            return False
        totals = Totals.read(registry, comparison, before=since)
        columns = {**totals.columns(), "posts_digest": self._posts.digest(totals.last)}
        self._forget_posts(scorer)
        if since <= comparison.starts_after:
            columns |= {"naive_model": None, "spacing_hours": self._find_spacing(comparison)}
        with registry.database.write() as session:
            cut_live_scores(session, comparison, totals.last, columns)  # if another process was faster, it has cut them
        return True

    def _add_up_again_if_damaged(self, comparison: LiveComparison) -> bool:
        """Add the scores up again if their sums are damaged, or the state of the e-process is of another release."""
        try:
            Totals.of(comparison)
        except DamagedValue as error:
            log.info("Adding up the live scores of '%s' again: %s", comparison.fit, error.message)
        else:
            return False
        totals = Totals.read(self.project.registry, comparison)
        with self.project.registry.database.write() as session:
            append_live_scores(session, comparison, [], totals.columns())
        return True

    def _find_change_of_foreign_posts(self, comparison: LiveComparison) -> datetime | None:
        """Return from when on posts of a foreign table have changed since they were scored; None if they have not."""
        if comparison.posts_digest is None or comparison.through is None or comparison.through > self.now:
            return None
        if self._posts.digest((comparison.through, comparison.through_post_id or "")) == comparison.posts_digest:
            return None
        start = (comparison.starts_after, comparison.starts_after_post_id)
        scored = self.project.registry.stream_live_scores(comparison.comparison_id)
        return self._posts.find_change(start, ((score.created_at, score.post_id) for part in scored for score in part))


@dataclass(frozen=True)
class _Scorer:
    """Both sides of a comparison, of which some may be the paid sides of an A/B test.

    Attributes:
        training_began_at: when the first of the sides began to be trained; posts that moved later were known to it.
    """

    project: Project
    sides: tuple[FitSide, FitSide | NaiveSide]
    of_test: PaidSides | None
    training_began_at: datetime

    def context(self, after: PostKey) -> Context:
        return context_of([*self.sides, *([self.of_test] if self.of_test else [])], after)

    def condense(self, batch: Batch) -> list[ForecastState]:
        """Return the new states of the fits after the last of the new posts, to be stored with the scores."""
        if not batch.is_last or not len(batch.rows):
            return []
        posts = batch.posts.iloc[: first_row_after(batch.posts, batch.through)]
        found = [side.condense(posts) for side in self.sides if isinstance(side, FitSide)]
        return [state for state in found if state is not None]

    def score(self, comparison: LiveComparison, batch: Batch, now: datetime) -> tuple[Batch, list[PostScore]] | None:
        """Score a batch, or as many of its first posts as the paid sides have forecast; None if they have none."""
        if not len(batch.rows):
            return batch, []
        first: Side
        second: Side
        first, second = self.sides
        if self.of_test is not None:
            made = self.of_test.predict(batch, now)
            count = min(len(forecasts) for forecasts in made.values())
            if count == 0:
                return None
            batch = batch if count == len(batch.rows) else batch.up_to(count)
            rows = batch.rows.tolist()
            first, second = (
                MadeSide(side, dict(zip(rows, made[name], strict=False))) if name in made else side
                for name, side in zip(TEST_SIDES, self.sides, strict=True)
            )
        return batch, score_batch(comparison, batch, (first, second), self._find_moved(comparison, batch))

    def _find_moved(self, comparison: LiveComparison, batch: Batch) -> set[str]:
        """Return the posts of a batch that counted as known before they moved past the start."""
        start = (comparison.starts_after, comparison.starts_after_post_id)
        if start[1] is None:  # all posts of that time
            start = (start[0] + timedelta(microseconds=1), "")
        since = batch.posts["created_at"].iloc[batch.rows[0]].to_pydatetime()
        return self.project.posts.find_moved(self.training_began_at, (start[0], start[1] or ""), since)


def _position(comparison: LiveComparison) -> PostKey:
    """Return the post after which the next one is to be scored."""
    if comparison.through is not None:
        return comparison.through, comparison.through_post_id
    return comparison.starts_after, comparison.starts_after_post_id


def _as_of(registry: Registry, comparison: LiveComparison, now: datetime) -> LiveComparison:
    """Return a comparison as it stood at a time, by the scores of the posts up to it."""
    totals = Totals.read(registry, comparison, until=now)
    time, post_id = totals.last or (None, None)
    for name, value in {**totals.columns(), "through": time, "through_post_id": post_id}.items():
        setattr(comparison, name, value)
    return comparison
