"""The algorithm `claude_api`: content forecasts written by a Claude model that is shown earlier posts.

Training costs nothing: it picks examples from the training posts and keeps them. A forecast is one call of
the Messages API, paid by the token. Credentials and the base URL are what the `anthropic` package finds.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrainer.algorithms import Algorithm, CostEstimate, hookimpl

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Budget, ContentForecast, Origins

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(BaseModel):
    """What a model costs, in US dollars a million tokens, and the day on which that was so."""

    model_config = _STRICT

    input: _Dollars
    output: _Dollars
    cache_write: _Dollars
    cache_read: _Dollars
    as_of: Annotated[date, Field(strict=False)]  # a plain string too, as the options come back from a database


def _known_prices() -> dict[str, Prices]:
    haiku = Prices(input=0.10, output=0.50, cache_write=0.125, cache_read=0.01, as_of=date(2026, 10, 7))
    return {"claude-haiku-5-5": haiku}  # for prompts of up to 100,000 tokens, which these stay far below


# Limits, prices and patience are those of today, also for a version that was trained with others.
_OPERATIONAL = (
    "concurrency",
    "timeout_seconds",
    "max_retries",
    "min_success_share",
    "max_calls",
    "max_cost",
    "warn_above_cost",
    "prices",
)


class ClaudeOptions(BaseModel):
    """The options of `claude_api`, each with a default that works."""

    model_config = _STRICT

    # A model id of the Claude API.
    model: Annotated[str, Field(min_length=1)] = "claude-haiku-5-5"
    # Tokens that one forecast may take, thinking included; a text that reaches them counts as cut short.
    max_tokens: Annotated[int, Field(ge=1, le=64_000)] = 1024
    # How thinking is kept small; models differ in what they accept. `adaptive` goes with the lowest effort.
    thinking: Literal["disabled", "between_tools", "adaptive"] = "disabled"

    # Training posts that are shown as examples.
    examples: Annotated[int, Field(ge=0, le=100)] = 20
    # They are chosen from the last so many training posts.
    examples_from_last: Annotated[int, Field(ge=1)] = 1000
    # Characters at which an example, or one of the latest posts, is cut.
    example_max_characters: Annotated[int, Field(ge=1, le=10_000)] = 1000
    # Posts right before the forecast that are shown as the latest ones.
    recent_posts: Annotated[int, Field(ge=0, le=100)] = 5

    # Calls under way at the same time.
    concurrency: Annotated[int, Field(ge=1, le=100)] = 8
    # Seconds that one forecast may take, its retries and the waits between them included.
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    # Retries of a call after a rate limit, an overload, a fault of the server or a lost connection.
    max_retries: Annotated[int, Field(ge=0, le=20)] = 2
    # The share of calls that must not fail; with fewer, the whole prediction is an error.
    min_success_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    # Limits of a run, for both sides of its comparison together: HTTP requests, retries included, and US dollars.
    # Checked before every request, which counts at what it may cost at most until its answer is there. null: no limit.
    max_calls: Annotated[int, Field(ge=1)] | None = None
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    # Calls that may together cost more dollars than this are announced by a warning.
    warn_above_cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 1.0

    # Prices by model id; a model without one is counted as costing nothing, with a warning.
    prices: dict[str, Prices] = Field(default_factory=_known_prices)


@hookimpl
def algorithm() -> Algorithm:
    """Describe claude_api."""
    return Algorithm(
        name="claude_api",
        model_types=("content",),
        summary="A Claude model writing the next post after examples of earlier ones; needs a paid API key.",
        config=ClaudeOptions,
        paid=True,
        operational=_OPERATIONAL,
    )


@hookimpl
def check_ready(config: ClaudeOptions) -> None:
    """Check that there are credentials, and warn of a model that is retired soon or has no price; no network.

    Raises:
        MissingCredentials: none are found, or what is found cannot be used.
        ConfigError: the cost is limited, but not known.
    """
    from retrainer_claude.preflight import require_credentials, require_price, warn_of_model  # noqa: PLC0415  slow

    require_credentials()
    require_price(config)
    warn_of_model(config)


@hookimpl
def train(posts: pd.DataFrame, config: ClaudeOptions) -> dict[str, Any]:
    """Return the model as plain data: examples, facts about the style, the prompt, the options; no network.

    Raises:
        InsufficientData: no post has a text.
    """
    from retrainer_claude.examples import trained  # noqa: PLC0415  pandas and numpy are slow to import

    return trained(posts, config)


@hookimpl
def predict(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, config: ClaudeOptions, budget: Budget
) -> list[ContentForecast]:
    """Return one forecast an origin, in their order; blocks until all calls are done.

    Raises:
        MissingCredentials: there are none, or the API does not accept them.
        AlgorithmError: something stops all calls, or too few of them came through.
    """
    from retrainer_claude.client import forecast  # noqa: PLC0415  anthropic and pandas are slow to import

    return forecast(model, posts, origins, config, budget)


@hookimpl
def estimate(model: dict[str, Any], posts: pd.DataFrame, origins: Origins, config: ClaudeOptions) -> CostEstimate:
    """Return the most that one forecast an origin should take, retries left out; no network."""
    from retrainer_claude.pricing import estimated  # noqa: PLC0415
    from retrainer_claude.prompt import build_requests  # noqa: PLC0415  pandas and numpy are slow to import

    each = [estimated(request, config) for request in build_requests(model, posts, origins, config)]
    return sum(each, CostEstimate())
