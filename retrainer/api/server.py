"""Listens, and serves until told to stop; what was begun is finished first."""

from __future__ import annotations

import logging
import signal
import socket
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrainer.api.errors import failure
from retrainer.errors import RetrainerError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from retrainer.api.threads import Work

log = logging.getLogger(__name__)

GRACE_SECONDS = 60  # so long a request may take to end after the server was told to stop
THREAD_SECONDS = 2  # then, so long a thread may take to see that there is no more work


class _Protocol(H11Protocol):
    """Also answers what is not HTTP in the one shape of errors."""

    def send_400_response(self, msg: str) -> None:
        """Answer, and close the connection."""
        answer = failure(400, "bad_request", msg.rstrip("."), headers={"Connection": "close"})
        head = h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def create_server(app: FastAPI) -> uvicorn.Server:
    """Return a server of the application, not running yet."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the application has its own
        lifespan="off",
        http=_Protocol,  # the same limits, whatever else is installed: a head of 64 KB at most
        loop="asyncio",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def serve(app: FastAPI, work: Work, host: str, port: int) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    Raises:
        RetrainerError: the address cannot be listened on.
    """
    listening = _listen(host, port)
    server = create_server(app)
    signal.signal(signal.SIGHUP, server.handle_exit)
    address, bound, *_ = listening.getsockname()
    log.info("Listening on http://%s:%d", f"[{address}]" if ":" in address else address, bound)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # raised again by uvicorn when it has stopped as asked
        log.debug("Stopped by a signal")
    finally:
        work.close()
    log.info("Stopped")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = _address_of(host, port)
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        raise RetrainerError(
            f"cannot listen on '{host}' port {port}: {error.strerror or error}", hint="Choose another --host or --port"
        ) from error


def _address_of(host: str, port: int) -> tuple[Any, ...]:
    """Resolve a name; IPv4 first, since `localhost` may be both."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return min(found, key=lambda one: one[0] != socket.AF_INET)
