"""The Message Batches of the Claude API, within limits of time and with retries."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from anthropic import AnthropicError, APIError, APIStatusError, AsyncAnthropic, NotFoundError
from httpx2 import HTTPError

from retrainer.errors import AlgorithmError
from retrainer_claude.api_errors import failure_reason, fatal_error
from retrainer_claude.retries import LostAnswerError, is_transient, may_have_arrived, retry_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request
    from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
    from anthropic.types.messages.batch_create_params import Request as BatchRequest

    from retrainer_claude import ClaudeOptions

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

CONTINUE = (
    "The batch continues: run the same command again within 29 days to collect its results; they are paid for only once"
)
_MAX_FAILED_POLLS = 10  # in a row
_MAX_LISTED = 1000  # batches among which a lost one is searched
_PAGE = 100
_DOWNLOAD_SECONDS = 600.0  # for the results of a batch
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 8.0
_MAX_WAIT_SECONDS = 3600.0
_STATUSES = {"in_progress", "canceling", "ended"}


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
            APIError, LostAnswerError: it cannot be read.
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
            APIError, LostAnswerError: it was not created.
            AlgorithmError: it may have been created.
        """
        items: list[BatchRequest] = [{"custom_id": name, "params": request} for name, request in requests.items()]

        async def create() -> str:
            batch = await self.client.messages.batches.create(requests=items)
            return _require_batch(batch).id

        attempt = 0
        while True:
            try:
                return await self._call(create)
            except (APIError, LostAnswerError) as error:
                if not is_transient(error):
                    raise
                await self._back_off(error, attempt)
                if may_have_arrived(error) and (found := await self._find_lost(requests, newest_before, known)):
                    return found
                attempt += 1
                if attempt > self.options.max_retries:
                    raise

    async def _find_lost(
        self, custom_ids: Collection[str], newest_before: str | None, known: Collection[str]
    ) -> str | None:
        try:
            return await self.find(custom_ids, newest_before, known)
        except (APIError, LostAnswerError):
            raise AlgorithmError(
                "the response to creating a batch was lost, and the Claude API does not say whether the batch exists",
                hint="Run the same command again; it searches for the batch before it creates another",
            ) from None

    async def find(self, custom_ids: Collection[str], newest_before: str | None, known: Collection[str]) -> str | None:
        """Return the id of the batch with these ids of requests; None if there is none.

        The ids are in the results of a batch alone. So this waits until a batch has ended that has as many requests and
        may be another's, which was created at the same time.

        Args:
            custom_ids: the ids of the requests.
            newest_before: the newest batch before it was sent.
            known: batches that are others.

        Raises:
            APIError, LostAnswerError, AlgorithmError: the batches cannot be read.
        """

        async def candidates() -> list[str]:
            found: list[str] = []
            seen = 0
            async for batch in self.client.messages.batches.list(limit=_PAGE):
                seen += 1
                if batch.id == newest_before or seen > _MAX_LISTED:
                    break
                if batch.id not in known and _count_requests(batch) == len(custom_ids):
                    found.append(batch.id)
            return found

        for batch_id in reversed(await self._repeat(candidates)):
            if await self.wait(batch_id) and await self._first_custom_id(batch_id) in custom_ids:
                return batch_id
        return None

    async def _first_custom_id(self, batch_id: str) -> str:
        async def first() -> str:
            async for line in await self.client.messages.batches.results(batch_id):
                return line.custom_id
            return ""

        return await self._repeat(first)

    async def wait(self, batch_id: str) -> bool:
        """Wait until a batch has ended, and return whether its results exist.

        Raises:
            AlgorithmError, MissingCredentials: its state cannot be read.
        """

        async def retrieve() -> MessageBatch:
            return _require_batch(await self.client.messages.batches.retrieve(batch_id))

        failed = 0
        while True:
            wait = self.options.batch_poll_seconds
            try:
                batch = await self._call(retrieve)
            except NotFoundError:
                return False
            except (APIError, LostAnswerError) as error:
                failed += 1
                if not is_transient(error) or failed == _MAX_FAILED_POLLS:
                    self._fail(f"cannot read the state of batch '{batch_id}'", error)
                wait = min(max(wait, retry_after(error) or 0.0), _MAX_WAIT_SECONDS)
            else:
                if batch.processing_status == "ended":
                    return batch.results_url is not None
                failed = 0
            await asyncio.sleep(wait)

    async def download(self, batch_id: str, read: Callable[[MessageBatchIndividualResponse], bool]) -> None:
        """Read the results of a batch that has ended, again if they break off.

        Args:
            batch_id: the batch.
            read: is called with each result, some of them more than once, and returns whether others are expected.

        Raises:
            AlgorithmError, MissingCredentials: they cannot be read.
        """
        is_complete = False

        async def lines() -> None:
            nonlocal is_complete
            async for line in await self.client.messages.batches.results(batch_id):
                is_complete = not read(line)

        for attempt in range(self.options.max_retries + 1):
            try:
                await self._call(lines, _DOWNLOAD_SECONDS)
            except (APIError, LostAnswerError) as error:
                if not is_complete and (not is_transient(error) or attempt == self.options.max_retries):
                    self._fail(f"cannot read the results of batch '{batch_id}'", error)
                failure: APIError | LostAnswerError | None = error
            else:
                failure = None
            if is_complete or attempt == self.options.max_retries:
                return
            await self._back_off(failure, attempt)

    def _fail(self, problem: str, error: APIError | LostAnswerError) -> NoReturn:
        """Raise the error of a batch that goes on."""
        if isinstance(error, APIStatusError) and (fatal := fatal_error(error, self.options.model)):
            raise fatal from None
        raise AlgorithmError(f"{problem}: {describe(error)}", hint=CONTINUE) from None

    async def _repeat(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        attempt = 0
        while True:
            try:
                return await self._call(call)
            except (APIError, LostAnswerError) as error:
                if not is_transient(error) or attempt == self.options.max_retries:
                    raise
                await self._back_off(error, attempt)
                attempt += 1

    async def _call(self, call: Callable[[], Awaitable[_Answer]], seconds: float = 0.0) -> _Answer:
        """Make a call in time; an answer that cannot be read is lost."""
        try:
            async with asyncio.timeout(max(seconds, self.options.timeout_seconds)):
                return await call()
        except TimeoutError:
            raise LostAnswerError("the Claude API did not answer in time") from None
        except HTTPError as error:  # in a stream, which the SDK does not wrap
            raise LostAnswerError(f"the connection to the Claude API failed ({type(error).__name__})") from None
        except (ValueError, AttributeError, TypeError):  # the SDK does not validate answers
            raise LostAnswerError("the response of the Claude API is not about batches") from None
        except AnthropicError as error:
            if isinstance(error, APIError):
                raise
            raise LostAnswerError(str(error)) from None  # the results are gone

    async def _back_off(self, error: BaseException | None, attempt: int) -> None:
        """Wait before a call is repeated, as long as the API asks for, within limits."""
        wanted = retry_after(error)
        backoff = min(_FIRST_BACKOFF_SECONDS * 2**attempt, _MAX_BACKOFF_SECONDS)
        await asyncio.sleep(backoff if wanted is None else min(wanted, _MAX_WAIT_SECONDS))


def describe(error: APIError | LostAnswerError, request: object = ()) -> str:
    """Return in one line why a call failed, without what was sent."""
    return str(error) if isinstance(error, LostAnswerError) else failure_reason(error, request)


def _require_batch(batch: MessageBatch) -> MessageBatch:
    """Return an answer that is a batch; the SDK does not validate answers."""
    batch_id: object = batch.id
    if not isinstance(batch_id, str) or batch.processing_status not in _STATUSES:
        raise LostAnswerError("the response of the Claude API is not a batch")
    return batch


def _count_requests(batch: MessageBatch) -> int:
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
