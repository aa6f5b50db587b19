"""Call the Messages API concurrently, within limits of time, number and cost, and read each answer as a forecast.

Errors:

- No or invalid credentials, a spend limit, an unpaid bill, an unknown or forbidden model: all calls stop.
- Rate limit, overload, 5xx, 408, 409: the call is retried, after as long as the answer asks for.
- A connection that fails, hangs or breaks; an answer that is not JSON or not a message: the call is retried, and the
  lost attempt counts at its estimated cost.
- Still failing after `max_retries`, not done within `timeout_seconds`, any other 4xx, an empty text: the forecast
  failed.
- A refusal, a truncated text: counted separately, never scored.
- `max_calls` or `max_cost` reached: no more calls; the remaining forecasts failed.

If the share of forecasts that did not fail is below `min_success_share`, the whole prediction is an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from anthropic import AnthropicError, APIError, APIStatusError, AsyncAnthropic, Timeout
from anthropic.types import Message, TextBlock

from retrainer.algorithms import BudgetExceeded, ContentForecast
from retrainer.errors import AlgorithmError
from retrainer_claude.api_errors import failure_reason, fatal_error, request_reference
from retrainer_claude.post_format import post_format
from retrainer_claude.preflight import require_credentials, unusable_credentials
from retrainer_claude.pricing import estimate_request, reported_usage
from retrainer_claude.prompt import build_requests
from retrainer_claude.retries import LostAnswerError, is_lost, retry_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pandas as pd
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request

    from retrainer.algorithms import Budget, Origins
    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

_FINISHED = ("end_turn", "stop_sequence", None)
_TRUNCATED = ("max_tokens", "model_context_window_exceeded")
_CONNECT_SECONDS = 5.0  # the SDK's default


@dataclass(frozen=True)
class Result:
    """A forecast, and why it failed; empty if it did not."""

    forecast: ContentForecast
    problem: str = ""


def predict_texts(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    options: ClaudeOptions,
    budget: Budget,
    without: frozenset[str] = frozenset(),
) -> list[ContentForecast]:
    """Return one forecast per origin, in order.

    Args:
        without: the parts of each request to leave out; see `build_requests`.

    Raises:
        MissingCredentials: there are none, or the API rejects them.
        AlgorithmError: an error stops all calls, or too many calls failed.
    """
    require_credentials()
    budget.answers.start_batch()
    built = build_requests(model, posts, origins, options, without)
    requests = {budget.answers.key(request): request for request in built}
    results = {key: result for key in requests if (result := _cached_result(budget, key))}
    if results:
        log.info("%d of %d forecasts were paid for by an earlier run and are reused", len(results), len(requests))
    if missing := {key: request for key, request in requests.items() if key not in results}:
        cost = sum(estimate_request(request, options).cost_usd for request in missing.values())
        if options.warn_above_cost is not None and cost > options.warn_above_cost:
            log.warning("The next %d calls of '%s' may cost up to $%.4f", len(missing), options.model, cost)
        results |= _run(_request_all(missing, options, budget, post_format(model).read_answer))
    ordered = [results[key] for key in requests]
    _require_successes(ordered, options.min_success_share)
    forecasts = [result.forecast for result in ordered]
    if forecasts:
        log.log(
            logging.INFO if len(forecasts) > 1 else logging.DEBUG,  # an A/B test asks for one at a time
            "%d forecasts by '%s': %d tokens read, of them %d from the prompt cache, and %d written",
            len(forecasts),
            options.model,
            sum(forecast.input_tokens for forecast in forecasts),
            sum(forecast.cache_read_tokens for forecast in forecasts),
            sum(forecast.output_tokens for forecast in forecasts),
        )
    return forecasts


def _cached_result(budget: Budget, key: str) -> Result | None:
    cached = budget.answers.get(key)
    try:
        return Result(ContentForecast(**cached["forecast"]), cached["problem"]) if cached else None
    except (KeyError, TypeError):  # written by another release
        return None


def _run(calls: Coroutine[Any, Any, dict[str, Result]]) -> dict[str, Result]:
    """Run the calls, in a thread of their own if this one already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(calls)
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(contextvars.copy_context().run, asyncio.run, calls).result()


