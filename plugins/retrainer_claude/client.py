"""Forecast by the Messages API: by concurrent calls, or an evaluation by a Message Batch.

Each forecast is chosen from `samples` answers to the same request. If the share of forecasts that did not fail is below
`min_success_share`, the whole prediction is an error.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient, Timeout

from retrainer.errors import AlgorithmError
from retrainer.http_environment import ssl_context
from retrainer_claude.answers import Result, cached_result, combine
from retrainer_claude.batch_service import CONTINUE
from retrainer_claude.batches import is_pending, request_batches
from retrainer_claude.calls import make_calls
from retrainer_claude.post_format import post_format
from retrainer_claude.preflight import require_credentials
from retrainer_claude.pricing import estimate_request
from retrainer_claude.prompt import build_requests, last_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pandas as pd
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request

    from retrainer.algorithms import Budget, ContentForecast, Origins
    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0  # the SDK's default
_VOTING_POSTS = 20  # the last posts by which one of several samples is chosen


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
    form = post_format(model)
    drawn: list[list[str]] = []  # the keys of the requests of each forecast
    requests: dict[str, Request] = {}
    for request in build_requests(model, posts, origins, options, without):
        keys = [budget.answers.key(request) for _ in range(options.samples)]
        drawn.append(keys)
        requests |= dict.fromkeys(keys, request)
    batch = options.batch and len(drawn) > 1
    results = _answer(requests, options, budget, form.read_answer, batch=batch)
    voting = 0 if "last_posts" in without else _VOTING_POSTS
    chosen = [
        combine(
            [results[key] for key in keys],
            last_texts(posts, position, form, voting),
            copies=options.copies == "allow",
        )
        for keys, position in zip(drawn, origins.position.tolist(), strict=True)
    ]
    _require_successes(chosen, options.min_success_share)
    if problems := [result.problem for result in results.values() if result.problem and options.samples > 1]:
        log.warning("%d of %d samples failed, the last because %s", len(problems), len(results), problems[-1])
    forecasts = [result.forecast for result in chosen]
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


def _answer(
    requests: dict[str, Request],
    options: ClaudeOptions,
    budget: Budget,
    read_answer: Callable[[str], str],
    *,
    batch: bool,
) -> dict[str, Result]:
    """Return the answer to each request, by key: cached, from a batch, or by a call."""
    results = {key: result for key in requests if (result := cached_result(budget, key))}
    if results:
        log.info("Reusing %d of %d answers, paid for by an earlier run", len(results), len(requests))
    missing = {key: request for key, request in requests.items() if key not in results}
    cost = sum(estimate_request(request, options, batch=batch).cost_usd for request in missing.values())
    if not batch and is_pending(budget, missing):
        log.warning("Paying again, with `batch: false`, for requests of a batch that an earlier run sent")
    if missing and options.warn_above_cost is not None and cost > options.warn_above_cost:
        log.warning("The next %d calls of '%s' may cost up to $%.4f", len(missing), options.model, cost)
    if not missing and not (batch and budget.answers.batches.list()):
        return results

    async def request_missing() -> dict[str, Result]:
        timeout = Timeout(options.timeout_seconds, connect=min(_CONNECT_SECONDS, options.timeout_seconds))
        http_client = DefaultAsyncHttpxClient(verify=ssl_context(), timeout=timeout)
        async with AsyncAnthropic(max_retries=0, timeout=timeout, http_client=http_client) as client:
            found = dict(results)
            if batch:
                found |= await request_batches(client, requests, options, budget, read_answer)
            if rest := {key: request for key, request in requests.items() if key not in found}:
                found |= await make_calls(client, rest, options, budget, read_answer)
            return found

    try:
        return _run(request_missing())
    except (KeyboardInterrupt, SystemExit):
        if batch and is_pending(budget, requests):
            log.warning("%s", CONTINUE)
        raise


def _run(calls: Coroutine[Any, Any, dict[str, Result]]) -> dict[str, Result]:
    """Run the calls, in a thread of their own if this one already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(calls)
    tasks: list[asyncio.Task[Any]] = []

    async def track() -> dict[str, Result]:
        tasks.extend(filter(None, [asyncio.current_task()]))
        return await calls

    with ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(contextvars.copy_context().run, asyncio.run, track())
        try:
            return future.result()
        except BaseException:  # such as an interrupted cell of a notebook, which would wait for the thread
            for task in tasks:
                if not task.done():
                    task.get_loop().call_soon_threadsafe(task.cancel)
            raise


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
