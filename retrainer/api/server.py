"""The uvicorn server: it listens until a signal stops it, and finishes the requests in progress first."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrainer.api.errors import failure
from retrainer.api.middleware import SECURITY_HEADERS
from retrainer.errors import RetrainerError
from retrainer.logs import RateLimit

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

GRACE_SECONDS = 60  # for requests in progress when the server is stopped
MAX_CONNECTIONS = 500
BACKLOG = 100  # how many connections are accepted at once, which may exceed the maximum for a moment
HEAD_SECONDS = 10  # from the connection or the last answer until the next request's head is complete
MAX_HEAD_BYTES = 16 * 1024
SWITCH_SECONDS = 0.0005  # how long a thread may compute before another one, such as that of the event loop, may go on
READ_SECONDS = 60  # for the caller to read an answer
_SECURITY_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class _Protocol(H11Protocol):
    """Limits the connections of idle and slow callers, and answers malformed HTTP with the error document, too."""

    connections: set[_Protocol]  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection; if there are too many, close the one that has waited for its caller the longest."""
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        # Enough files are left for the database, logs and runs.
        if len(self.connections) > min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
            waiting = [connection for connection in self.connections if connection.waits_for_caller]
            oldest = min(waiting, key=lambda connection: connection.waiting_since)  # this one, if all others are busy
            self.connections.discard(oldest)
            oldest.transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait until the caller has read enough of the answer."""
        self.waiting_since = self.loop.time()
        super().pause_writing()

    @property
    def waits_for_caller(self) -> bool:
        """Whether the caller has to send a request or the rest of one, or to read an answer."""
        return self._is_idle or self.cycle.more_body or self.flow.write_paused

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def close_if_expired(self) -> None:
        """Close the connection if the caller takes too long to send the head of a request, or to read an answer."""
        limit = READ_SECONDS if self.transport.get_write_buffer_size() else HEAD_SECONDS
        if (self._is_idle or self.flow.write_paused) and self.loop.time() - self.waiting_since > limit:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer unless an answer has begun, and close the connection."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            answer = failure(400, "bad_request", msg.rstrip("."), headers={"Connection": "close"})
            headers = [*self.server_state.default_headers, *_SECURITY_HEADERS, *answer.raw_headers]
            head = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # if in progress: its own answer could no longer be sent
            self.cycle.disconnected = True
        self.transport.close()


class _Server(uvicorn.Server):
    """Closes expired connections once a second, and logs in one line that it cannot accept any."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        asyncio.get_running_loop().set_exception_handler(_log_loop_error)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in progress; those that follow a run end by themselves."""
        self.config.app.state.is_stopping = True  # type: ignore[union-attr]  # the FastAPI of `create_server`
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Do what is due; uvicorn calls this ten times a second."""
        if counter % 10 == 0:
            for connection in list(cast("set[_Protocol]", self.server_state.connections)):
                connection.close_if_expired()
        return await super().on_tick(counter)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        log.error("Cannot accept connections: %s", error.strerror)  # asyncio tries again every second
    else:
        loop.default_exception_handler(context)


def create_server(app: FastAPI) -> uvicorn.Server:
    """Return a server of the application, not running yet."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # `MetricsMiddleware` logs the requests
        lifespan="off",
        http=_Protocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        loop="asyncio",
        ws="none",
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return _Server(config)


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    Raises:
        RetrainerError: it cannot listen on the address.
    """
    listening = listen(host, port)
    server = create_server(app)
    signal.signal(signal.SIGHUP, server.handle_exit)
    sys.setswitchinterval(SWITCH_SECONDS)
    limit = RateLimit()
    for handler in logging.getLogger().handlers:
        handler.addFilter(limit)
    address, bound, *_ = listening.getsockname()
    log.info("Listening on http://%s:%d", f"[{address}]" if ":" in address else address, bound)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises it again after it has stopped
        log.debug("Stopped by a signal")
    log.info("Stopped")


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        RetrainerError: it cannot listen on the address.
    """
    try:
        family, _, _, _, address = _address_of(host, port)
        listening = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise RetrainerError(
            f"cannot listen on '{host}' port {port}: {error.strerror or error}", hint="Choose another --host or --port"
        ) from error
    # Connections inherit it. An answer is two packets, and the second must not wait for the client.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _address_of(host: str, port: int) -> tuple[Any, ...]:
    """Resolve a name, to IPv4 if possible, since `localhost` may be both."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return min(addresses, key=lambda address: address[0] != socket.AF_INET)
