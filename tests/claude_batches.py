"""The Message Batches of the local server of `claude_server`.

    server.batches.hold()                           # until `release`, all batches stay in progress
    server.batches.fail("create", server_error())   # the next request for a batch is refused
    server.batches.lose("create", cut_short())      # the next one is done, and this is the reply
    server.batches.end(0, "expired")                # what becomes of the first request of each batch
    ...
    server.batches.received["retrieve"]             # the requests so far

A batch is in progress until it is asked for. Its messages are those that the server replies to the same requests, and
its results come in reverse order.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from anthropic.types.messages.batch_create_params import BatchCreateParams
from pydantic import TypeAdapter, ValidationError

from tests.claude_replies import Received, Reply, bad_request, error

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = "/v1/messages/batches"

Operation = Literal["create", "retrieve", "list", "results"]
Ending = Literal["succeeded", "errored", "canceled", "expired"]

_CUSTOM_ID_CHARACTERS = 64
_START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
_REQUESTS: TypeAdapter[Any] = TypeAdapter(BatchCreateParams)
_TIMEOUT_SECONDS = 60.0


@dataclass
class Batch:
    """A batch, with the results of its requests."""

    batch_id: str
    number: int
    results: list[dict[str, Any]]
    has_ended: bool = False

    def document(self, url: str) -> dict[str, Any]:
        """The batch as the API shows it."""
        created = _START + timedelta(minutes=self.number)
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        for line in self.results:
            counts[line["result"]["type"] if self.has_ended else "processing"] += 1
        return {
            "id": self.batch_id,
            "type": "message_batch",
            "archived_at": None,
            "cancel_initiated_at": None,
            "created_at": created.isoformat(),
            "ended_at": (created + timedelta(minutes=1)).isoformat() if self.has_ended else None,
            "expires_at": (created + timedelta(days=1)).isoformat(),
            "processing_status": "ended" if self.has_ended else "in_progress",
            "request_counts": counts,
            "results_url": f"{url}{BATCHES}/{self.batch_id}/results" if self.has_ended else None,
        }


@dataclass
class Batches:
    """The batches of a server.

    Attributes:
        create_message: returns the status and the body of the answer to a request.
        url: returns that of the server.
        created: the batches in the order of their creation.
        received: the requests by operation.
    """

    create_message: Callable[[Any], tuple[int, Any]]
    url: Callable[[], str]
    created: list[Batch] = field(default_factory=list)
    received: dict[str, list[Received]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._held = False
        self._replies: dict[str, deque[tuple[Reply, bool]]] = defaultdict(deque)
        self._endings: dict[int, Ending] = {}
        self._hooks: dict[str, Callable[[], object]] = {}

    def hold(self) -> None:
        """Keep all batches in progress."""
        self._held = True

    def release(self) -> None:
        """Let them end."""
        self._held = False

    def fail(self, operation: Operation, *replies: Reply) -> None:
        """Answer the next requests of a kind with these, and do nothing."""
        self._replies[operation].extend((reply, False) for reply in replies)

    def stop_failing(self) -> None:
        """Forget the replies of `fail` and `lose` that were not given."""
        self._replies.clear()

    def lose(self, operation: Operation, *replies: Reply) -> None:
        """Do what the next requests of a kind ask for, but answer with these; those without a body deliver theirs."""
        self._replies[operation].extend((reply, True) for reply in replies)

    def before_reply(self, operation: Operation, hook: Callable[[], object]) -> None:
        """Call this once, before the next request of a kind is done."""
        self._hooks[operation] = hook

    def end(self, number: int, ending: Ending) -> None:
        """Choose what becomes of a request of each batch, by its number from 0."""
        self._endings[number] = ending

    def add_foreign(self, count: int) -> None:
        """Create a batch of somebody else with so many requests."""
        lines = [{"custom_id": f"other-{number}", "result": {"type": "canceled"}} for number in range(count)]
        self._add(lines).has_ended = True

    def wait_for(self, operation: Operation, count: int) -> None:
        """Return when so many requests of a kind have arrived."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received[operation]) >= count, _TIMEOUT_SECONDS)

    def answer(self, request: Received) -> Reply:
        """Return the reply to a request."""
        with self._lock:
            path = urlsplit(request.path).path.removeprefix(BATCHES).strip("/")
            operation: Operation = (
                "create" if request.method == "POST" else "results" if path.endswith("results") else "retrieve"
            )
            if not path and request.method == "GET":
                operation = "list"
            self.received[operation].append(request)
            self._arrived.notify_all()
            self._hooks.pop(operation, lambda: None)()
            reply, is_done = self._replies[operation].popleft() if self._replies[operation] else (Reply(), True)
            body = getattr(self, f"_{operation}")(request, path.removesuffix("/results")) if is_done else reply.body
            if isinstance(body, Reply):
                return body
            if reply.body is not None:
                body = reply.body
            content_type = "application/x-jsonl" if operation == "results" else "application/json"
            headers = {"request-id": "req_batches", "content-type": content_type, **reply.headers}
            return Reply(reply.status, body, headers, {}, reply.delivery)

    def _create(self, request: Received, _path: str) -> dict[str, Any] | Reply:
        body = request.body
        try:
            _REQUESTS.validate_python({"requests": [{**one, "params": {}} for one in body["requests"]]}, extra="forbid")
        except (ValidationError, KeyError, TypeError):
            return bad_request("requests: invalid")
        names = [one["custom_id"] for one in body["requests"]]
        if not names or len(names) != len(set(names)) or max(map(len, names)) > _CUSTOM_ID_CHARACTERS:
            return bad_request("custom_id: missing, too long or not unique")
        lines = []
        for number, one in enumerate(body["requests"]):
            lines.append({"custom_id": one["custom_id"], "result": self._result(number, one["params"])})
        return self._add(lines).document(self.url())

    def _result(self, number: int, params: Any) -> dict[str, Any]:
        ending = self._endings.get(number, "succeeded")
        if ending in {"canceled", "expired"}:
            return {"type": ending}
        if ending == "errored":
            internal = {"type": "api_error", "message": "internal"}
            return {"type": "errored", "error": {"type": "error", "error": internal, "request_id": None}}
        status, message = self.create_message(params)
        if status != 200:
            return {"type": "errored", "error": message}
        return {"type": "succeeded", "message": {**message, "usage": {**message["usage"], "service_tier": "batch"}}}

    def _add(self, lines: list[dict[str, Any]]) -> Batch:
        batch = Batch(f"msgbatch_test{len(self.created):04d}", len(self.created), lines)
        self.created.append(batch)
        return batch

    def _find(self, batch_id: str) -> Batch | None:
        return next((batch for batch in self.created if batch.batch_id == batch_id), None)

    def _retrieve(self, _request: Received, path: str) -> dict[str, Any] | Reply:
        batch = self._find(path)
        if batch is None:
            return error(404, "not_found_error", "no such batch")
        batch.has_ended = not self._held
        return batch.document(self.url())

    def _list(self, request: Received, _path: str) -> dict[str, Any]:
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.path).query).items()}
        newest_first = self.created[::-1]
        if after := self._find(query.get("after_id", "")):
            newest_first = [batch for batch in newest_first if batch.number < after.number]
        limit = int(query.get("limit", 20))
        page = [batch.document(self.url()) for batch in newest_first[:limit]]
        return {
            "data": page,
            "has_more": len(newest_first) > limit,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }

    def _results(self, _request: Received, path: str) -> bytes | Reply:
        batch = self._find(path)
        if batch is None or not batch.has_ended:
            return error(404, "not_found_error", "no such results")
        return b"".join(json.dumps(line).encode() + b"\n" for line in reversed(batch.results))
