"""A local server that implements the Messages API for the real SDK, for tests.

    with ClaudeServer() as server:
        server.enqueue(overloaded(), refusal())     # replies to the next two requests; then default ones again
        server.reply_to("some words", truncated())  # the reply to every request that contains them
        ...                                         # ANTHROPIC_BASE_URL = server.url
        server.requests[0].prompt

Requests are validated like the API does: against the SDK's own types, and for what current models reject. A default
reply repeats one of the assistant turns of the request, or a fixed text; which one depends only on the body. Usage
follows the rules of the prompt cache at four characters per token.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.model_param import ModelParam
from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from types import TracebackType

KEY = "sk-ant-test-abcdefghijklmnopqrstuvwxyz-0123456789"
CHARACTERS_PER_TOKEN = 4
MINIMUM_CACHED_TOKENS = 512
FIXED_TEXT = "Nothing was shown to me, so this is what I say."

_MODELS = frozenset(get_args(get_args(ModelParam)[0]))
_REQUESTS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Received:
    """A request as received."""

    path: str
    headers: Mapping[str, str]  # names in lower case
    raw: bytes

    @property
    def body(self) -> Any:
        """The body, decoded."""
        return json.loads(self.raw)

    @property
    def texts(self) -> list[str]:
        """The texts of the system prompt and the turns, in order."""
        body = self.body
        return [text for part in [body.get("system", []), *body["messages"]] for text in _texts(part)]

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


class ClaudeServer:
    """The server; it runs inside the `with` block.

    Attributes:
        requests: the requests in the order of arrival, including retries.
        usages: the usage of each message that was generated.
        max_concurrent: the largest number of requests that were open at the same time.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.usages: list[dict[str, Any]] = []
        self.max_concurrent = 0
        self._open_now = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._queue: deque[Reply] = deque()
        self._rules: list[tuple[str, Reply]] = []
        self._barrier: threading.Barrier | None = None
        self._cached: set[str] = set()
        self._closing = threading.Event()
        self._server_errors: list[BaseException] = []
        self._http = _HTTPServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        """The base URL for the SDK."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def enqueue(self, *replies: Reply) -> None:
        """Answer the next requests with these, in the order of arrival."""
        self._queue.extend(replies)

    def reply_to(self, text: str, reply: Reply) -> None:
        """Answer every request that contains the text with this. All requests contain the empty text."""
        self._rules.append((text, reply))

    def require_concurrent(self, count: int) -> None:
        """Delay every answer but the first until `count` requests are open."""
        self._barrier = threading.Barrier(count)

    def wait_for_requests(self, count: int) -> None:
        """Return when this many requests have arrived."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, _TIMEOUT_SECONDS * 6)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        if self._server_errors and exc is None:
            raise self._server_errors[0]

    def answer(self, request: Received) -> Reply:
        """Record a request and return the reply. Called in a thread per request."""
        with self._lock:
            self.requests.append(request)
            self._arrived.notify_all()
            number = len(self.requests)
            self._open_now += 1
            self.max_concurrent = max(self.max_concurrent, self._open_now)
        try:
            if self._barrier is not None and number > 1:
                self._barrier.wait(_TIMEOUT_SECONDS)
            with self._lock:
                return self._reply(request, number)
        finally:
            with self._lock:
                self._open_now -= 1

    def wait_until_closed(self) -> None:
        """Return when the `with` block ends."""
        self._closing.wait()

    def record_error(self, error: BaseException) -> None:
        """Record an error of this server, to raise it at the end of the `with` block."""
        self._server_errors.append(error)

    def _reply(self, request: Received, number: int) -> Reply:
        chosen = _rejection(request) or next((reply for text, reply in self._rules if text in request.prompt), None)
        if chosen is None:
            chosen = self._queue.popleft() if self._queue else Reply()
        body = chosen.body
        if body is None:
            changed = self._message(request, number) | dict(chosen.changes)
            body = {name: value for name, value in changed.items() if value is not None or name not in chosen.changes}
        request_id = f"req_test{number:04d}"
        if chosen.status != 200 and not isinstance(body, bytes):
            body = {**body, "request_id": request_id}
        return Reply(chosen.status, body, {"request-id": request_id, **chosen.headers}, {}, chosen.delivery)

    def _message(self, request: Received, number: int) -> dict[str, Any]:
        text = _answer_text(request)
        self.usages.append(self._usage(request, text))
        return {
            "id": f"msg_test{number:04d}",
            "type": "message",
            "role": "assistant",
            "model": request.body["model"],
            "content": [{"type": "text", "text": text, "citations": None}],
            "container": None,
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "stop_details": None,
            "usage": self.usages[-1],
        }

    def _usage(self, request: Received, text: str) -> dict[str, Any]:
        """Count tokens. A prefix that ends at a cache mark is written to the cache once, then read from it."""
        total = sum(map(len, request.texts)) // CHARACTERS_PER_TOKEN
        marked = {key: tokens for key, tokens in _marked_prefixes(request.body) if tokens >= MINIMUM_CACHED_TOKENS}
        read = max((tokens for key, tokens in marked.items() if key in self._cached), default=0)
        written = max(marked.values(), default=0) - read
        self._cached.update(marked)
        return {
            "input_tokens": total - read - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
            "output_tokens": len(text) // CHARACTERS_PER_TOKEN + 1,
            "server_tool_use": None,
            "service_tier": "standard",
        }


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for the threads, so no socket outlives a test

    def __init__(self, claude: ClaudeServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.claude = claude

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is None or isinstance(error, ConnectionError):
            return  # a client may close the connection at any time
        self.claude.record_error(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        raw = self.rfile.read(length)
        if len(raw) < length:
            return  # the client closed the connection
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.claude.answer(Received(self.path, headers, raw))
        if reply.delivery == "hung":
            self.server.claude.wait_until_closed()
            self.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if reply.delivery == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the base class's
        """Print nothing."""


def _rejection(request: Received) -> Reply | None:
    """Return the error with which the API rejects a request, or None."""
    return _head_rejection(request) or _body_rejection(request)


def _head_rejection(request: Received) -> Reply | None:
    if request.path.split("?")[0] != "/v1/messages":
        return error(404, "not_found_error", "no such path")
    if not (request.headers.get("x-api-key") or request.headers.get("authorization", "").startswith("Bearer ")):
        return authentication_error("no key was sent")
    if "anthropic-version" not in request.headers:
        return bad_request("anthropic-version: header is required")
    return None


def _body_rejection(request: Received) -> Reply | None:
    try:
        # As arguments, unlike in a configuration, both also apply to nested types.
        _consume(_REQUESTS.validate_python(request.body, strict=True, extra="forbid"))
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        return bad_request(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    body = request.body
    if body["model"] not in _MODELS:
        return unknown_model(body["model"])
    if not body["messages"] or body["messages"][-1]["role"] != "user":
        return bad_request("messages: the last turn must be the user's")
    if not all(text.strip() for text in request.texts):
        return bad_request("messages: a text block is empty")
    return None


def _consume(value: object) -> None:
    """Iterate over everything that pydantic validates lazily."""
    if isinstance(value, Mapping):
        for item in value.values():
            _consume(item)
    elif isinstance(value, Iterator | list | tuple):
        for item in value:
            _consume(item)


def _answer_text(request: Received) -> str:
    """Return one of the assistant turns, or the fixed text; which one depends only on the body."""
    turns = [text for turn in request.body["messages"] if turn["role"] == "assistant" for text in _texts(turn)]
    digest = hashlib.sha256(request.raw).digest()
    return turns[int.from_bytes(digest[:8], "big") % len(turns)] if turns else FIXED_TEXT


def _texts(part: object) -> list[str]:
    """Return the texts of a system prompt, of a turn, or of a block."""
    if isinstance(part, str):
        return [part]
    if isinstance(part, list):
        return [text for block in part for text in _texts(block)]
    if isinstance(part, dict):
        return _texts(part["content"]) if "content" in part else [part.get("text", "")]
    return []


def _marked_prefixes(body: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield a key and the number of tokens of each prefix of the prompt that ends at a `cache_control`."""
    digest = hashlib.sha256(body["model"].encode())
    characters = 0
    system = body.get("system", [])
    turns = [("system", system), *((turn["role"], turn["content"]) for turn in body["messages"])]
    for role, content in turns:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            text = block.get("text", "")
            characters += len(text)
            digest.update(json.dumps([role, text]).encode())
            if block.get("cache_control"):
                yield digest.hexdigest(), characters // CHARACTERS_PER_TOKEN
