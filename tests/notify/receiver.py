"""A local HTTP server that records what it receives, and answers as configured."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.http_server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Received:
    """A request as it came in; names of headers in lower case."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Receiver(HttpServer):
    """The server.

    Attributes:
        answers: how the next requests are answered, then with 200: a status, `hang`, or `drip` (a byte now and then).
        redirect_to: where an answer of 3xx leads.
        received: all requests.
    """

    answers: list[int | str] = field(default_factory=list)
    redirect_to: str = ""
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.over = threading.Event()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, raw))
                answer = receiver.answers.pop(0) if receiver.answers else 200
                if answer == "hang":
                    receiver.over.wait()
                elif answer == "drip":
                    self._drip()
                else:
                    self.send_response(int(answer))
                    if receiver.redirect_to:
                        self.send_header("Location", receiver.redirect_to)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def _drip(self) -> None:
                try:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not receiver.over.wait(0.1):
                        self.wfile.write(b"x")
                except OSError:
                    pass

        return Handler

    def __exit__(self, *_: object) -> None:
        self.over.set()
        super().__exit__()

    def events(self) -> list[str]:
        return [one.json["event"] for one in self.received]
