"""Calls of the Messages API: made side by side, bounded in time, each read as one forecast."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from anthropic import AnthropicError, APIError, APIStatusError, AsyncAnthropic, Timeout
from anthropic.types import Message, TextBlock

from retrainer.errors import AlgorithmError
from retrainer.model_types.content import ContentForecast
from retrainer_claude.faults import fault_of_all_calls, reason_of_failure
from retrainer_claude.prompting import build_requests
from retrainer_claude.readiness import require_credentials, unusable_credentials
from retrainer_claude.spending import spent_on
from retrainer_claude.texts import cleaned

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import pandas as pd

    from retrainer.model_types.base import Origins
    from retrainer_claude import ClaudeOptions
    from retrainer_claude.prompting import Request

log = logging.getLogger(__name__)

Outcome = Literal["ok", "refusal", "truncated", "failed"]
_FINISHED = ("end_turn", "stop_sequence", None)
_CONNECT_SECONDS = 5.0  # as the SDK has it: an address that nobody answers at is soon given up
_CUT_SHORT = ("max_tokens", "model_context_window_exceeded")


@dataclass(frozen=True)
class Answer:
    """A forecast, how many of its tokens came from the prompt cache, and why it failed where it did."""

    forecast: ContentForecast
    cached_tokens: int = 0
    problem: str = ""

    @classmethod
    def failed(cls, problem: str) -> Answer:
        """Return a forecast that never came and cost nothing."""
        return cls(ContentForecast(text=None, outcome="failed"), problem=problem)


def forecast(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, options: ClaudeOptions
) -> list[ContentForecast]:
    """Return one forecast an origin, in their order.

    Raises:
        MissingCredentials: there are none, or the API does not accept them.
        AlgorithmError: something stops all calls, or too few of them came through.
    """
    require_credentials()
    requests = build_requests(model, posts, origins, options)
    if not requests:
        return []
    answers = _run(_ask_all(requests, options))
    _require_successes(answers, options.min_success_share)
    log.info(
        "%d forecasts by '%s': %d tokens read, of them %d from the prompt cache, and %d written",
        len(answers),
        options.model,
        sum(answer.forecast.input_tokens for answer in answers),
        sum(answer.cached_tokens for answer in answers),
        sum(answer.forecast.output_tokens for answer in answers),
    )
    return [answer.forecast for answer in answers]


def _run(calls: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    """Run the calls to their end, in a thread of their own where this one already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(calls)
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, calls).result()


async def _ask_all(requests: list[Request], options: ClaudeOptions) -> list[Answer]:
    """Make the first call alone, which fills the prompt cache, then the others, which read it."""
    gate = asyncio.Semaphore(options.concurrency)
    timeout = Timeout(options.timeout_seconds, connect=min(_CONNECT_SECONDS, options.timeout_seconds))
    async with AsyncAnthropic(max_retries=options.max_retries, timeout=timeout) as client:

        async def ask(request: Request) -> Answer:
            async with gate:
                return await _ask(client, request, options)

        first = await ask(requests[0])
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(ask(request)) for request in requests[1:]]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None  # the first has cancelled the others; one line is enough
        return [first, *(other.result() for other in others)]


async def _ask(client: AsyncAnthropic, request: Request, options: ClaudeOptions) -> Answer:
    try:
        # The SDK waits as long as a `retry-after` says, however long that is.
        async with asyncio.timeout(options.timeout_seconds):
            message = await client.messages.create(**request)
    except APIStatusError as error:
        if fault := fault_of_all_calls(error, options.model):
            raise fault from None  # the cause would carry the request into a traceback
        return Answer.failed(reason_of_failure(error, request))
    except APIError as error:
        return Answer.failed(reason_of_failure(error, request))
    except AnthropicError as error:  # no answer of the API at all: a token could not be had
        raise unusable_credentials(error) from None
    except TimeoutError:
        return Answer.failed(f"no answer came within {options.timeout_seconds:g} seconds")
    except ValueError:  # the SDK lets the JSON decoder's error through
        return Answer.failed("the Claude API answered with something that is not JSON")
    return _read(message, options)


def _read(message: object, options: ClaudeOptions) -> Answer:
    """Read a message as a forecast. The SDK checks no answer: any part may be missing or of another kind."""
    if not isinstance(message, Message):
        return Answer.failed("the Claude API answered with something that is not a message")
    text = _text_of(message)
    outcome, problem = _outcome(message.stop_reason, text)
    kept = text if outcome in ("ok", "truncated") else None
    spent = spent_on(message.usage, options.prices.get(options.model))
    made = ContentForecast(kept, outcome, spent.input_tokens, spent.output_tokens, spent.cost_usd)
    return Answer(made, spent.cached_tokens, problem)


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
        raise AlgorithmError(failures, hint="Try again later, or see the options timeout_seconds and max_retries")
    log.warning("%s", failures)
