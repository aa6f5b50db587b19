"""Calls of the Messages API: made side by side, bounded in time, number and cost, each read as one forecast.

What becomes of a fault:

- No credentials, wrong ones, a spend limit, an unpaid bill, a model that is not known or not allowed: everything stops.
- Rate limit, overload, 5xx, 408, 409: tried again, after as long as the answer asks for.
- A connection that cannot be made, hangs or breaks; an answer that is not JSON or no message: tried again, and the
  lost attempt counts at its estimate.
- Still failing after `max_retries`, not done within `timeout_seconds`, any other 4xx, an empty text: this forecast
  failed.
- A refusal, a text cut short: counted apart, never scored.
- `max_calls` or `max_cost` reached: no more calls; the forecasts without an answer failed.

Fewer than `min_success_share` of the forecasts: the whole prediction is an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from anthropic import AnthropicError, APIError, APIStatusError, AsyncAnthropic, Timeout
from anthropic.types import Message, TextBlock

from retrainer.algorithms import BudgetExceeded, ContentForecast
from retrainer.errors import AlgorithmError
from retrainer_claude.api_errors import fault_of_all_calls, reason_of_failure, reference
from retrainer_claude.preflight import require_credentials, unusable_credentials
from retrainer_claude.pricing import estimated, spent_on
from retrainer_claude.prompt import build_requests
from retrainer_claude.retries import LostAnswerError, Retries, is_lost
from retrainer_claude.text import cleaned

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import pandas as pd

    from retrainer.algorithms import Budget, Origins
    from retrainer_claude import ClaudeOptions
    from retrainer_claude.prompt import Request

log = logging.getLogger(__name__)

Outcome = Literal["ok", "refusal", "truncated", "failed"]
_FINISHED = ("end_turn", "stop_sequence", None)
_CONNECT_SECONDS = 5.0  # as the SDK has it: an address that nobody answers at is soon given up
_CUT_SHORT = ("max_tokens", "model_context_window_exceeded")


@dataclass(frozen=True)
class Answer:
    """A forecast, and why it failed where it did."""

    forecast: ContentForecast
    problem: str = ""

    @classmethod
    def failed(cls, problem: str, retries: int = 0) -> Answer:
        """Return a forecast that never came and cost nothing that is known."""
        return cls(ContentForecast(text=None, outcome="failed", retries=retries), problem=problem)


@dataclass(frozen=True)
class Ask:
    """One forecast to ask for.

    Attributes:
        request: the arguments of the call.
        key: under which its answer is kept.
    """

    request: Request
    key: str


def forecast(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, options: ClaudeOptions, budget: Budget
) -> list[ContentForecast]:
    """Return one forecast an origin, in their order.

    Raises:
        MissingCredentials: there are none, or the API does not accept them.
        AlgorithmError: something stops all calls, or too few of them came through.
    """
    require_credentials()
    budget.answers.start_batch()
    asks = [Ask(request, budget.answers.key(request)) for request in build_requests(model, posts, origins, options)]
    answers = {ask.key: _recalled(budget, ask) for ask in asks}
    open_asks = [ask for ask in asks if answers[ask.key] is None]
    if len(open_asks) < len(asks):
        paid = len(asks) - len(open_asks)
        log.info("%d of %d forecasts were paid for before and are not asked for again", paid, len(asks))
    if open_asks:
        _warn_of_cost(open_asks, options)
        answers.update(_run(_ask_all(open_asks, options, budget)))
    made = [answer for ask in asks if (answer := answers[ask.key]) is not None]
    _require_successes(made, options.min_success_share)
    _tell(made, options)
    return [answer.forecast for answer in made]


def _recalled(budget: Budget, ask: Ask) -> Answer | None:
    kept = budget.answers.get(ask.key)
    try:
        return None if kept is None else Answer(ContentForecast(**kept["forecast"]), kept["problem"])
    except (KeyError, TypeError):  # kept by another release
        return None


def _warn_of_cost(asks: list[Ask], options: ClaudeOptions) -> None:
    if options.warn_above_cost is None:
        return
    most = sum(estimated(ask.request, options).cost_usd for ask in asks)
    if most > options.warn_above_cost:
        log.warning("The next %d calls of '%s' may cost up to $%.4f", len(asks), options.model, most)


def _run(calls: Coroutine[Any, Any, dict[str, Answer]]) -> dict[str, Answer]:
    """Run the calls to their end, in a thread of their own where this one already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(calls)
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(contextvars.copy_context().run, asyncio.run, calls).result()


async def _ask_all(asks: list[Ask], options: ClaudeOptions, budget: Budget) -> dict[str, Answer]:
    """Make the first call alone, which fills the prompt cache, then the others, which read it."""
    gate = asyncio.Semaphore(options.concurrency)
    timeout = Timeout(options.timeout_seconds, connect=min(_CONNECT_SECONDS, options.timeout_seconds))
    async with AsyncAnthropic(max_retries=0, timeout=timeout) as client:

        async def answered(ask: Ask) -> tuple[str, Answer]:
            async with gate:
                return ask.key, await _ask(client, ask, options, budget)

        first = await answered(asks[0])
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(answered(ask)) for ask in asks[1:]]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None  # the first has cancelled the others; one line is enough
        return dict([first, *(other.result() for other in others)])


