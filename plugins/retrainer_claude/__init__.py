"""The algorithm `claude_api`: content forecasts written by a Claude model that sees earlier posts.

Training is free: it chooses examples from the training posts. A forecast is one call of the Messages API or several,
paid by the token; those of an evaluation can be made as a Message Batch for half the price. The `anthropic` package
finds the credentials and the base URL.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrainer.algorithms import Algorithm, ContextPart, CostEstimate, hookimpl

if TYPE_CHECKING:
    import pandas as pd
    from optuna.trial import BaseTrial

    from retrainer.algorithms import Budget, ContentForecast, Origins

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(BaseModel):
    """The prices of a model in US dollars per million tokens, and the day they were looked up."""

    model_config = _STRICT

    input: _Dollars
    output: _Dollars
    cache_write: _Dollars
    cache_read: _Dollars
    batch: Annotated[float, Field(gt=0, le=1)] = 0.5  # the share of these prices that a Message Batch costs
    as_of: Annotated[date, Field(strict=False)]  # also a string, as in the database


# For prompts of up to 100,000 tokens.
_HAIKU_PRICES = Prices(input=0.10, output=0.50, cache_write=0.125, cache_read=0.01, as_of=date(2026, 10, 7))


class ClaudeOptions(BaseModel):
    """The options of `claude_api`."""

    model_config = _STRICT

    model: Annotated[str, Field(min_length=1)] = "claude-haiku-5-5"
    # The maximum tokens of one answer, thinking included; a text that reaches it counts as truncated.
    max_tokens: Annotated[int, Field(ge=1, le=64_000)] = 1024
    # Models differ in what they accept; `adaptive` is sent with the lowest effort.
    thinking: Literal["disabled", "between_tools", "adaptive"] = "disabled"

    examples: Annotated[int, Field(ge=0, le=100)] = 20  # training posts shown as examples
    examples_from_last: Annotated[int, Field(ge=1)] = 1000  # the last training posts to choose them from
    # The maximum characters of an example or a recent post; longer ones are cut.
    example_max_characters: Annotated[int, Field(ge=1, le=10_000)] = 1000
    recent_posts: Annotated[int, Field(ge=0, le=100)] = 5  # posts right before the forecast that are shown too

    # Texts drawn for each forecast, of which the most typical one is chosen; each is paid for.
    samples: Annotated[int, Field(ge=1, le=32)] = 1
    copies: Literal["allow", "avoid"] = "avoid"  # whether one of the last posts may be chosen

    # Make the forecasts of an evaluation as a Message Batch, which costs half and may take 24 hours.
    batch: bool = False
    batch_timeout_hours: Annotated[float, Field(gt=0, le=24)] = 24.0  # a run that waits longer for a batch fails
    batch_poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0  # between questions whether a batch has ended

    concurrency: Annotated[int, Field(ge=1, le=100)] = 8  # concurrent calls
    # Seconds that one forecast may take, including retries and the waits between them.
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    # Retries of a call after a rate limit, an overload, a server error or a lost connection.
    max_retries: Annotated[int, Field(ge=0, le=20)] = 2
    # The minimum share of forecasts that must not fail; below it, the whole prediction is an error.
    min_success_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    # Limits of a run, including both sides of its comparison: HTTP requests (with retries) and US dollars. Checked
    # before every request, which counts at its estimated cost until its answer arrives. null: no limit.
    max_calls: Annotated[int, Field(ge=1)] | None = None
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    # Warn before calls that may together cost more US dollars than this. null: never.
    warn_above_cost: _Dollars | None = 1.0
    # Prices by model id; the cost of a model without one counts as 0, with a warning.
    prices: dict[str, Prices] = {"claude-haiku-5-5": _HAIKU_PRICES}


@hookimpl
def algorithm() -> Algorithm:
    """Describe claude_api."""
    return Algorithm(
        name="claude_api",
        model_types=("content",),
        summary="A Claude model writing the next post after examples of earlier ones; needs a paid API key.",
        config=ClaudeOptions,
        paid=True,
        operational=(
            "batch",
            "batch_timeout_hours",
            "batch_poll_seconds",
            "concurrency",
            "timeout_seconds",
            "max_retries",
            "min_success_share",
            "max_calls",
            "max_cost",
            "warn_above_cost",
            "prices",
        ),
    )


@hookimpl
def check_ready(config: ClaudeOptions) -> None:
    """Check the environment, credentials, model and price, without network."""
    from retrainer_claude.preflight import (  # noqa: PLC0415  anthropic is slow
        check_environment,
        check_model,
        require_credentials,
    )

    check_environment()
    require_credentials()
    check_model(config)


@hookimpl
def train(posts: pd.DataFrame, config: ClaudeOptions) -> dict[str, Any]:
    """Return the model as plain data: examples, style, prompt, options; no network."""
    from retrainer_claude.examples import train_model  # noqa: PLC0415  pandas and numpy are slow to import

    return train_model(posts, config)


@hookimpl
def predict(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    config: ClaudeOptions,
    budget: Budget,
    without: frozenset[str],
) -> list[ContentForecast]:
    """Return one forecast per origin, in order, when all calls are done."""
    from retrainer_claude.client import predict_texts  # noqa: PLC0415  anthropic and pandas are slow to import

    return predict_texts(model, posts, origins, config, budget, without)


@hookimpl
def estimate(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, config: ClaudeOptions, without: frozenset[str]
) -> CostEstimate:
    """Return an upper bound on the cost of one forecast per origin, without retries; no network."""
    from retrainer_claude.pricing import estimate_request  # noqa: PLC0415
    from retrainer_claude.prompt import build_requests  # noqa: PLC0415  pandas and numpy are slow to import

    requests = build_requests(model, posts, origins, config, without)
    batch = config.batch and len(origins) > 1
    estimates = [estimate_request(request, config, batch=batch) for request in requests] * config.samples
    return sum(estimates, CostEstimate())


@hookimpl
def context_parts(model: dict[str, Any], config: ClaudeOptions) -> list[ContextPart]:
    """Return the parts of a request that may be left out."""
    parts = [
        ContextPart("examples", "the examples") if model["examples"] else None,
        ContextPart("last_posts", "the last posts") if config.recent_posts or config.samples > 1 else None,
        ContextPart("moment", "the moment"),
        ContextPart("style", "the style facts"),
    ]
    return [part for part in parts if part]


@hookimpl
def search_space(trial: BaseTrial) -> dict[str, Any]:
    """Try which posts the model sees. The model itself is a matter of the price."""
    return {
        "examples": trial.suggest_int("examples", 0, 60),
        "examples_from_last": trial.suggest_int("examples_from_last", 100, 10_000, log=True),
        "recent_posts": trial.suggest_int("recent_posts", 0, 30),
    }
