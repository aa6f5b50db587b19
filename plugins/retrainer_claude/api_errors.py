"""What a failed call means: an end to all calls, or one forecast less.

No message repeats a key or the text of a post.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from anthropic import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
)

from retrainer.errors import AlgorithmError, MissingCredentials
from retrainer_claude.preflight import HINT, SECRET_HEADERS

if TYPE_CHECKING:
    from retrainer.errors import RetrainerError
    from retrainer_claude.prompt import Request

# They come with status 429, which otherwise asks for nothing but patience.
SPEND_LIMITS = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
_ID = re.compile(r"[\w-]{1,60}")
_QUOTED_CHARACTERS = 200
_GIVEAWAY_CHARACTERS = 20


def fault_of_all_calls(error: APIStatusError, model: str) -> RetrainerError | None:
    """Return the error to stop with where every other call would fail the same way, otherwise None."""
    where = _reference(error)
    if error.error_code in SPEND_LIMITS or isinstance(error, PaymentRequiredError):
        return AlgorithmError(
            f"the Claude API stops at a spend limit or an unpaid bill {where}",
            hint="Look at the billing page of the Claude Console",
        )
    if error.error_code == "organization_on_hold":
        return AlgorithmError(f"the Claude API has put the organization on hold {where}")
    if isinstance(error, AuthenticationError):
        return MissingCredentials(f"the Claude API does not accept the credentials {where}", hint=HINT)
    if isinstance(error, PermissionDeniedError):
        return AlgorithmError(
            f"the Claude API does not let these credentials use the model '{model}' {where}",
            hint="Look at the workspace and its permissions in the Claude Console",
        )
    if isinstance(error, NotFoundError):
        return AlgorithmError(
            f"the Claude API does not know the model '{model}' {where}",
            hint="Check the option `model`, and ANTHROPIC_BASE_URL if it is set",
        )
    return None


def reason_of_failure(error: APIError, request: Request) -> str:
    """Say in one line why a call failed that concerns one forecast only."""
    if isinstance(error, APIStatusError):
        words = _quotable(error, request)
        return f"the Claude API answered with an error {_reference(error)}" + (f": {words}" if words else "")
    if isinstance(error, APITimeoutError):
        return "the Claude API did not answer in time"
    if isinstance(error, APIConnectionError):
        cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
        return f"the Claude API cannot be reached, or broke off{cause}"
    return "the Claude API answered with something that is not a message"


def reference(request_id: object) -> str:
    """Return the id of a request in brackets, after a space; nothing where there is none that looks like one."""
    return f" (request {request_id})" if isinstance(request_id, str) and _ID.fullmatch(request_id) else ""


def _reference(error: APIStatusError) -> str:
    """Return status, kind and request id in brackets, as far as they look like such."""
    kind = str(error.error_code or error.type or "")
    parts = [f"{error.status_code} {kind}" if re.fullmatch(r"\w{1,60}", kind) else str(error.status_code)]
    if error.request_id and _ID.fullmatch(error.request_id):
        parts.append(f"request {error.request_id}")
    return f"({', '.join(parts)})"


def _quotable(error: APIStatusError, request: Request) -> str:
    """Return the API's own explanation in one line, or nothing where it repeats a stretch of what was sent.

    A proxy may echo what it was sent, the key included.
    """
    words = " ".join(str(error.api_message or "").split())[:_QUOTED_CHARACTERS]
    secrets = [error.request.headers.get(name, "") for name in SECRET_HEADERS]
    sent = "\n".join([*secrets, *_texts_in(request)])
    stretches = (words[start : start + _GIVEAWAY_CHARACTERS] for start in range(len(words) - _GIVEAWAY_CHARACTERS + 1))
    return "" if any(stretch in sent for stretch in stretches) else words


def _texts_in(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts_in(item)]
    return [" ".join(value.split())] if isinstance(value, str) else []
