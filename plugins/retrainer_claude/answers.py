"""Answers of the Messages API: read as forecasts, cached, and combined if several were drawn for a forecast."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from anthropic.types import TextBlock

from retrainer.algorithms import ContentForecast, choose_text, sample_agreement
from retrainer_claude.api_errors import request_reference
from retrainer_claude.pricing import reported_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anthropic.types import Message

    from retrainer.algorithms import Budget
    from retrainer_claude import ClaudeOptions

_FINISHED = ("end_turn", "stop_sequence", None)
_TRUNCATED = ("max_tokens", "model_context_window_exceeded")
_OUTCOMES: tuple[Literal["refusal", "truncated", "failed"], ...] = ("refusal", "truncated", "failed")


@dataclass(frozen=True)
class Result:
    """A forecast, and why it failed; empty if it did not."""

    forecast: ContentForecast
    problem: str = ""


def read_message(
    message: Message,
    options: ClaudeOptions,
    read_answer: Callable[[str], str],
    *,
    batch: bool = False,
    latency_seconds: float = 0.0,
    retries: int = 0,
) -> Result:
    """Return the forecast that a message holds, with its usage.

    Args:
        message: the answer; the SDK does not validate it.
        options: with the prices.
        read_answer: returns the text of an answer.
        batch: whether it came in a Message Batch.
        latency_seconds: the duration of the call.
        retries: how often it was repeated.
    """
    outcome, text, problem = _read(message, read_answer)
    usage = reported_usage(message.usage, options, batch=batch)
    return Result(
        ContentForecast(text=text, outcome=outcome, latency_seconds=latency_seconds, retries=retries, **usage), problem
    )


def cache(budget: Budget, key: str, result: Result) -> None:
    """Count the tokens of an answer and cache it."""
    forecast = result.forecast
    budget.input_tokens += forecast.input_tokens
    budget.output_tokens += forecast.output_tokens
    budget.refusals += forecast.outcome == "refusal"
    budget.answers.put(key, {"forecast": asdict(forecast), "problem": result.problem})


def cached_result(budget: Budget, key: str) -> Result | None:
    """Return the cached answer of a request; None if there is none."""
    cached = budget.answers.get(key)
    try:
        return Result(ContentForecast(**cached["forecast"]), cached["problem"]) if cached else None
    except (KeyError, TypeError):  # written by another release
        return None


def failure(problem: str, retries: int = 0) -> Result:
    """Return the result of a call that got no answer."""
    return Result(ContentForecast(text=None, outcome="failed", retries=retries), problem)


def combine(samples: Sequence[Result], known: Sequence[str], *, copies: bool) -> Result:
    """Return one forecast of several answers to the same request, with the usage of all.

    Its text is chosen from those of the answers that have one; see `choose_text`. If none has, the forecast is a
    refusal if any is, otherwise truncated if any is.

    Args:
        samples: one or more answers.
        known: the last posts, which vote too.
        copies: whether one of these may be chosen.
    """
    forecasts = [sample.forecast for sample in samples]
    if len(forecasts) == 1 and not copies:
        return samples[0]
    total = replace(
        forecasts[0],
        latency_seconds=max(forecast.latency_seconds for forecast in forecasts),
        **{
            name: sum(getattr(forecast, name) for forecast in forecasts)
            for name in (
                "input_tokens",
                "output_tokens",
                "cost_usd",
                "cache_read_tokens",
                "cache_write_tokens",
                "retries",
            )
        },
    )
    texts = [forecast.text for forecast in forecasts if forecast.outcome == "ok" and forecast.text]
    if texts:
        chosen = choose_text(texts, known, copies=copies)
        return Result(replace(total, text=chosen, outcome="ok", agreement=sample_agreement(texts)))
    outcomes = [forecast.outcome for forecast in forecasts]
    first = outcomes.index(next(outcome for outcome in _OUTCOMES if outcome in outcomes))
    chosen_one = samples[first]
    return Result(
        replace(total, text=chosen_one.forecast.text, outcome=chosen_one.forecast.outcome), chosen_one.problem
    )


def _read(
    message: Message, read_answer: Callable[[str], str]
) -> tuple[Literal["ok", "refusal", "truncated", "failed"], str | None, str]:
    """Return the outcome, the text and, if the forecast failed, why."""
    content: Any = message.content
    blocks = content if isinstance(content, list) else []
    texts: list[Any] = [block.text for block in blocks if isinstance(block, TextBlock) and block.type == "text"]
    text = read_answer("".join(text for text in texts if isinstance(text, str)).strip())
    if message.stop_reason == "refusal":
        return "refusal", None, ""
    if message.stop_reason in _TRUNCATED:
        return "truncated", text, ""
    if message.stop_reason in _FINISHED and text:
        return "ok", text, ""
    problem = "the answer has no text"
    if message.stop_reason not in _FINISHED:
        problem = f"the model stopped for '{message.stop_reason}'"
    reference = request_reference(getattr(message, "_request_id", None))
    return "failed", None, f"{problem} ({reference})" if reference else problem
