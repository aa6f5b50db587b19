"""The algorithm `baseline`: the naive forecasts that every other algorithm is compared with.

Timing: the distribution of the gaps between the training posts. Content: the moving medoid, the one of the last posts
that is most like the others by the content score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from retrainer.algorithms import Algorithm, Importance, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from optuna.trial import BaseTrial

    from retrainer.algorithms import ModelTypeName, Origins


MAX_WINDOW = 1_000


class BaselineOptions(BaseModel):
    """The options of `baseline`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # timing: of the last training gaps to learn from. null: all of them.
    last_gaps: Annotated[int, Field(ge=10)] | None = None
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = 20  # content: of the last posts to choose from


@hookimpl
def algorithm() -> Algorithm:
    return Algorithm(
        name="baseline",
        model_types=("timing", "content"),
        summary="The naive forecasts: the usual gap, and the most typical of the last posts.",
        config=BaselineOptions,
        context_posts={"timing": 1, "content": MAX_WINDOW},
    )


@hookimpl
def train(posts: pd.DataFrame, config: BaselineOptions, model_type: ModelTypeName) -> dict[str, Any]:
    """Learn the gaps; the medoid needs no training."""
    from retrainer_baseline import gaps  # noqa: PLC0415  numpy and pandas are slow to import

    return gaps.train(posts, config.last_gaps) if model_type == "timing" else {}


@hookimpl
def predict(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, config: BaselineOptions, model_type: ModelTypeName
) -> Any:
    """Return the naive forecast from each origin."""
    from retrainer_baseline import gaps, medoid  # noqa: PLC0415

    if model_type == "timing":
        return gaps.predict(model, posts, origins)
    return medoid.predict(posts, origins, config.window)


@hookimpl
def simulate(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    horizon_hours: float,
    max_posts: int,
    paths: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return futures whose gaps are training gaps, drawn independently: a renewal process."""
    from retrainer_baseline import gaps  # noqa: PLC0415

    return gaps.simulate(model, posts, origins, horizon_hours, max_posts, paths, seed)


@hookimpl
def explain(model: dict[str, Any], config: BaselineOptions, model_type: ModelTypeName) -> list[Importance]:
    """Return the median gap, or the number of posts to choose from."""
    from retrainer_baseline import gaps  # noqa: PLC0415

    if model_type == "timing":
        return gaps.explain(model)
    return [Importance("last posts", float(config.window), "posts", "the most typical of them is the forecast")]


@hookimpl
def search_space(trial: BaseTrial, model_type: ModelTypeName) -> dict[str, Any]:
    """Try how far to look back."""
    if model_type == "timing":
        return {"last_gaps": trial.suggest_categorical("last_gaps", [None, 50, 100, 200, 500, 1000, 2000, 5000])}
    return {"window": trial.suggest_int("window", 2, 200, log=True)}