async def _ask(client: AsyncAnthropic, ask: Ask, options: ClaudeOptions, budget: Budget) -> Answer:
    """Ask for one forecast until an answer came, as often and as long as the options allow."""
    retries = Retries(options.max_retries, options.timeout_seconds)
    try:
        # A wait that the API asks for may be as long as it likes; the forecast's time is not.
        async with asyncio.timeout(options.timeout_seconds):
            async for attempt in retries:
                with attempt:
                    return await _attempt(client, ask, options, budget, retries.made)
    except BudgetExceeded as limit:
        return Answer.failed(str(limit), retries.made)
    except APIStatusError as error:
        if fault := fault_of_all_calls(error, options.model):
            raise fault from None  # the cause would carry the request into a traceback
        return Answer.failed(reason_of_failure(error, ask.request), retries.made)
    except APIError as error:
        return Answer.failed(reason_of_failure(error, ask.request), retries.made)
    except AnthropicError as error:  # no answer of the API at all: a token could not be had
        raise unusable_credentials(error) from None
    except TimeoutError:
        return Answer.failed(f"no answer came within {options.timeout_seconds:g} seconds", retries.made)
    except LostAnswerError as error:
        return Answer.failed(str(error), retries.made)
    raise AssertionError("the retries end with an answer or an error")


async def _attempt(client: AsyncAnthropic, ask: Ask, options: ClaudeOptions, budget: Budget, retries: int) -> Answer:
    """Make one HTTP request, paid for from the account; an answer that came is kept at once."""
    estimate = estimated(ask.request, options).cost_usd
    budget.reserve(estimate, max_calls=options.max_calls, max_cost=options.max_cost)
    started = time.monotonic()
    cost = estimate  # until an answer says otherwise, also where this is cancelled on the way
    try:
        message = await client.messages.create(**ask.request)
        if not isinstance(message, Message):
            raise LostAnswerError("the Claude API answered with something that is not a message")
        answer = _read(message, options)
        took = replace(answer.forecast, latency_seconds=round(time.monotonic() - started, 3), retries=retries)
        answer = replace(answer, forecast=took)
        cost = took.cost_usd
    except APIError as error:
        if not is_lost(error):
            cost = 0.0  # refused before any work
        raise
    except ValueError:  # the SDK lets the JSON decoder's error through
        raise LostAnswerError("the Claude API answered with something that is not JSON") from None
    finally:
        budget.settle(estimate, cost)
    budget.input_tokens += took.input_tokens
    budget.output_tokens += took.output_tokens
    budget.refusals += took.outcome == "refusal"
    budget.answers.put(ask.key, {"forecast": asdict(took), "problem": answer.problem})
    return answer


def _read(message: Message, options: ClaudeOptions) -> Answer:
    """Read a message as a forecast. The SDK checks no answer: any part may be missing or of another kind."""
    text = _text_of(message)
    outcome, problem = _outcome(message.stop_reason, text)
    if problem:
        problem += reference(getattr(message, "_request_id", None))
    kept = text if outcome in ("ok", "truncated") else None
    spent = spent_on(message.usage, options.prices.get(options.model))
    made = ContentForecast(
        text=kept,
        outcome=outcome,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cost_usd=spent.cost_usd,
        cache_read_tokens=spent.cache_read_tokens,
        cache_write_tokens=spent.cache_write_tokens,
    )
    return Answer(made, problem)


def _outcome(stop_reason: str | None, text: str) -> tuple[Outcome, str]:
    """Return what the answer counts as and, where it failed, why."""
    if stop_reason == "refusal":
        return "refusal", ""
    if stop_reason in _CUT_SHORT:
        return "truncated", ""
    if stop_reason not in _FINISHED:
        return "failed", f"the model stopped for '{stop_reason}'"
    if not text:
        return "failed", "the model answered with no text"
    return "ok", ""


def _text_of(message: Message) -> str:
    blocks: Any = message.content  # typed by the SDK, and not checked
    if not isinstance(blocks, list):
        return ""
    texts: list[Any] = [block.text for block in blocks if isinstance(block, TextBlock) and block.type == "text"]
    return cleaned("".join(text for text in texts if isinstance(text, str)))


def _require_successes(answers: list[Answer], share: float) -> None:
    """Check that enough calls came through: a refusal or a text cut short did, an error did not.

    Raises:
        AlgorithmError: too few did; gives the last reason.
    """
    problems = [answer.problem for answer in answers if answer.forecast.outcome == "failed"]
    if not problems:
        return
    failures = f"{len(problems)} of {len(answers)} forecasts failed, the last because {problems[-1]}"
    if len(answers) - len(problems) < share * len(answers):
        raise AlgorithmError(
            failures,
            hint="Try again: what came is kept and not paid for twice. See also timeout_seconds, max_retries, max_cost",
        )
    log.warning("%s", failures)


def _tell(answers: list[Answer], options: ClaudeOptions) -> None:
    if not answers:
        return
    log.info(
        "%d forecasts by '%s': %d tokens read, of them %d from the prompt cache, and %d written",
        len(answers),
        options.model,
        sum(answer.forecast.input_tokens for answer in answers),
        sum(answer.forecast.cache_read_tokens for answer in answers),
        sum(answer.forecast.output_tokens for answer in answers),
    )