async def _request_all(
    requests: dict[str, Request], options: ClaudeOptions, budget: Budget, read_answer: Callable[[str], str]
) -> dict[str, Result]:
    """Make the first call alone, which fills the prompt cache, then the others, which read it."""
    first, *others = requests
    semaphore = asyncio.Semaphore(options.concurrency)
    timeout = Timeout(options.timeout_seconds, connect=min(_CONNECT_SECONDS, options.timeout_seconds))
    async with AsyncAnthropic(max_retries=0, timeout=timeout) as client:
        caller = _Caller(client, options, budget, read_answer)

        async def request(key: str) -> Result:
            async with semaphore:
                return await caller.request(key, requests[key])

        results = {first: await request(first)}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(request(key)) for key in others}
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # it cancelled the other calls
        return results | {key: task.result() for key, task in tasks.items()}


@dataclass(frozen=True)
class _Caller:
    """What the calls of a prediction share."""

    client: AsyncAnthropic
    options: ClaudeOptions
    budget: Budget
    read_answer: Callable[[str], str]

    async def request(self, key: str, request: Request) -> Result:
        """Request one forecast, with retries."""
        retrying = retry_policy(self.options.max_retries, self.options.timeout_seconds)

        def retries() -> int:
            return int(retrying.statistics.get("attempt_number", 1)) - 1

        async def attempt() -> Result:
            return await self._attempt(key, request, retries())

        try:
            async with asyncio.timeout(self.options.timeout_seconds):
                return await retrying(attempt)
        except APIError as error:
            if isinstance(error, APIStatusError) and (fatal := fatal_error(error, self.options.model)):
                raise fatal from None  # a traceback would show the request
            problem = failure_reason(error, request)
        except AnthropicError as error:  # no answer of the API: the SDK could not get a token
            raise unusable_credentials(error) from None
        except (BudgetExceeded, LostAnswerError) as error:
            problem = str(error)
        except TimeoutError:
            problem = f"no answer came within {self.options.timeout_seconds:g} seconds"
        return Result(ContentForecast(text=None, outcome="failed", retries=retries()), problem)

    async def _attempt(self, key: str, request: Request, retries: int) -> Result:
        """Make one HTTP request within the budget, and cache its answer at once."""
        budget, options = self.budget, self.options
        estimate = estimate_request(request, options).cost_usd
        budget.reserve(estimate, max_calls=options.max_calls, max_cost=options.max_cost)
        started = time.monotonic()
        cost = estimate  # unless the outcome is known; also if this task is cancelled
        try:
            message = await self.client.messages.create(**request)
            if not isinstance(message, Message):
                raise LostAnswerError("the Claude API answered with something that is not a message")
            outcome, text, problem = _read(message, self.read_answer)
            forecast = ContentForecast(
                text=text,
                outcome=outcome,
                latency_seconds=round(time.monotonic() - started, 3),
                retries=retries,
                **reported_usage(message.usage, options),
            )
            cost = forecast.cost_usd
        except APIError as error:
            if not is_lost(error):
                cost = 0.0
            raise
        except ValueError:  # from the SDK's JSON decoder
            raise LostAnswerError("the Claude API answered with something that is not JSON") from None
        finally:
            budget.settle(estimate, cost)
        budget.input_tokens += forecast.input_tokens
        budget.output_tokens += forecast.output_tokens
        budget.refusals += forecast.outcome == "refusal"
        budget.answers.put(key, {"forecast": asdict(forecast), "problem": problem})
        return Result(forecast, problem)


def _read(
    message: Message, read_answer: Callable[[str], str]
) -> tuple[Literal["ok", "refusal", "truncated", "failed"], str | None, str]:
    """Return the outcome, the text and, if the forecast failed, why. The SDK does not validate answers."""
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


def _require_successes(results: list[Result], min_share: float) -> None:
    """Check that enough calls did not fail; a refusal or a truncated text is not a failure.

    Raises:
        AlgorithmError: too many failed; gives the last reason.
    """
    problems = [result.problem for result in results if result.problem]
    if not problems:
        return
    summary = f"{len(problems)} of {len(results)} forecasts failed, the last because {problems[-1]}"
    if len(results) - len(problems) < min_share * len(results):
        raise AlgorithmError(
            summary,
            hint="Try again: answers are cached and not paid for twice. See timeout_seconds, max_retries and max_cost",
        )
    log.warning("%s", summary)
