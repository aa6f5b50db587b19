"""Timing by Prophet: the rhythm of the week inside, a distribution of the waiting time out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from retrainer.algorithms import Algorithm, hookimpl

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.model_types.base import Origins
    from retrainer.model_types.timing import TimingForecasts


class ProphetOptions(BaseModel):
    """The options of `prophet`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # The rhythm is learnt from the last so many weeks; from more where they hold fewer than 200 posts.
    weeks: Annotated[int, Field(ge=2, le=520)] = 26
    # Prophet's own: larger values let the rhythm of the week swing wider.
    seasonality_prior_scale: Annotated[float, Field(gt=0)] = 10.0


@hookimpl
def algorithm() -> Algorithm:
    """Describe the algorithm."""
    return Algorithm(
        name="prophet",
        model_types=("timing",),
        summary="The rhythm of the week by Prophet, and how posts follow one another within it.",
        config=ProphetOptions,
    )


@hookimpl
def train(posts: pd.DataFrame, config: ProphetOptions) -> dict[str, Any]:
    """Fit the rhythm of the week, and the gaps measured in it."""
    from retrainer_prophet import waiting  # noqa: PLC0415  Prophet is slow to import

    return waiting.train(posts, config.weeks, config.seasonality_prior_scale)


@hookimpl
def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the distribution of the wait from each origin."""
    from retrainer_prophet import waiting  # noqa: PLC0415

    return waiting.predict(model, posts, origins)
