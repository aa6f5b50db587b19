"""Prepare a study: the training posts, the folds, the search spaces, and the plan that they make up."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms.fingerprint import fingerprint
from retrainer.errors import PostsError, UsageError
from retrainer.model_types.base import utc_times
from retrainer.pipeline.split import load_and_split
from retrainer.tuning.folds import plan_folds
from retrainer.tuning.objective import Objective
from retrainer.tuning.plan import StudyPlan, TunedAlgorithm
from retrainer.tuning.request import TuningRequest
from retrainer.tuning.search_space import load_spaces

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.tuning.search_space import SearchSpace

_WORDS = {  # for what a plan holds
    "algorithms": "plugins or options",
    "training_count": "number of training posts",
    "training_digest": "training posts",
    "held_back": "held-back fold",
    "origin": "rule of origins",
    "max_predictions": "number of forecasts on a fold",
}
FREE_PREDICTIONS = 200  # on a fold, where they cost nothing: more than a run makes, for more certain values


def prepare(project: Project, runtime: Runtime, request: TuningRequest, now: datetime) -> Objective:
    """Return what the trials of a study are judged by: the folds of the training posts. No test post is in it.

    Raises:
        UsageError: an algorithm has no search space, or the request does not fit the model type.
        MissingCredentials: an algorithm could make no forecast.
        InsufficientData: there are too few training posts for two folds and one that is held back.
    """
    _check(request)
    spaces = load_spaces(project.settings, runtime, request.model_type, request.algorithms)
    for space in spaces:
        space.algorithm.check_ready(space.options)
    training = load_training_posts(project, request, now)
    objective = Objective(_make_plan(project, request, spaces, training), training, tuple(spaces), runtime)
    for bounds in (*objective.plan.folds, objective.plan.held_back):
        objective.fold(bounds)  # raises if its posts are too few
    return objective


def prepare_again(project: Project, runtime: Runtime, plan: StudyPlan, now: datetime) -> Objective:
    """Return the objective of an existing study, in another process or on another machine.

    Raises:
        PostsError: this process finds other training posts, plugins or settings than the study has.
    """
    names = tuple(algorithm.name for algorithm in plan.algorithms)
    request = TuningRequest(
        plan.model_type, names, metric=plan.metric, seed=plan.seed, cost_objective=plan.cost_objective
    )
    objective = prepare(project, runtime, request, now)
    if objective.plan != plan:
        found, wanted = objective.plan.document(), plan.document()
        different = ", ".join(_WORDS.get(key, key) for key in wanted if found[key] != wanted[key])
        raise PostsError(
            f"this process does not match the study: different {different}",
            hint="Use the same posts, settings and plugins in all processes of a study",
        )
    return objective


def load_training_posts(project: Project, request: TuningRequest, now: datetime) -> pd.DataFrame:
    """Return the training posts as a run would split them off now.

    Raises:
        InsufficientData: there are too few posts, or they contain nothing to learn from.
    """
    return load_and_split(project, request.model_type, now).training.copy()  # a view would hold on to the test posts


def posts_digest(posts: pd.DataFrame) -> str:
    """Return the SHA-256 of posts: their ids, times and, for content, texts."""
    columns = [posts["post_id"], utc_times(posts).astype(np.int64)]
    if "content" in posts:
        columns.append(posts["content"])
    digest = hashlib.sha256()
    for row in zip(*columns, strict=True):
        digest.update("\0".join(map(str, row)).encode("utf-8", "surrogatepass") + b"\0\0")
    return digest.hexdigest()


def _check(request: TuningRequest) -> None:
    if request.metric == "crps" and request.model_type != "timing":
        raise UsageError(
            f"--metric: 'crps' applies to timing only, not to {request.model_type}", hint="Use overall_score"
        )
    if request.trials < 1:
        raise UsageError(f"--trials: invalid value '{request.trials}' (must be 1 or more)")
    if request.timeout_seconds is not None and request.timeout_seconds <= 0:
        raise UsageError(f"--timeout: invalid value '{request.timeout_seconds:g} s' (must be positive)")


def _make_plan(
    project: Project, request: TuningRequest, spaces: list[SearchSpace], training: pd.DataFrame
) -> StudyPlan:
    settings, model_type = project.settings.retraining, request.model_type
    folds, held_back = plan_folds(len(training))
    max_predictions = settings.max_predictions(model_type)
    if not any(space.algorithm.description.paid for space in spaces):
        max_predictions = max(max_predictions, FREE_PREDICTIONS)
    return StudyPlan(
        stream=project.stream,
        model_type=model_type,
        metric=request.metric,
        seed=request.seed,
        algorithms=tuple(_describe(space) for space in spaces),
        training_count=len(training),
        training_digest=posts_digest(training),
        folds=folds,
        held_back=held_back,
        origin=settings.origin(model_type),
        max_predictions=max_predictions,
        cost_objective=request.cost_objective,
    )


def _describe(space: SearchSpace) -> TunedAlgorithm:
    algorithm = space.algorithm
    options = space.options.model_dump(mode="json", exclude=set(algorithm.description.operational))
    return TunedAlgorithm(algorithm.name, algorithm.version, fingerprint(algorithm), options)
