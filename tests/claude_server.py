"""A local server that implements the Messages API, with Message Batches, for the real SDK, for tests.

    with ClaudeServer() as server:
        server.enqueue(overloaded(), refusal())     # replies to the next two requests; then default ones again
        server.reply_to("some words", truncated())  # the reply to every request that contains them
        ...                                         # in the environment `server.environ`
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, get_args

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.model_param import ModelParam
from pydantic import TypeAdapter, ValidationError

from retrainer_claude import ClaudeOptions
from retrainer_claude.pricing import reported_usage
from tests.claude_batches import BATCHES, Batches
from tests.claude_replies import (
    Received,
    Reply,
    authentication_error,
    bad_request,
    billing_error,
    cut_short,
    empty,
    error,
    hanging,
    malformed,
    overloaded,
    permission_error,
    rate_limited,
    refusal,
    server_error,
    spend_limit,
    text_reply,
    texts_in,
    truncated,
    unknown_model,
    web_page,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "KEY",
    "ClaudeServer",
    "Received",
    "Reply",
    "authentication_error",
    "bad_request",
    "billing_error",
    "cut_short",
    "empty",
    "error",
    "hanging",
    "malformed",
    "overloaded",
    "permission_error",
    "rate_limited",
    "refusal",
    "server_error",
    "spend_limit",
    "text_reply",
    "truncated",
    "unknown_model",
    "web_page",
]

KEY = "sk-ant-test-abcdefghijklmnopqrstuvwxyz-0123456789"
CHARACTERS_PER_TOKEN = 4
MINIMUM_CACHED_TOKENS = 512
FIXED_TEXT = "Nothing was shown to me, so this is what I say."

_MODELS = frozenset(get_args(get_args(ModelParam)[0]))
_REQUESTS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
_TIMEOUT_SECONDS = 60.0


class ClaudeServer:
    """The server; it runs inside the `with` block.

    Attributes:
        requests: the requests for messages in the order of arrival, including retries.
        batches: the Message Batches.
        usages: the usage of each message that was generated.
        max_concurrent: the largest number of requests that were open at the same time.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.batches = Batches(self._create_message, lambda: self.url)
        self.usages: list[dict[str, Any]] = []
        self.max_concurrent = 0
        self._open_now = 0
        self._item_number = 0
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

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables by which the SDK calls it."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": KEY}

    @property
    def cost_usd(self) -> float:
        """What all its answers cost, in US dollars."""
        options = ClaudeOptions()
        return float(sum(reported_usage(SimpleNamespace(**usage), options)["cost_usd"] for usage in self.usages))

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
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, _TIMEOUT_SECONDS)

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
        if request.path.startswith(BATCHES):
            return head_rejection(request) or self.batches.answer(request)
        with self._lock:
            self.requests.append(request)
            self._arrived.notify_all()
            number = len(self.requests)
            self._open_now += 1
            self.max_concurrent = max(self.max_concurrent, self._open_now)
            reply = self._reply(request, number)  # before another request arrives, which would take it
        try:
            if self._barrier is not None and number > 1:
                self._barrier.wait(_TIMEOUT_SECONDS)
            return reply
        finally:
            with self._lock:
                self._open_now -= 1

    def wait_until_closed(self) -> None:
        """Return when the `with` block ends."""
        self._closing.wait()

    def record_error(self, error: BaseException) -> None:
        """Record an error of this server, to raise it at the end of the `with` block."""
        self._server_errors.append(error)

    def _create_message(self, params: Any) -> tuple[int, Any]:
        """Return the status and the body of the answer to a request of a batch."""
        with self._lock:
            self._item_number += 1
            raw = json.dumps(params, separators=(",", ":"), ensure_ascii=False).encode()  # as the SDK writes it
            request = Received("/v1/messages", {}, raw)
            reply = self._reply(request, 10_000 + self._item_number, is_item=True)
        return reply.status, reply.body

    def _reply(self, request: Received, number: int, *, is_item: bool = False) -> Reply:
        rejection = _body_rejection(request) if is_item else _rejection(request)
        chosen = rejection or next((reply for text, reply in self._rules if text in request.prompt), None)
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
    request_queue_size = 128  # a connection that finds the queue full waits a second, and longer each time

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
    disable_nagle_algorithm = True  # else the body waits for the client, which acknowledges the head 40 ms later
    server: _HTTPServer

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        length = int(self.headers.get("content-length", 0))
        raw = self.rfile.read(length)
        if len(raw) < length:
            return  # the client closed the connection
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.claude.answer(Received(self.path, headers, raw, self.command))
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
    if request.path.split("?")[0] != "/v1/messages":
        return error(404, "not_found_error", "no such path")
    return head_rejection(request) or _body_rejection(request)


def head_rejection(request: Received) -> Reply | None:
    """Return the error for a request without a key or a version, or None."""
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
    turns = [text for turn in request.body["messages"] if turn["role"] == "assistant" for text in texts_in(turn)]
    digest = hashlib.sha256(request.raw).digest()
    return turns[int.from_bytes(digest[:8], "big") % len(turns)] if turns else FIXED_TEXT


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
