"""Step 4: forecast the test posts and score the forecasts, with the naive forecast beside them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms.manager import load_algorithm
from retrainer.documents import moment
from retrainer.errors import AlgorithmError, InsufficientData
from retrainer.model_types import kind_of
from retrainer.model_types.base import Origins, spread
from retrainer.pipeline.posts import load_latest
from retrainer.pipeline.versions import ReadyModel, load_version
from retrainer.registry.tables import ModelEvaluation

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)

NAIVE_ALGORITHM = "baseline"
FEWEST_SCORED_SHARE = 0.5
BLINDNESS_CHECKS = 3  # how many forecasts of an evaluation are made again without any later post


@dataclass(frozen=True)
class Window:
    """The posts that an evaluation foretells.

    Attributes:
        first_row: the first post that could be foretold; everything before it is known to the naive forecast.
        rows: (n,) the posts foretold, evenly spread over the window.
        start: the time of the first post that could be foretold, UTC.
        end: the time of the last.
        available: how many posts lie in the window.
    """

    first_row: int
    rows: NDArray[np.int64]
    start: datetime
    end: datetime
    available: int

    def document(self) -> dict[str, Any]:
        """Return the window as it is recorded and shown."""
        return {"start": moment(self.start), "end": moment(self.end), "posts": self.available}


@dataclass(frozen=True)
class Evaluation:
    """The forecasts of one model on one window, and those of the naive reference on the same posts."""

    model_type: ModelTypeName
    window: Window
    origins: Origins
    post_ids: list[str]
    targets: Any
    forecasts: Any
    naive_forecasts: Any
    own_metrics: dict[str, float]

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) which forecasts can be scored."""
        return kind_of(self.model_type).scored(self.forecasts)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The deciding metrics, the counts, the plugin's own metrics, and the skill against the naive forecast."""
        kind = kind_of(self.model_type)
        metrics = self.score_where(self.scored)
        skill = kind.skill(metrics, self.naive_metrics)
        count = {"num_predictions": int(self.scored.sum())}
        return {**self.own_metrics, **metrics, **skill, **kind.tally(self.forecasts), **count}

    @cached_property
    def naive_metrics(self) -> dict[str, float]:
        """The deciding metrics of the naive forecast on the posts that were scored."""
        return self.naive_where(self.scored)

    @property
    def num_predictions(self) -> int:
        """How many forecasts were scored."""
        return int(self.scored.sum())

    def naive_where(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return the deciding metrics of the naive forecast on some of the posts, and how many they are."""
        kind = kind_of(self.model_type)
        metrics = kind.score(*kind.select(self.naive_forecasts, self.targets, keep))
        return {**metrics, "num_predictions": int(keep.sum())}

    def score_where(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return the deciding metrics on some of the posts."""
        kind = kind_of(self.model_type)
        return kind.score(*kind.select(self.forecasts, self.targets, keep))


def window_after(posts: pd.DataFrame, trained_through: tuple[datetime, str], most: int) -> Window | None:
    """Return the window of posts later than the last training post, by (time, post id); None without any.

    Args:
        posts: all posts in order.
        trained_through: time and id of the last post that was trained on.
        most: how many posts are foretold at most.
    """
    time, post_id = trained_through
    later = (posts["created_at"] > time) | ((posts["created_at"] == time) & (posts["post_id"] > post_id))
    candidates = np.flatnonzero(later.to_numpy())
    candidates = candidates[candidates > 0]  # the very first post has none before it to be foretold from
    if not len(candidates):
        return None
    times = posts["created_at"]
    return Window(
        first_row=int(candidates[0]),
        rows=candidates[spread(len(candidates), most)].astype(np.int64),
        start=times.iloc[candidates[0]].to_pydatetime(),
        end=times.iloc[candidates[-1]].to_pydatetime(),
        available=len(candidates),
    )


def require_window(posts: pd.DataFrame, version: ModelVersion, most: int) -> Window:
    """Return the window of posts later than a version's training.

    Raises:
        InsufficientData: there is no later post.
    """
    window = window_after(posts, trained_through(version), most)
    if window is None:
        raise InsufficientData(
            f"no post is later than the training data of '{version.version_id}', "
            f"which ends at {version.trained_through:%Y-%m-%d %H:%M} UTC",
            hint="Bring in newer posts first",
        )
    return window


def trained_through(version: ModelVersion) -> tuple[datetime, str]:
    """Return time and id of the last post that a version was trained on."""
    return version.trained_through, version.trained_through_post_id


def evaluate(ready: ReadyModel, posts: pd.DataFrame, window: Window) -> Evaluation:
    """Forecast each post of the window from the post before it, and let the naive reference do the same.

    The naive reference is trained on the posts up to the window's start. Where forecasts are free, a few are made a
    second time with all later posts taken away, and must come out the same.

    Raises:
        AlgorithmError: a hook failed, too few forecasts can be scored, or the model looked into the future.
    """
    kind = kind_of(ready.model_type)
    origins = Origins.before(posts, window.rows, tell_time=kind.tell_time)
    forecasts = ready.predict(posts, origins)
    if not ready.algorithm.description.paid:
        _require_blindness(ready, posts, origins, forecasts)
    targets = kind.targets(posts, window.rows)
    scored = kind.scored(forecasts)
    if scored.sum() < FEWEST_SCORED_SHARE * len(origins):
        # Else a model could keep silent about the posts that it does not know how to foretell.
        raise AlgorithmError(
            f"only {scored.sum()} of {len(origins)} forecasts of '{ready.algorithm.name}' can be scored: "
            f"at least {FEWEST_SCORED_SHARE:.0%} are needed"
        )
    # A single known post has no gap to learn from; two do, and the second one is where the window starts.
    known = posts.iloc[: max(window.first_row, 2)]
    return Evaluation(
        model_type=ready.model_type,
        window=window,
        origins=origins,
        post_ids=[str(post_id) for post_id in posts["post_id"].iloc[window.rows]],
        targets=targets,
        forecasts=forecasts,
        naive_forecasts=naive_model(ready.model_type, known).predict(posts, origins),
        own_metrics=ready.algorithm.score(*kind.select(forecasts, targets, scored), ready.model_type),
    )


def evaluate_version(project: Project, version_id: str, now: datetime) -> Evaluation:
    """Evaluate a registered version on the posts later than its training, and record it.

    Raises:
        UnknownName: there is no such version.
        InsufficientData: no post is later than its training.
        ArtifactError, AlgorithmError: it cannot be loaded, or cannot forecast.
    """
    version = project.registry.version(version_id)
    ready = load_version(project, version)
    ready.algorithm.check_ready(ready.options)
    posts = load_latest(project, ready.model_type, now)
    most = project.settings.retraining.max_predictions(ready.model_type)
    evaluation = evaluate(ready, posts, require_window(posts, version, most))
    record(project, version, evaluation, now)
    project.registry.mark_evaluation_succeeded(version_id)
    return evaluation


def record(
    project: Project, version: ModelVersion, evaluation: Evaluation, now: datetime, run_id: str | None = None
) -> ModelEvaluation:
    """Keep an evaluation with its forecasts, from which every figure can be computed again."""
    kind = kind_of(evaluation.model_type)
    evaluation_id = project.registry.fresh_evaluation_id(now)
    content = kind.dump(evaluation.forecasts, evaluation.targets, evaluation.origins, evaluation.post_ids)
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


def naive_model(model_type: ModelTypeName, known: pd.DataFrame) -> ReadyModel:
    """Return the naive reference, trained on the posts known."""
    algorithm = load_algorithm(NAIVE_ALGORITHM, model_type)
    options = algorithm.options({}, model_type)
    return ReadyModel(algorithm, options, algorithm.train(known, options, model_type), model_type)


def _require_blindness(ready: ReadyModel, posts: pd.DataFrame, origins: Origins, forecasts: Any) -> None:
    kind = kind_of(ready.model_type)
    for row in spread(len(origins), BLINDNESS_CHECKS):
        known = posts.iloc[: origins.position[row] + 1]
        again = ready.predict(known, origins[[row]])
        keep = np.arange(len(origins)) == row
        first, _ = kind.select(forecasts, kind.targets(posts, origins.position + 1), keep)
        if not kind.same(first, again):
            raise AlgorithmError(
                f"the plugin '{ready.algorithm.name}' looks into the future: its forecast from "
                f"{origins.time[row]} UTC changes when later posts are taken away",
                hint="Its scores mean nothing. See retrainer.algorithms.testing",
            )
