"""What an error of the API means: the end of all calls, or one failed forecast.

No message repeats a key or the text of a post.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anthropic import (
    AnthropicError,
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
)
from httpx2 import HTTPError

from retrainer.errors import AlgorithmError, MissingCredentials
from retrainer_claude.preflight import CREDENTIALS_HINT, SECRET_HEADERS, unusable_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.errors import RetrainerError

SPEND_LIMITS = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}  # with status 429, but not transient
_REQUEST_ID = re.compile(r"[\w-]{1,60}")
_MAX_QUOTED_CHARACTERS = 200
_ECHO_CHARACTERS = 20  # a message with so long a part of the request repeats it


class LostAnswerError(Exception):
    """An answer that did not come, or cannot be read. It may have cost money."""


@contextmanager
def lost_answers(expected: str) -> Iterator[None]:
    """Turn what the SDK raises for an answer that it cannot read into a LostAnswerError. It does not validate answers.

    Args:
        expected: what the answer should have been, such as "a message".
    """
    try:
        yield
    except TimeoutError:
        raise LostAnswerError("the Claude API did not answer in time") from None
    except HTTPError as error:  # in a stream, which the SDK does not wrap
        raise LostAnswerError(f"the connection to the Claude API failed ({type(error).__name__})") from None
    except (ValueError, AttributeError, TypeError):
        raise LostAnswerError(f"the response of the Claude API is not {expected}") from None


def failure_reason(error: AnthropicError | LostAnswerError, model: str, request: object = ()) -> str:
    """Return in one line why a call failed.

    Args:
        error: what it raised.
        model: the model that was called.
        request: what was sent, of which the line repeats nothing.

    Raises:
        AlgorithmError, MissingCredentials: every other call would fail in the same way.
    """
    if isinstance(error, LostAnswerError):
        return str(error)
    if not isinstance(error, APIError):  # the SDK could not get a token
        raise unusable_credentials(error) from None
    if isinstance(error, APIStatusError):
        if fatal := _fatal_error(error, model):
            raise fatal from None  # a traceback would show the request
        message = _quotable_message(error, request)
        return f"the Claude API answered with an error {_details(error)}" + (f": {message}" if message else "")
    if isinstance(error, APITimeoutError):
        return "the Claude API did not answer in time"
    if isinstance(error, APIConnectionError):
        cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
        return f"the connection to the Claude API failed{cause}"
    return "the response of the Claude API is not a message"


def _fatal_error(error: APIStatusError, model: str) -> RetrainerError | None:
    """Return the error to stop with if every other call would fail the same way, otherwise None."""
    hint = ""
    if error.error_code in SPEND_LIMITS or isinstance(error, PaymentRequiredError):
        problem, hint = "reports a spend limit or an unpaid bill", "Check the billing page of the Claude Console"
    elif error.error_code == "organization_on_hold":
        problem = "reports that the organization is on hold"
    elif isinstance(error, AuthenticationError):
        return MissingCredentials(f"the Claude API rejected the credentials {_details(error)}", hint=CREDENTIALS_HINT)
    elif isinstance(error, PermissionDeniedError):
        problem = f"does not allow these credentials to use the model '{model}'"
        hint = "Check the workspace and its permissions in the Claude Console"
    elif isinstance(error, NotFoundError):
        problem = f"does not know the model '{model}'"
        hint = "Check the option `model`, and ANTHROPIC_BASE_URL if it is set"
    else:
        return None
    return AlgorithmError(f"the Claude API {problem} {_details(error)}", hint=hint)


def request_reference(request_id: object) -> str:
    """Return the id of a request for a message, such as "request req_1"; empty if it does not look like an id."""
    return f"request {request_id}" if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id) else ""


def _details(error: APIStatusError) -> str:
    """Return status, error type and request id in brackets, omitting what does not look like one."""
    error_type = str(error.error_code or error.type or "")
    status = f"{error.status_code} {error_type}" if re.fullmatch(r"\w{1,60}", error_type) else str(error.status_code)
    return f"({', '.join(filter(None, [status, request_reference(error.request_id)]))})"


def _quotable_message(error: APIStatusError, request: object) -> str:
    """Return the API's own message in one line, or nothing if it repeats part of the request.

    A proxy may echo what it was sent, including the key.
    """
    message = " ".join(str(error.api_message or "").split())[:_MAX_QUOTED_CHARACTERS]
    sent = "\n".join([*(error.request.headers.get(name, "") for name in SECRET_HEADERS), *_strings_in(request)])
    starts = range(len(message) - _ECHO_CHARACTERS + 1)
    return "" if any(message[start : start + _ECHO_CHARACTERS] in sent for start in starts) else message


def _strings_in(value: object) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _strings_in(item)]
    return [" ".join(value.split())] if isinstance(value, str) else []
