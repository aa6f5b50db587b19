"""Attempts at one call: which faults pass, how long to wait, and when to give up."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING, Any

from anthropic import APIConnectionError, APIError, APIResponseValidationError, APIStatusError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from retrainer_claude.api_errors import SPEND_LIMITS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tenacity import AttemptManager

_PASSING = {408, 409, 429}
_SERVER_ERROR = 500
_GATEWAY_ERRORS = {502, 504}
_NEVER_SENT = {"ConnectError", "ConnectTimeout"}  # of the HTTP library: there was no connection yet
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0


class LostAnswerError(Exception):
    """An answer came that cannot be read; it may have been paid for."""


class Retries:
    """The attempts at one call; iterate over them.

    Attributes:
        made: how many were made after the first.
    """

    def __init__(self, most: int, seconds: float) -> None:
        """Allow `most` attempts after the first, and waits that end within so many seconds from now."""
        self.made = 0
        self._deadline = time.monotonic() + seconds
        self._jittered = wait_random_exponential(multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS)
        self._loop = AsyncRetrying(
            stop=lambda state: stop_after_attempt(most + 1)(state) or self._asks_too_long(state),
            wait=self._wait,
            retry=retry_if_exception(passes),
            before_sleep=self._count,
            reraise=True,
        )

    def __aiter__(self) -> AsyncIterator[AttemptManager]:
        iterator: AsyncIterator[AttemptManager] = self._loop.__aiter__()
        return iterator

    def _wait(self, state: RetryCallState) -> float:
        asked = asked_to_wait(_error_of(state))
        return self._jittered(state) if asked is None else asked

    def _asks_too_long(self, state: RetryCallState) -> bool:
        """Whether the API asks to wait for longer than there is time: then waiting is of no use."""
        asked = asked_to_wait(_error_of(state))
        return asked is not None and time.monotonic() + asked > self._deadline

    def _count(self, state: RetryCallState) -> None:
        del state
        self.made += 1


def passes(error: BaseException) -> bool:
    """Whether a fault may pass by itself."""
    if isinstance(error, LostAnswerError | APIConnectionError | APIResponseValidationError):
        return True
    if not isinstance(error, APIStatusError) or error.error_code in SPEND_LIMITS:
        return False
    told = error.response.headers.get("x-should-retry")  # the API knows better, where it says so
    if told in ("true", "false"):
        return told == "true"
    return error.status_code in _PASSING or error.status_code >= _SERVER_ERROR


def is_lost(error: APIError) -> bool:
    """Whether the model may have answered, and only the answer was lost, on the way or at a gateway."""
    if isinstance(error, APIStatusError):
        return error.status_code in _GATEWAY_ERRORS
    return type(error.__cause__).__name__ not in _NEVER_SENT


def asked_to_wait(error: BaseException | None) -> float | None:
    """Return the seconds that the API asks to wait, by the header `retry-after`; None where it does not."""
    if not isinstance(error, APIStatusError):
        return None
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(float(headers[name]) * unit, 0.0)
        except (KeyError, ValueError):
            continue
    date: Any = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(email.utils.mktime_tz(date) - time.time(), 0.0)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
