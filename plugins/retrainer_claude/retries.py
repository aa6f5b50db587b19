"""When to retry a call of the API, and after how long."""

from __future__ import annotations

import email.utils
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from anthropic import APIConnectionError, APIError, APIResponseValidationError, APIStatusError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_random_exponential

from retrainer_claude.api_errors import SPEND_LIMITS, LostAnswerError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_TRANSIENT_STATUSES = {408, 409, 429}
_SERVER_ERROR = 500
_GATEWAY_ERRORS = {502, 504}
_OVERLOADED = 529
_NEVER_SENT = {"ConnectError", "ConnectTimeout"}  # errors of the HTTP library before there is a connection
_BACKOFF = wait_random_exponential(multiplier=0.5, max=8.0)  # seconds


def retry_policy(max_retries: int | None, timeout_seconds: float, *, pause: float | None = None) -> AsyncRetrying:
    """Return a caller that retries transient errors, unless it would have to wait until after the timeout.

    Args:
        max_retries: how often; None for no limit but the timeout.
        timeout_seconds: from the first attempt to the last.
        pause: seconds between attempts, or longer if the API asks for that; None for what it asks for, or an
            exponential backoff with jitter.
    """

    def wait(state: RetryCallState) -> float:
        wanted = retry_after(state.outcome.exception() if state.outcome else None)
        if pause is not None:
            return max(pause, wanted or 0.0)
        return _BACKOFF(state) if wanted is None else wanted

    in_time = stop_before_delay(timeout_seconds)
    return AsyncRetrying(
        stop=in_time if max_retries is None else stop_after_attempt(max_retries + 1) | in_time,
        wait=wait,
        retry=retry_if_exception(is_transient),
        reraise=True,
    )


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed."""
    if isinstance(error, LostAnswerError | APIConnectionError | APIResponseValidationError):
        return True
    if not isinstance(error, APIStatusError) or error.error_code in SPEND_LIMITS:
        return False
    advice = error.response.headers.get("x-should-retry")
    if advice in ("true", "false"):
        return advice == "true"
    return error.status_code in _TRANSIENT_STATUSES or error.status_code >= _SERVER_ERROR


def is_lost(error: APIError) -> bool:
    """Whether the model may have answered, and the answer was lost in transit or at a gateway."""
    if isinstance(error, APIStatusError):
        return error.status_code in _GATEWAY_ERRORS
    return type(error.__cause__).__name__ not in _NEVER_SENT


def may_have_arrived(error: APIError | LostAnswerError) -> bool:
    """Whether the API may have done what a lost answer was about."""
    if isinstance(error, APIStatusError):
        return error.status_code >= _SERVER_ERROR and error.status_code != _OVERLOADED
    return isinstance(error, LostAnswerError) or is_lost(error)


def retry_after(error: BaseException | None) -> float | None:
    """Return the seconds that the API asks to wait; None if it does not say."""
    if not isinstance(error, APIStatusError):
        return None
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            return max(float(headers[name]) * unit, 0.0)
    if date := email.utils.parsedate_tz(headers.get("retry-after", "")):
        return max(email.utils.mktime_tz(date) - time.time(), 0.0)
    return None
