"""Call the Messages API concurrently, within limits of time, number and cost.

Errors:

- No or invalid credentials, a spend limit, an unpaid bill, an unknown or forbidden model: all calls stop.
- Rate limit, overload, 5xx, 408, 409: the call is retried, after as long as the answer asks for.
- A connection that fails, hangs or breaks; an answer that is not JSON or not a message: the call is retried, and the
  lost attempt counts at its estimated cost.
- Still failing after `max_retries`, not done within `timeout_seconds`, any other 4xx, an empty text: the forecast
  failed.
- A refusal, a truncated text: counted separately, never scored.
- `max_calls` or `max_cost` reached: no more calls; the remaining forecasts failed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anthropic import AnthropicError, APIError, AsyncAnthropic
from anthropic.types import Message

from retrainer.algorithms import BudgetExceeded
from retrainer_claude.answers import Result, cache, failure, read_message
from retrainer_claude.api_errors import LostAnswerError, failure_reason, lost_answers
from retrainer_claude.pricing import estimate_request
from retrainer_claude.retries import is_lost, retry_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request

    from retrainer.algorithms import Budget
    from retrainer_claude import ClaudeOptions


async def make_calls(
    client: AsyncAnthropic,
    requests: Mapping[str, Request],
    options: ClaudeOptions,
    budget: Budget,
    read_answer: Callable[[str], str],
) -> dict[str, Result]:
    """Make the first call alone, which fills the prompt cache, then the others, which read it."""
    first, *others = requests
    semaphore = asyncio.Semaphore(options.concurrency)
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
        except (AnthropicError, LostAnswerError) as error:
            problem = failure_reason(error, self.options.model, request)
        except BudgetExceeded as error:
            problem = str(error)
        except TimeoutError:
            problem = f"no answer came within {self.options.timeout_seconds:g} seconds"
        return failure(problem, retries())

    async def _attempt(self, key: str, request: Request, retries: int) -> Result:
        """Make one HTTP request within the budget, and cache its answer at once."""
        budget, options = self.budget, self.options
        estimate = estimate_request(request, options).cost_usd
        budget.reserve(estimate, max_calls=options.max_calls, max_cost=options.max_cost)
        started = time.monotonic()
        cost = estimate  # unless the outcome is known; also if this task is cancelled
        try:
            with lost_answers("a message"):
                message = await self.client.messages.create(**request)
                if not isinstance(message, Message):
                    raise LostAnswerError("the response of the Claude API is not a message")
            latency = round(time.monotonic() - started, 3)
            result = read_message(message, options, self.read_answer, latency_seconds=latency, retries=retries)
            cost = result.forecast.cost_usd
        except APIError as error:
            if not is_lost(error):
                cost = 0.0
            raise
        finally:
            budget.settle(estimate, cost)
        cache(budget, key, result)
        return result
