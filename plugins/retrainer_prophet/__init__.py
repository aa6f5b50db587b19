"""The algorithm `prophet`: timing forecasts from a hazard model with Prophet's weekly profile inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from retrainer.algorithms import Algorithm, Importance, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from optuna.trial import BaseTrial

    from retrainer.algorithms import Origins, TimingForecasts


class ProphetOptions(BaseModel):
    """The options of `prophet`. `make bench-timing OPTIONS='{"trend": true}'` measures the effect of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # Weeks of posts that the weekly profile is fitted to; more if they hold fewer than 200 posts.
    weeks: Annotated[int, Field(ge=2, le=520)] = 26
    # The time zone that the posts follow, such as Europe/Paris. Matters where clocks change in spring and autumn.
    timezone: str = "UTC"
    # Whether the activity may rise or fall over the training weeks; it stays constant afterwards.
    trend: bool = False
    # The country whose public holidays differ from other days: a two-letter code such as US.
    holidays: Annotated[str, Field(pattern="^[A-Z]{2,3}$")] | None = None

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("it must be the name of a time zone, such as Europe/Paris") from None
        return name


@hookimpl
def algorithm() -> Algorithm:
    return Algorithm(
        name="prophet",
        model_types=("timing",),
        summary="The hazard of the next post: the silence so far, the rhythm of the week by Prophet, recent habits.",
        config=ProphetOptions,
        state_format=3,  # 1: expected posts were not rounded, so forecasts differed; 2: the busiest day was missing
    )


@hookimpl
def check_ready(config: ProphetOptions) -> None:
    """Check that Prophet knows the holidays of the country."""
    if config.holidays is not None:
        from retrainer_prophet.seasonality import require_holidays  # noqa: PLC0415  pandas is slow to import

        require_holidays(config.holidays)


@hookimpl
def train(posts: pd.DataFrame, config: ProphetOptions) -> dict[str, Any]:
    """Fit the weekly profile and the hazard of the next post."""
    from retrainer_prophet.model import train_model  # noqa: PLC0415  numpy and pandas are slow to import

    return train_model(posts, config)


@hookimpl
def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins, state: bytes | None) -> TimingForecasts:
    """Return the distribution of the wait from each origin."""
    from retrainer_prophet.model import predict_waits  # noqa: PLC0415

    return predict_waits(model, posts, origins, state)


@hookimpl
def condense(model: dict[str, Any], posts: pd.DataFrame, state: bytes | None) -> tuple[bytes, int] | None:
    """Return what is known at the last post, and the times that later forecasts look back at."""
    from retrainer_prophet.model import condense_posts  # noqa: PLC0415

    return condense_posts(model, posts, state)


@hookimpl
def simulate(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    horizon_hours: float,
    max_posts: int,
    paths: int,
    seed: int,
    state: bytes | None,
) -> NDArray[np.float64]:
    """Return futures drawn from the hazard, post after post."""
    from retrainer_prophet.model import simulate_futures  # noqa: PLC0415

    return simulate_futures(
        model, posts, origins, horizon_hours=horizon_hours, max_posts=max_posts, paths=paths, seed=seed, state=state
    )


@hookimpl
def explain(model: dict[str, Any]) -> list[Importance]:
    """Return the feature importance, measured on the training gaps."""
    return [Importance(**stored) for stored in model.get("importances", [])]


@hookimpl
def search_space(trial: BaseTrial) -> dict[str, Any]:
    """Try how much of the past the weekly profile is fitted to, and whether the activity may rise or fall."""
    return {
        "weeks": trial.suggest_int("weeks", 4, 104, log=True),
        "trend": trial.suggest_categorical("trend", [False, True]),
    }
