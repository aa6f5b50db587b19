"""Make the calls of an evaluation as Message Batches, for half the price.

A batch is recorded beside the cached answers, first without its id, then with it, until every answer is cached. So:

- A run that is killed or interrupted leaves its batch, and the next run with one of its requests continues with it.
- If the answer to the request that creates a batch was lost, or the process was killed right then, the batch may exist.
  It is found among those that are newer than the newest one before, by the ids of its requests.

Errors:

- No or invalid credentials, an unpaid bill, a service without batches, a batch that is refused: the run fails.
- Rate limit, overload, 5xx, a lost or unreadable answer: repeated; while the batch is waited for, until it has ended.
- An answer that the batch or its results do not exist: repeated, and only believed after several.
- Not ended within `batch_timeout_hours`, or its results cannot be read: the run fails, and the batch goes on.
- A request of the batch that expired, or failed by a transient error, is repeated, as a call.
- One that failed by another error, or was canceled, is a failed forecast.
- More requests than `max_calls` and `max_cost` allow: the batch has those that they do, and the other forecasts failed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from anthropic import AnthropicError
from anthropic.types import Message

from retrainer.algorithms import BudgetExceeded, PendingBatch
from retrainer.errors import AlgorithmError
from retrainer_claude.answers import Result, cache, cached_result, failure, read_message
from retrainer_claude.api_errors import LostAnswerError
from retrainer_claude.batch_service import CONTINUE, BatchService, report_errors
from retrainer_claude.pricing import estimate_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from anthropic import AsyncAnthropic
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request

    from retrainer.algorithms import Budget
    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

_TRANSIENT_ERRORS = {"api_error", "overloaded_error", "rate_limit_error", "timeout_error"}
_TOKEN_DIGITS = 32  # of its token, in the ids of the requests of a batch
_MIN_REQUESTS = 2  # of a batch; a single one is a call
_LOCK_SECONDS = 1.0


class _Outcome(NamedTuple):
    """What became of a request of a batch: its result, or None to repeat it, and its cost, or None if unknown."""

    result: Result | None
    cost: float | None
    is_answer: bool = False


def is_pending(budget: Budget, requests: Iterable[str]) -> bool:
    """Whether a batch of this run or an earlier one has some of these requests."""
    keys = set(requests)
    return any(keys & batch.estimates.keys() for batch in budget.answers.batches.list())


async def request_batches(
    client: AsyncAnthropic,
    requests: Mapping[str, Request],
    options: ClaudeOptions,
    budget: Budget,
    read_answer: Callable[[str], str],
) -> dict[str, Result]:
    """Return answers by key, from batches of earlier runs and from a new one. A call must be made for the others.

    Raises:
        MissingCredentials: the API rejects them.
        AlgorithmError: a batch cannot be created, has not ended in time, or cannot be read.
    """
    caller = _BatchCaller(BatchService(client, options), options, budget, read_answer)
    try:
        async with asyncio.timeout(options.batch_timeout_hours * 3600):
            return await caller.request(requests)
    except TimeoutError:
        problem = f"a batch did not end within {options.batch_timeout_hours:g} hours (batch_timeout_hours)"
        raise AlgorithmError(problem, hint=CONTINUE) from None


@dataclass(frozen=True)
class _BatchCaller:
    """Makes the calls of a prediction as batches."""

    service: BatchService
    options: ClaudeOptions
    budget: Budget
    read_answer: Callable[[str], str]

    async def request(self, requests: Mapping[str, Request]) -> dict[str, Result]:
        """Return the answers by key; see `request_batches`."""
        results: dict[str, Result] = {}
        for batch in self.budget.answers.batches.list():
            if batch.estimates.keys() & requests.keys():
                results |= await self._continue(batch.token)
        results |= {key: cached for key in requests if (cached := cached_result(self.budget, key))}
        missing = {key: request for key, request in requests.items() if key not in results}
        if len(missing) < _MIN_REQUESTS:
            return results
        hint, sent = "Try again later, or use `batch: false`", list(missing.values())
        with report_errors("cannot create a batch", self.options, hint=hint, sent=sent):
            return results | await self._create(missing)

    async def _continue(self, token: str) -> dict[str, Result]:
        """Return the results of a batch that an earlier run has sent, once no other process waits for it."""
        batches = self.budget.answers.batches
        async with self._locked(token):
            batch = batches.get(token)
            if batch is None:
                batches.delete(token)  # the lock; the process that waited for it has cached its answers
                return {}
            keys = [key for key in batch.estimates if not cached_result(self.budget, key)]
            if not keys:
                batches.delete(token)
                return {}
            if batch.batch_id is None:
                found = await self.service.find(_custom_ids(batch), batch.newest_before, self._known_ids())
                batch = replace(batch, batch_id=found)
                if found is None:
                    batches.delete(token)
                    self._settle(batch, dict.fromkeys(keys, 0.0), earlier=True)
                    return {}
                batches.save(batch)
            log.info("Resuming batch '%s' of an earlier run", batch.batch_id)
            return await self._take(batch, keys, earlier=True)

    async def _create(self, requests: Mapping[str, Request]) -> dict[str, Result]:
        """Send a batch of the requests that are within the limits, and return its results."""
        newest = await self.service.newest()
        results: dict[str, Result] = {}
        estimates: dict[str, float] = {}
        for key, request in requests.items():
            estimate = estimate_request(request, self.options, batch=True).cost_usd
            try:
                self.budget.reserve(estimate, max_calls=self.options.max_calls, max_cost=self.options.max_cost)
            except BudgetExceeded as error:
                results[key] = failure(str(error))
            else:
                estimates[key] = estimate
        if not estimates:
            return results
        shared = tuple(one.budget_id for one in self.budget.shared if one.budget_id is not None)
        batch = PendingBatch(estimates, shared, newest)
        batches = self.budget.answers.batches
        async with self._locked(batch.token):
            batches.save(batch)
            sent = {custom_id: requests[key] for custom_id, key in _custom_ids(batch).items()}
            try:
                batch = replace(batch, batch_id=await self.service.create(sent, newest, self._known_ids()))
            except (AnthropicError, LostAnswerError):  # it does not exist
                batches.delete(batch.token)
                self._settle(batch, dict.fromkeys(estimates, 0.0), earlier=False)
                raise
            batches.save(batch)
            log.info(
                "Sent %d requests as batch '%s'; waiting up to %g hours for its results",
                len(estimates),
                batch.batch_id,
                self.options.batch_timeout_hours,
            )
            return results | await self._take(batch, list(estimates), earlier=False)

    async def _take(self, batch: PendingBatch, keys: Sequence[str], *, earlier: bool) -> dict[str, Result]:
        """Wait until a batch has ended, return its results, without those to repeat, and forget it."""
        batch_id = str(batch.batch_id)
        if not await self.service.wait(batch_id):
            with report_errors(f"cannot find batch '{batch_id}'", self.options):
                await self.service.newest()  # otherwise this may be another service, by another address
            self.budget.answers.batches.delete(batch.token)
            log.warning(
                "Batch '%s' or its results not found with these credentials; sending its requests again",
                batch_id,
            )
            return {}  # they may have been paid for, so what was reserved stays reserved
        wanted = set(keys)
        names = {custom_id: key for custom_id, key in _custom_ids(batch).items() if key in wanted}
        found = await self.service.results(batch_id, names)
        results: dict[str, Result] = {}
        costs: dict[str, float] = {}  # of what is not cached
        for custom_id, key in names.items():
            outcome = self._read_result(found.get(custom_id))
            cost = batch.estimates[key] if outcome.cost is None else outcome.cost  # lost, but perhaps paid for
            if outcome.result is not None:
                results[key] = outcome.result
            if outcome.result is not None and outcome.is_answer:
                cache(self.budget, key, outcome.result)
                self._settle(batch, {key: cost}, earlier=earlier)
            else:
                costs[key] = cost
        # What is not cached is settled when it is forgotten: after a kill in between it stays reserved, and would
        # otherwise be settled twice.
        self.budget.answers.batches.delete(batch.token)
        self._settle(batch, costs, earlier=earlier)
        answers = sum(not result.problem for result in results.values())
        log.info("Batch '%s' ended with %d answers to %d requests", batch_id, answers, len(keys))
        if repeated := len(keys) - len(results):
            log.warning("Repeating %d requests of the batch, which expired or failed temporarily", repeated)
        return results

    def _read_result(self, result: Any) -> _Outcome:
        """Return what became of a request. The SDK does not validate answers."""
        kind = getattr(result, "type", None)
        message = getattr(result, "message", None)
        if kind == "succeeded" and isinstance(message, Message):
            read = read_message(message, self.options, self.read_answer, batch=True)
            return _Outcome(read, read.forecast.cost_usd, is_answer=True)
        if kind == "canceled":
            return _Outcome(failure("the batch was canceled"), 0.0)
        if kind == "errored":
            error = getattr(getattr(getattr(result, "error", None), "error", None), "type", None)
            if error not in _TRANSIENT_ERRORS:
                return _Outcome(failure(f"the Claude API answered with an error ({str(error)[:60]})"), 0.0)
        return _Outcome(None, 0.0 if kind in {"errored", "expired"} else None)

    def _settle(self, batch: PendingBatch, costs: Mapping[str, float], *, earlier: bool) -> None:
        """Replace what was reserved for some requests, by this run or an earlier one, by what they cost."""
        for key, cost in costs.items():
            if earlier:
                self.budget.settle_earlier(batch.estimates[key], cost, batch.reserved_in)
            else:
                self.budget.settle(batch.estimates[key], cost)

    def _known_ids(self) -> set[str]:
        """Return the ids of all recorded batches."""
        return {batch.batch_id for batch in self.budget.answers.batches.list() if batch.batch_id is not None}

    @asynccontextmanager
    async def _locked(self, token: str) -> AsyncIterator[None]:
        """Wait until no other process waits for a batch."""
        with ExitStack() as stack:
            is_logged = False
            while True:
                try:
                    stack.enter_context(self.budget.answers.batches.lock(token))
                    break
                except TimeoutError:
                    if not is_logged:
                        log.info("Another process is waiting for a batch with the same requests")
                    is_logged = True
                    await asyncio.sleep(_LOCK_SECONDS)
                except OSError as error:
                    log.debug("Cannot lock a batch: %s", error.strerror)
                    break
            yield


def _custom_ids(batch: PendingBatch) -> dict[str, str]:
    """Return the key of each request by its id in the batch."""
    return {f"{batch.token[:_TOKEN_DIGITS]}-{number}": key for number, key in enumerate(batch.estimates)}
