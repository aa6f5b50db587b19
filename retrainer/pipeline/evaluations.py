"""Step 4: forecast the test posts and score the forecasts, with the naive forecast beside them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms.budget import opened_workspace
from retrainer.algorithms.manager import NOT_DETERMINISTIC, load_algorithm
from retrainer.errors import AlgorithmError, InsufficientData, RetrainerError, UsageError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, evenly_spaced, utc_times
from retrainer.model_types.embeddings import load_semantic_model
from retrainer.pipeline.loading import TrainedModel, load_version
from retrainer.pipeline.split import load_posts
from retrainer.registry.tables import ModelEvaluation
from retrainer.timestamps import format_timestamp

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.model_types.base import Reliability
    from retrainer.model_types.content import ContentForecasts, ContentTargets
    from retrainer.model_types.embeddings import SemanticModel, SemanticSimilarity
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)

NAIVE_ALGORITHM = "baseline"
MIN_SCORED_SHARE = 0.5
LOOKAHEAD_CHECKS = 3  # how many forecasts of an evaluation are made again without any later post


@dataclass(frozen=True)
class Window:
    """What an evaluation foretells, and from where.

    Attributes:
        first_row: the first post that could be foretold; everything before it is known to the naive forecast.
        origin: the rule that the origins follow.
        origins: n of them, evenly spread over the window.
        rows: (n,) the post foretold from each: the one after the last that the origin knows. Between two posts there
            may be several wall-clock origins.
        start: the time of the first post that could be foretold, UTC.
        end: the time of the last.
        available: how many posts lie in the window.
    """

    first_row: int
    origin: OriginRule
    origins: Origins
    rows: NDArray[np.int64]
    start: datetime
    end: datetime
    available: int

    def document(self) -> dict[str, Any]:
        """Return the window as it is recorded and shown."""
        start, end = format_timestamp(self.start), format_timestamp(self.end)
        return {"start": start, "end": end, "posts": self.available, "origin": self.origin}


@dataclass(frozen=True)
class Evaluation:
    """The forecasts of one model on one window, and those of the naive reference from the same origins.

    Attributes:
        nearness: how near the forecasts are to the posts in meaning; None where no model measures that.
        naive_semantic_similarity: the same of the naive forecasts.
    """

    model_type: ModelTypeName
    window: Window
    origins: Origins
    post_ids: list[str]
    targets: Any
    forecasts: Any
    naive_forecasts: Any
    own_metrics: dict[str, float]
    nearness: SemanticSimilarity | None = None
    naive_semantic_similarity: SemanticSimilarity | None = None

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) which forecasts can be scored."""
        return get_model_type(self.model_type).scorable(self.forecasts)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The deciding metrics, the counts, the plugin's own metrics, and the skill against the naive forecast."""
        kind = get_model_type(self.model_type)
        metrics = self.score_on(self.scored)
        skill = kind.skill_scores(metrics, self.naive_metrics)
        count = {"num_predictions": int(self.scored.sum())}
        return {**self.own_metrics, **metrics, **skill, **kind.count_outcomes(self.forecasts), **count}

    @cached_property
    def naive_metrics(self) -> dict[str, float]:
        """The deciding metrics of the naive forecast on the posts that were scored."""
        return self.naive_metrics_on(self.scored)

    @property
    def num_predictions(self) -> int:
        """How many forecasts were scored."""
        return int(self.scored.sum())

    @cached_property
    def reliability(self) -> list[Reliability]:
        """Stated probabilities beside what came."""
        kind = get_model_type(self.model_type)
        return kind.reliability(*kind.select(self.forecasts, self.targets, self.scored))

    def has_same_targets(self, other: Evaluation) -> bool:
        """Whether both forecast the same posts from the same origins."""
        return (
            self.post_ids == other.post_ids
            and np.array_equal(self.origins.time, other.origins.time)
            and np.array_equal(self.origins.position, other.origins.position)
        )

    def naive_metrics_on(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return the deciding metrics of the naive forecast on some of the posts, and how many they are."""
        kind = get_model_type(self.model_type)
        metrics = kind.score(*kind.select(self.naive_forecasts, self.targets, keep))
        return {**metrics, **_in_meaning(self.naive_semantic_similarity, keep), "num_predictions": int(keep.sum())}

    def contributions_on(self, keep: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return (n, k) the figures of some of the posts whose means make the overall score."""
        kind = get_model_type(self.model_type)
        return kind.score_components(*kind.select(self.forecasts, self.targets, keep))

    def score_on(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return the deciding metrics on some of the posts."""
        kind = get_model_type(self.model_type)
        metrics = kind.score(*kind.select(self.forecasts, self.targets, keep))
        return {**metrics, **_in_meaning(self.nearness, keep)}


def held_out_window(
    posts: pd.DataFrame, trained_through: tuple[datetime, str], most: int, origin: OriginRule = "post"
) -> Window | None:
    """Return the window of posts later than the last training post, by (time, post id); None without any.

    By the rule `clock` the time from the window's first post to its last is divided into equal parts, as many as posts
    could be foretold, `most` at most, and the middle of each is an origin. Where all of its posts carry one time, there
    is no such moment, and no window.

    Args:
        posts: all posts in order.
        trained_through: time and id of the last post that was trained on.
        most: how many forecasts are made at most.
        origin: from where they are made.
    """
    time, post_id = trained_through
    later = (posts["created_at"] > time) | ((posts["created_at"] == time) & (posts["post_id"] > post_id))
    candidates = np.flatnonzero(later.to_numpy())
    candidates = candidates[candidates > 0]  # the very first post has none before it to be foretold from
    if not len(candidates):
        return None
    first, last = candidates[0], candidates[-1]
    if origin == "post":
        origins = Origins.before(posts, candidates[evenly_spaced(len(candidates), most)].astype(np.int64))
    else:
        times = utc_times(posts)
        if times[first] == times[last]:
            return None
        origins = Origins.at(posts, _midpoints(times[first], times[last], min(len(candidates), most)))
    return Window(
        first_row=int(first),
        origin=origin,
        origins=origins,
        rows=origins.position + 1,
        start=posts["created_at"].iloc[first].to_pydatetime(),
        end=posts["created_at"].iloc[last].to_pydatetime(),
        available=len(candidates),
    )


def _midpoints(start: np.datetime64, end: np.datetime64, count: int) -> NDArray[np.datetime64]:
    """Return the middles of `count` equal parts of the time from start to end; before the end, every one of them."""
    span = (end - start).astype("timedelta64[us]").astype(np.int64)
    after = np.floor((np.arange(count) + 0.5) / count * span).astype(np.int64)
    middles: NDArray[np.datetime64] = start + after.astype("timedelta64[us]")
    return middles


def require_held_out_window(
    posts: pd.DataFrame, version: ModelVersion, most: int, origin: OriginRule = "post"
) -> Window:
    """Return the window of posts later than a version's training.

    Raises:
        InsufficientData: there is no later post, or for the rule `clock` no moment between two.
    """
    window = held_out_window(posts, trained_through(version), most, origin)
    if window is None:
        raise no_later_posts_error(version, origin)
    return window


def no_later_posts_error(version: ModelVersion, origin: OriginRule) -> InsufficientData:
    """Say that nothing after a version's training can be foretold."""
    what = "no post is" if origin == "post" else "no two posts at different times are"
    return InsufficientData(
        f"{what} later than the training data of '{version.version_id}', "
        f"which ends at {version.trained_through:%Y-%m-%d %H:%M} UTC",
        hint="Bring in newer posts first",
    )


def resolve_origin_rule(project: Project, model_type: ModelTypeName, given: OriginRule | None) -> OriginRule:
    """Return from where the evaluations of a type forecast: as given, or as in the settings.

    Raises:
        UsageError: wall-clock times are asked for of a type that knows none.
    """
    if given == "clock" and model_type != "timing":
        raise UsageError(
            f"--origin: 'clock' is not for {model_type}", hint="A text is foretold from the post before it"
        )
    return given or project.settings.retraining.origin(model_type)


def trained_through(version: ModelVersion) -> tuple[datetime, str]:
    """Return time and id of the last post that a version was trained on."""
    return version.trained_through, version.trained_through_post_id


def evaluate(ready: TrainedModel, posts: pd.DataFrame, window: Window) -> Evaluation:
    """Forecast from each origin of the window, in one call, and let the naive reference do the same.

    The naive reference is trained on the posts up to the window's start. Where forecasts are free, a few are made a
    second time with all later posts taken away, and must come out the same.

    Args:
        ready: the model.
        posts: all posts in order.
        window: what is foretold, and from where.

    Raises:
        AlgorithmError: a hook failed, too few forecasts can be scored, the model looked into the future, or it answers
            the same question in two ways.
        ConfigError: the model that measures meaning cannot be loaded; nothing was forecast then.
    """
    encoder = None if ready.semantic_model is None else load_semantic_model(ready.semantic_model)
    kind = get_model_type(ready.model_type)
    origins = window_origins(ready.model_type, posts, window)
    forecasts = ready.predict(posts, origins)
    targets = kind.targets(posts, origins, window.rows)
    if not (ready.algorithm.description.paid or ready.algorithm.is_known_blind(ready.model)):
        _require_no_lookahead(ready, posts, origins, forecasts, targets)
        ready.algorithm.note_blind(ready.model)
    scored = kind.scorable(forecasts)
    if scored.sum() < MIN_SCORED_SHARE * len(origins):
        # Else a model could keep silent about the posts that it does not know how to foretell.
        raise AlgorithmError(
            f"only {scored.sum()} of {len(origins)} forecasts of '{ready.algorithm.name}' can be scored: "
            f"at least {MIN_SCORED_SHARE:.0%} are needed"
        )
    # A single known post has no gap to learn from; two do, and the second one is where the window starts.
    known = posts.iloc[: max(window.first_row, 2)]
    naive_forecasts = train_naive_model(ready.model_type, known).predict(posts, origins)
    return Evaluation(
        model_type=ready.model_type,
        window=window,
        origins=origins,
        post_ids=[str(post_id) for post_id in posts["post_id"].iloc[window.rows]],
        targets=targets,
        forecasts=forecasts,
        naive_forecasts=naive_forecasts,
        own_metrics=ready.algorithm.score(*kind.select(forecasts, targets, scored), ready.model_type),
        nearness=_measure_semantic_similarity(encoder, forecasts, targets),
        naive_semantic_similarity=_measure_semantic_similarity(encoder, naive_forecasts, targets),
    )


def window_origins(model_type: ModelTypeName, posts: pd.DataFrame, window: Window) -> Origins:
    """Return the origins of a window as a forecaster of that type gets them."""
    if not get_model_type(model_type).target_time_known:
        return window.origins
    return replace(window.origins, target_time=utc_times(posts)[window.rows])


def evaluate_version(project: Project, version_id: str, now: datetime, origin: OriginRule | None = None) -> Evaluation:
    """Evaluate a registered version on the posts later than its training, and record it.

    Args:
        origin: from where to forecast; None: as the settings say.

    Raises:
        UnknownName: there is no such version.
        UsageError: the origin is not for its type.
        InsufficientData: no post is later than its training.
        ArtifactError, AlgorithmError: it cannot be loaded, or cannot forecast.
    """
    version = project.registry.get_version(version_id)
    rule = resolve_origin_rule(project, version.model_type_name, origin)
    ready = load_version(project, version)
    ready.algorithm.check_ready(ready.options)
    require_semantic_model(project, ready.model_type)
    posts = load_posts(project, ready.model_type, now)
    most = project.settings.retraining.max_predictions(ready.model_type)
    with opened_workspace(project.answers_dir):
        evaluation = evaluate(ready, posts, require_held_out_window(posts, version, most, rule))
        record(project, version, evaluation, now)
    project.registry.mark_evaluation_succeeded(version_id)
    return evaluation


def record(
    project: Project, version: ModelVersion, evaluation: Evaluation, now: datetime, run_id: str | None = None
) -> ModelEvaluation:
    """Keep an evaluation with its forecasts, from which every figure can be computed again."""
    kind = get_model_type(evaluation.model_type)
    evaluation_id = project.registry.new_evaluation_id(now)
    content = kind.dump(
        evaluation.forecasts, evaluation.targets, evaluation.origins, evaluation.post_ids, evaluation.naive_forecasts
    )
    file = project.artifacts.write_forecasts(version, f"{evaluation_id}{kind.forecasts_suffix}", content)
    metrics = evaluation.metrics
    deciding = {"num_predictions", *(metric.key for metric in kind.metrics)} & set(
        ModelEvaluation.__table__.columns.keys()
    )
    columns = {key: metrics[key] for key in deciding}
    row = ModelEvaluation(
        evaluation_id=evaluation_id,
        model_version_id=version.version_id,
        run_id=run_id,
        evaluated_at=now,
        metrics=metrics,
        baseline_metrics=evaluation.naive_metrics,
        window=evaluation.window.document(),
        forecasts_file=file.path,
        predictions_json=kind.sample(evaluation.forecasts, evaluation.targets, evaluation.post_ids),
        **columns,
    )
    try:
        project.registry.record_evaluation(row, file)
    except BaseException:
        project.artifacts.remove_forecasts(version, file.path)
        raise
    return row


def load_reliability(project: Project, version: ModelVersion, row: ModelEvaluation) -> list[Reliability]:
    """Compute the reliability of a recorded evaluation from its forecasts file; empty where that is gone."""
    if version.pruned_at is not None:
        return []
    kind = get_model_type(version.model_type_name)
    try:
        stored = kind.parse(project.artifacts.read_forecasts(version, row.forecasts_file))
    except RetrainerError as error:
        log.warning("The reliability of '%s' cannot be told: %s", row.evaluation_id, error)
        return []
    return kind.reliability(*kind.select(stored.forecasts, stored.targets, kind.scorable(stored.forecasts)))


def require_semantic_model(project: Project, model_type: ModelTypeName) -> None:
    """Find out before any work whether the model that measures meaning can be loaded, where the settings name one.

    Raises:
        ConfigError: it cannot.
    """
    name = project.semantic_model(model_type)
    if name is not None:
        load_semantic_model(name)


def _measure_semantic_similarity(
    encoder: SemanticModel | None, forecasts: ContentForecasts, targets: ContentTargets
) -> SemanticSimilarity | None:
    """Return how near the forecasts are to the posts in meaning; of one that cannot be scored, nothing is asked."""
    if encoder is None:
        return None
    return encoder.semantic_similarity([forecast.text or "" for forecast in forecasts], targets.texts)


def _in_meaning(nearness: SemanticSimilarity | None, keep: NDArray[np.bool_]) -> dict[str, float]:
    return {} if nearness is None else nearness.measures(keep)


def train_naive_model(model_type: ModelTypeName, known: pd.DataFrame) -> TrainedModel:
    """Return the naive reference, trained on the posts known."""
    algorithm = load_algorithm(NAIVE_ALGORITHM, model_type)
    options = algorithm.options({}, model_type)
    return TrainedModel(algorithm, options, algorithm.train(known, options, model_type), model_type)


def _require_no_lookahead(
    ready: TrainedModel, posts: pd.DataFrame, origins: Origins, forecasts: Any, targets: Any
) -> None:
    kind = get_model_type(ready.model_type)
    for row in evenly_spaced(len(origins), LOOKAHEAD_CHECKS):
        known = posts.iloc[: origins.position[row] + 1]
        again = ready.predict(known, origins[[row]])
        keep = np.arange(len(origins)) == row
        first, _ = kind.select(forecasts, targets, keep)
        if not kind.are_equal(first, again):
            _require_determinism(ready, known, origins[[row]], again)
            _require_determinism(ready, posts, origins, forecasts)
            raise AlgorithmError(
                f"the plugin '{ready.algorithm.name}' looks into the future: its forecast from "
                f"{origins.time[row]} UTC changes when later posts are taken away",
                hint="Its scores mean nothing. See retrainer.algorithms.testing",
            )


def _require_determinism(ready: TrainedModel, posts: pd.DataFrame, origins: Origins, forecasts: Any) -> None:
    """Check that the same question gets the forecasts that it got before; asked where these are in doubt."""
    if not get_model_type(ready.model_type).are_equal(forecasts, ready.predict_anew(posts, origins)):
        raise AlgorithmError(
            f"the plugin '{ready.algorithm.name}' {NOT_DETERMINISTIC}",
            hint="Its scores cannot be repeated. See retrainer.algorithms.testing",
        )
