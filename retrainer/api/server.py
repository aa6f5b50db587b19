"""The uvicorn server: it listens until a signal stops it, and finishes the requests in progress first."""

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


log = logging.getLogger(__name__)

GRACE_SECONDS = 60  # for requests in progress when the server is stopped


class _Protocol(H11Protocol):
    """Answers malformed HTTP with the error document, too."""

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
        access_log=False,  # `MetricsMiddleware` logs the requests
        lifespan="off",
        http=_Protocol,  # not httptools, if that is installed: a header of 64 KB at most
        loop="asyncio",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    Raises:
        RetrainerError: it cannot listen on the address.
    """
    listening = _listen(host, port)
    server = create_server(app)
    signal.signal(signal.SIGHUP, server.handle_exit)
    address, bound, *_ = listening.getsockname()
    log.info("Listening on http://%s:%d", f"[{address}]" if ":" in address else address, bound)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises it again after it has stopped
        log.debug("Stopped by a signal")
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
    """Resolve a name, to IPv4 if possible, since `localhost` may be both."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return min(addresses, key=lambda address: address[0] != socket.AF_INET)
