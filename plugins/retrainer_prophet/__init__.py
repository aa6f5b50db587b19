"""Timing by Prophet: the rhythm of the week inside, a distribution of the waiting time out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from retrainer.algorithms import Algorithm, Importance, hookimpl

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Origins, TimingForecasts


class ProphetOptions(BaseModel):
    """The options of `prophet`. `make bench-timing OPTIONS='{"trend": true}'` measures what one does."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # The rhythm is learnt from the last so many weeks; from more where they hold fewer than 200 posts.
    weeks: Annotated[int, Field(ge=2, le=520)] = 26
    # The local time that the posts keep to, such as Europe/Paris: matters where clocks change in spring and autumn.
    timezone: str = "UTC"
    # Whether the likelihood of a post may also rise or fall over the training weeks; afterwards it stays where it was.
    trend: bool = False
    # The country whose public holidays are days of their own, by its two letters, such as US.
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
    """Describe the algorithm."""
    return Algorithm(
        name="prophet",
        model_types=("timing",),
        summary="The hazard of the next post: the silence so far, the rhythm of the week by Prophet, recent habits.",
        config=ProphetOptions,
    )


@hookimpl
def check_ready(config: ProphetOptions) -> None:
    """Check that Prophet knows the country whose holidays are asked for.

    Raises:
        ConfigError: it does not.
    """
    if config.holidays is not None:
        from retrainer_prophet.seasonality import require_holidays  # noqa: PLC0415  pandas is slow to import

        require_holidays(config.holidays)


@hookimpl
def train(posts: pd.DataFrame, config: ProphetOptions) -> dict[str, Any]:
    """Fit the rhythm of the week and the hazard of the next post."""
    from retrainer_prophet import waiting_time  # noqa: PLC0415  Prophet is slow to import

    return waiting_time.train(posts, config)


@hookimpl
def predict(model: dict[str, Any], posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the distribution of the wait from each origin."""
    from retrainer_prophet import waiting_time  # noqa: PLC0415

    return waiting_time.predict(model, posts, origins)


@hookimpl
def explain(model: dict[str, Any]) -> list[Importance]:
    """Return what the hazard leans on, as measured on the training gaps."""
    return [Importance(**one) for one in model.get("importances", [])]
