"""The requests that the local server of `claude_server` received, and the answers it gives."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Received:
    """A request as received."""

    path: str
    headers: Mapping[str, str]  # names in lower case
    raw: bytes
    method: str = "POST"

    @property
    def body(self) -> Any:
        """The body, decoded."""
        return json.loads(self.raw)

    @property
    def texts(self) -> list[str]:
        """The texts of the system prompt and the turns, in order."""
        body = self.body
        return [text for part in [body.get("system", []), *body["messages"]] for text in texts_in(part)]

    @property
    def prompt(self) -> str:
        """The texts as one string."""
        return "\n".join(self.texts)


@dataclass(frozen=True)
class Reply:
    """What to answer: the default message with some fields changed, or another body.

    Attributes:
        status: the HTTP status.
        body: sent instead of the default message; bytes are sent as they are.
        headers: sent in addition to `request-id` and the content type.
        changes: fields that replace those of the default message; None removes a field.
        delivery: `cut` closes the connection in the middle of the body, `hung` never answers.
    """

    status: int = 200
    body: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    delivery: Literal["sent", "cut", "hung"] = "sent"


def error(
    status: int,
    error_type: str,
    message: str,
    *,
    error_code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return an error in the API's format; `error_code` gives the cause of some errors."""
    details = {"details": {"error_code": error_code}} if error_code else {}
    body = {"type": "error", "error": {"type": error_type, "message": message, **details}}
    return Reply(status, body, headers or {})


def bad_request(message: str = "max_tokens: too large for this model") -> Reply:
    return error(400, "invalid_request_error", message)


def authentication_error(message: str = "invalid credentials") -> Reply:
    return error(401, "authentication_error", message)


def billing_error() -> Reply:
    return error(402, "billing_error", "the organization has an unpaid invoice")


def permission_error() -> Reply:
    return error(403, "permission_error", "this key may not use the model")


def unknown_model(model: str) -> Reply:
    return error(404, "not_found_error", f"model: {model}")


def rate_limited(retry_after: str = "0.01") -> Reply:
    return error(429, "rate_limit_error", "too many tokens a minute", headers={"retry-after": retry_after})


def spend_limit() -> Reply:
    """The monthly limit: a rate limit by status and type, with a code of its own and no `retry-after`."""
    return error(429, "rate_limit_error", "this month's usage is spent", error_code="enforced_spend_limit_reached")


def server_error() -> Reply:
    return error(500, "api_error", "something broke", headers={"retry-after": "0.01"})


def overloaded() -> Reply:
    return error(529, "overloaded_error", "overloaded", headers={"retry-after": "0.01"})


def cut_short() -> Reply:
    """Close the connection in the middle of the answer."""
    return Reply(delivery="cut")


def hanging() -> Reply:
    """Do not answer until the server closes."""
    return Reply(delivery="hung")


def malformed() -> Reply:
    """A success whose body claims to be JSON, but is not."""
    return Reply(body=b'{"id": "msg_1", "type": "mess')


def web_page() -> Reply:
    """A success from something else, such as the log-in page of a proxy."""
    return Reply(body=b"<html>Log in</html>", headers={"content-type": "text/html"})


def refusal() -> Reply:
    details = {"type": "refusal", "category": "general_harms", "explanation": None}
    return Reply(changes={"stop_reason": "refusal", "stop_details": details, "content": []})


def truncated() -> Reply:
    return Reply(changes={"stop_reason": "max_tokens"})


def empty() -> Reply:
    return Reply(changes={"content": []})


def text_reply(text: str, *, after_thinking: str = "") -> Reply:
    """The default message with this text, after a thinking block if one is given."""
    thinking = [{"type": "thinking", "thinking": after_thinking, "signature": "c2ln"}] if after_thinking else []
    return Reply(changes={"content": [*thinking, {"type": "text", "text": text, "citations": None}]})


def texts_in(part: object) -> list[str]:
    """Return the texts of a system prompt, of a turn, or of a block."""
    if isinstance(part, str):
        return [part]
    if isinstance(part, list):
        return [text for block in part for text in texts_in(block)]
    if isinstance(part, dict):
        return texts_in(part["content"]) if "content" in part else [part.get("text", "")]
    return []
