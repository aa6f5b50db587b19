"""A real S3 server on this machine, and a proxy before it that fails in the ways that stores do."""

from __future__ import annotations

import http.client
import http.server
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from tests.clusters import wait_for_port
from tests.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

Fault = Literal["none", "error 500", "silence", "changed bytes", "half an answer", "lost answer"]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server; yield its endpoint."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}, **quiet) as process:  # type: ignore[call-overload]
        try:
            wait_for_port(f"127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


class FaultyProxy(http.server.ThreadingHTTPServer):
    """Passes requests on to a server, and its answers back, with a fault.

    Attributes:
        fault: the fault from now on; a "lost answer" is that to one upload.
        applies_to: the part of a path that the fault is limited to.
        requests: the methods of the requests so far.
        was_put: whether a fault has met the upload of an object.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = endpoint.removeprefix("http://")
        self.fault: Fault = "none"
        self.applies_to = ""
        self.requests: list[str] = []
        self.was_put = threading.Event()
        self.is_over = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Be quiet when a client no longer waits."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @classmethod
    @contextmanager
    def run(cls, endpoint: str) -> Iterator[FaultyProxy]:
        with cls(endpoint) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            try:
                yield proxy
            finally:
                proxy.is_over.set()
                proxy.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body waits for the client, which acknowledges the head late

    def _pass_on(self) -> None:
        proxy = self.server
        proxy.requests.append(self.command)
        body = self._body()
        if self.command == "PUT" and proxy.fault != "none" and proxy.applies_to in self.path:
            proxy.was_put.set()
        fault = proxy.fault if proxy.applies_to in self.path else "none"
        if fault == "silence":
            proxy.is_over.wait(60)
            self.close_connection = True
            return
        if fault == "error 500":
            self._answer(500, {"Content-Type": "application/xml"}, b"<Error><Code>InternalError</Code></Error>")
            return
        connection = http.client.HTTPConnection(proxy.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data, headers = response.read(), dict(response.getheaders())
        connection.close()
        if self.command == "PUT" and fault == "lost answer":
            proxy.fault = "none"
            self._answer(503, {}, b"")
            return
        if self.command == "GET" and fault == "changed bytes" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        self._answer(response.status, headers, data, cut=fault == "half an answer")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
        length = headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Be quiet."""
