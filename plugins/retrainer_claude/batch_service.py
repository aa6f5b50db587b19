"""The Message Batches of the Claude API, within limits of time and with retries."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from anthropic import AnthropicError, APIError, AsyncAnthropic, NotFoundError

from retrainer.errors import AlgorithmError
from retrainer_claude.api_errors import LostAnswerError, failure_reason, lost_answers
from retrainer_claude.retries import may_have_arrived, retry_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request
    from anthropic.types.messages import MessageBatch
    from anthropic.types.messages.batch_create_params import Request as BatchRequest
    from tenacity import AsyncRetrying

    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

CONTINUE = (
    "The batch continues: run the same command again within 29 days to collect its results; they are paid for only once"
)
UNKNOWN_SECONDS = 300.0  # for which the API must answer that a batch does not exist, until that is believed
_LOOKS = 2  # at the list of batches, in which a new one may appear late
_PAGE = 1000
_DOWNLOAD_SECONDS = 600.0  # for the results of a batch
_STATUSES = {"in_progress", "canceling", "ended"}


class _IncompleteResultsError(LostAnswerError):
    """Results of some requests are missing."""


@contextmanager
def report_errors(problem: str, options: ClaudeOptions, *, hint: str = CONTINUE, sent: object = ()) -> Iterator[None]:
    """Turn an error of the Claude API into one of the run.

    Args:
        problem: what could not be done.
        options: with the model.
        hint: what to do.
        sent: what was sent, of which no message repeats anything.

    Raises:
        AlgorithmError, MissingCredentials: always, if there was an error.
    """
    try:
        yield
    except NotFoundError:
        raise AlgorithmError(
            "the Claude API has no Message Batches (404)",
            hint="Check ANTHROPIC_BASE_URL if it is set, or use `batch: false`",
        ) from None
    except (AnthropicError, LostAnswerError) as error:
        raise AlgorithmError(f"{problem}: {failure_reason(error, options.model, sent)}", hint=hint) from None


@dataclass(frozen=True)
class BatchService:
    """The batches of a workspace.

    Attributes:
        client: the SDK's client.
        options: with the limits.
    """

    client: AsyncAnthropic
    options: ClaudeOptions

    async def newest(self) -> str | None:
        """Return the id of the newest batch; None if there is none.

        Raises:
            AnthropicError, LostAnswerError: it cannot be read.
        """

        async def first() -> str | None:
            async for batch in self.client.messages.batches.list(limit=1):
                return batch.id
            return None

        return await self._repeat(first)

    async def create(self, requests: Mapping[str, Request], newest_before: str | None, known: Collection[str]) -> str:
        """Create a batch of some requests, by the ids to give them, and return its id.

        If the answer was lost, the batch is looked for before another is created; see `find`.

        Raises:
            AnthropicError, LostAnswerError: it was not created.
            AlgorithmError: it may have been created.
        """
        items: list[BatchRequest] = [{"custom_id": name, "params": request} for name, request in requests.items()]

        async def create() -> str:
            return _require_batch(await self.client.messages.batches.create(requests=items)).id

        async def create_or_find() -> str:
            try:
                return await self._call(create)
            except (APIError, LostAnswerError) as error:
                if may_have_arrived(error) and (found := await self.find(requests, newest_before, known)):
                    return found
                raise

        return await self._policy()(create_or_find)

    async def find(self, custom_ids: Collection[str], newest_before: str | None, known: Collection[str]) -> str | None:
        """Return the id of the batch with these ids of requests; None if there is none.

        The ids are in the results of a batch alone. So this waits until a batch has ended that has as many requests and
        may be another's, which was created at the same time.

        Args:
            custom_ids: the ids of the requests.
            newest_before: the newest batch before it was sent.
            known: batches that are others.

        Raises:
            AlgorithmError, MissingCredentials: the batches cannot be read.
        """

        async def candidates() -> list[str]:
            found: list[str] = []
            async for batch in self.client.messages.batches.list(limit=_PAGE):
                if batch.id == newest_before:
                    break
                if batch.id not in others and _count_requests(batch) == len(custom_ids):
                    found.append(batch.id)
            return found

        others = set(known)
        with report_errors("cannot read whether a batch was created", self.options):
            for look in range(_LOOKS):
                if look:
                    await asyncio.sleep(self.options.batch_poll_seconds)
                for batch_id in reversed(await self._repeat(candidates)):
                    if await self.wait(batch_id) and await self._first_custom_id(batch_id) in custom_ids:
                        return batch_id
                    others.add(batch_id)
        return None

    async def _first_custom_id(self, batch_id: str) -> str:
        async def first() -> str:
            async for line in await self.client.messages.batches.results(batch_id):
                if line.custom_id:
                    return line.custom_id
            raise LostAnswerError("the results of a batch are empty")

        return await self._read_results(first)

    async def wait(self, batch_id: str) -> bool:
        """Wait until a batch has ended, and return whether its results exist.

        An answer that it does not exist may pass, so it is believed after some minutes.

        Raises:
            AlgorithmError, MissingCredentials: its state cannot be read.
        """
        unknown_since: float | None = None

        async def retrieve() -> MessageBatch | None:
            nonlocal unknown_since
            try:
                batch = _require_batch(await self.client.messages.batches.retrieve(batch_id))
            except NotFoundError:
                now = time.monotonic()
                unknown_since = now if unknown_since is None else unknown_since
                if now - unknown_since >= UNKNOWN_SECONDS:
                    return None
                raise LostAnswerError("the batch does not exist") from None
            unknown_since = None
            return batch

        policy = self._policy(pause=self.options.batch_poll_seconds, is_endless=True)
        with report_errors(f"cannot read the state of batch '{batch_id}'", self.options):
            while True:
                batch: MessageBatch | None = await policy(self._call, retrieve)
                if batch is None or batch.processing_status == "ended":
                    return batch is not None and batch.results_url is not None
                await asyncio.sleep(self.options.batch_poll_seconds)

    async def results(self, batch_id: str, custom_ids: Collection[str]) -> dict[str, Any]:
        """Return the results of a batch that has ended by the ids of its requests; some may be missing.

        Results that break off or are incomplete are read again.

        Raises:
            AlgorithmError, MissingCredentials: they cannot be read.
        """
        found: dict[str, Any] = {}

        async def read() -> None:
            async for line in await self.client.messages.batches.results(batch_id):
                if line.custom_id in custom_ids:
                    found.setdefault(line.custom_id, line.result)
            if len(found) < len(custom_ids):
                raise _IncompleteResultsError

        with report_errors(f"cannot read the results of batch '{batch_id}'", self.options):
            try:
                await self._read_results(read)
            except _IncompleteResultsError:
                log.warning("Batch '%s' has no results for %d requests", batch_id, len(custom_ids) - len(found))
            except (APIError, LostAnswerError):
                if len(found) < len(custom_ids):
                    raise
        return found

    async def _read_results(self, read: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Read results, which right after a batch has ended may not be there yet."""

        async def read_existing() -> _Answer:
            try:
                return await read()
            except NotFoundError:
                raise LostAnswerError("the results do not exist") from None
            except AnthropicError as error:
                if type(error) is AnthropicError:  # the SDK found no address of results
                    raise LostAnswerError("the results do not exist") from None
                raise

        policy = self._policy(pause=self.options.batch_poll_seconds)
        return await policy(self._call, read_existing, _DOWNLOAD_SECONDS)

    async def _repeat(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        return await self._policy()(self._call, call)

    def _policy(self, *, pause: float | None = None, is_endless: bool = False) -> AsyncRetrying:
        max_retries = None if is_endless else self.options.max_retries
        return retry_policy(max_retries, self.options.batch_timeout_hours * 3600, pause=pause)

    async def _call(self, call: Callable[[], Awaitable[_Answer]], seconds: float = 0.0) -> _Answer:
        """Make a call in time."""
        with lost_answers("about batches"):
            async with asyncio.timeout(max(seconds, self.options.timeout_seconds)):
                return await call()


def _require_batch(batch: MessageBatch) -> MessageBatch:
    """Return an answer that is a batch; the SDK does not validate answers."""
    batch_id: object = batch.id
    if not isinstance(batch_id, str) or batch.processing_status not in _STATUSES:
        raise LostAnswerError("the response of the Claude API is not a batch")
    return batch


def _count_requests(batch: MessageBatch) -> int:
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
