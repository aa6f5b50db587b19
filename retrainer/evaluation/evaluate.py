"""Forecast the posts of a window and score the forecasts, beside the naive forecast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import AlgorithmError
from retrainer.evaluation import lookahead
from retrainer.evaluation.likelihood import add_likelihoods
from retrainer.model_types import get_model_type
from retrainer.model_types.embeddings import load_semantic_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.windows import Window
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import ModelType, Origins, Reliability
    from retrainer.model_types.content import ContentForecasts, ContentTargets
    from retrainer.model_types.embeddings import SemanticModel, SemanticSimilarity

MIN_SCORED_SHARE = 0.5


@dataclass(frozen=True)
class Evaluation:
    """The forecasts of one model on one window, and the naive forecasts from the same origins.

    Attributes:
        own_metrics: the metrics that the plugin adds.
        semantic_similarity: of the forecasts to the posts; None without an embedding model.
        naive_semantic_similarity: of the naive forecasts to the posts.
    """

    model_type: ModelTypeName
    window: Window
    origins: Origins
    post_ids: list[str]
    targets: Any
    forecasts: Any
    naive_forecasts: Any
    own_metrics: dict[str, float]
    semantic_similarity: SemanticSimilarity | None = None
    naive_semantic_similarity: SemanticSimilarity | None = None

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) which forecasts can be scored."""
        return self._type.scorable(self.forecasts)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics of the model type and of the plugin, the counts, and the skill against the naive forecast."""
        metrics = self.metrics_on(self.scored)
        return {
            **self.own_metrics,
            **metrics,
            **self._type.skill_scores(metrics, self.naive_metrics),
            **self._type.count_outcomes(self.forecasts),
            "num_predictions": self.num_predictions,
        }

    @cached_property
    def naive_metrics(self) -> dict[str, float]:
        """The metrics of the naive forecast on the posts that were scored."""
        return self.naive_metrics_on(self.scored)

    @property
    def num_predictions(self) -> int:
        """The number of forecasts that were scored."""
        return int(self.scored.sum())

    @cached_property
    def reliability(self) -> list[Reliability]:
        """Forecast probabilities beside observed frequencies."""
        return self._type.reliability(*self._type.select(self.forecasts, self.targets, self.scored))

    def has_same_targets(self, other: Evaluation) -> bool:
        """Whether both forecast the same posts from the same origins."""
        return (
            self.post_ids == other.post_ids
            and np.array_equal(self.origins.time, other.origins.time)
            and np.array_equal(self.origins.position, other.origins.position)
        )

    def metrics_on(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return the metrics of the model type on a subset (n,) of the forecasts."""
        return self._score(self.forecasts, self.semantic_similarity, keep)

    def naive_metrics_on(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return the metrics of the naive forecast on a subset (n,) of the forecasts, and their number."""
        metrics = self._score(self.naive_forecasts, self.naive_semantic_similarity, keep)
        return {**metrics, "num_predictions": int(keep.sum())}

    def contributions_on(self, keep: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return (m, k) the figures of a subset of the forecasts whose means give the overall score."""
        return self._type.score_components(*self._type.select(self.forecasts, self.targets, keep))

    def _score(
        self, forecasts: Any, similarity: SemanticSimilarity | None, keep: NDArray[np.bool_]
    ) -> dict[str, float]:
        metrics = self._type.score(*self._type.select(forecasts, self.targets, keep))
        return metrics if similarity is None else {**metrics, **similarity.metrics(keep)}

    @property
    def _type(self) -> ModelType[Any, Any]:
        return get_model_type(self.model_type)


def evaluate(
    model: TrainedModel,
    fit_naive: Callable[[pd.DataFrame], TrainedModel],
    posts: pd.DataFrame,
    window: Window,
    *,
    budget: Budget | None = None,
    check_lookahead: Callable[[TrainedModel, pd.DataFrame, Origins, Any, Any], None] | None = None,
    with_likelihood: bool = True,
) -> Evaluation:
    """Forecast from each origin of the window, with the model and with the naive reference.

    The naive reference is fitted to the posts before the window. If forecasts are free, a few are repeated without
    later posts and must not change.

    Args:
        model: the model to evaluate.
        fit_naive: fits the naive reference to some posts.
        posts: all posts in order.
        window: what to forecast, and from where.
        budget: of paid calls; None for a budget of its own.
        check_lookahead: see `lookahead`, the default.
        with_likelihood: whether to ask for the likelihood of the posts, which decides nothing.

    Raises:
        AlgorithmError: a hook failed, too few forecasts can be scored, the model looks into the future, or it is not
            deterministic.
        ConfigError: the embedding model cannot be loaded; no forecast was made.
    """
    encoder = None if model.embedding_model is None else load_semantic_model(model.embedding_model)
    model_type = get_model_type(model.model_type)
    origins = window.origins_for(model.model_type, posts)
    forecasts = model.predict(posts, origins, budget)
    targets = model_type.targets(posts, origins, window.rows)
    if not model.algorithm.description.paid:
        (check_lookahead or lookahead.check_lookahead)(model, posts, origins, forecasts, targets)
    scored = model_type.scorable(forecasts)
    if scored.sum() < MIN_SCORED_SHARE * len(origins):
        # Otherwise a model could decline to forecast the posts that it finds difficult.
        raise AlgorithmError(
            f"only {scored.sum()} of {len(origins)} forecasts of '{model.algorithm.name}' can be scored: "
            f"at least {MIN_SCORED_SHARE:.0%} are required"
        )
    if with_likelihood and model.model_type == "content":
        forecasts = add_likelihoods(model, posts, origins, forecasts, targets)
    # A single post has no gap to learn from; two do, and the second one is where the window starts.
    naive_forecasts = fit_naive(posts.iloc[: max(window.first_row, 2)]).predict(posts, origins)
    return Evaluation(
        model_type=model.model_type,
        window=window,
        origins=origins,
        post_ids=[str(post_id) for post_id in posts["post_id"].iloc[window.rows]],
        targets=targets,
        forecasts=forecasts,
        naive_forecasts=naive_forecasts,
        own_metrics=model.algorithm.score(*model_type.select(forecasts, targets, scored), model.model_type),
        semantic_similarity=_semantic_similarity(encoder, forecasts, targets),
        naive_semantic_similarity=_semantic_similarity(encoder, naive_forecasts, targets),
    )


def _semantic_similarity(
    encoder: SemanticModel | None, forecasts: ContentForecasts, targets: ContentTargets
) -> SemanticSimilarity | None:
    if encoder is None:
        return None
    return encoder.semantic_similarity([forecast.text or "" for forecast in forecasts], targets.texts)
