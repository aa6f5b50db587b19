"""The HTTP client of the sources: retries, waits, limits, and where it does not go."""

from __future__ import annotations

import gzip
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from retrainer.errors import ConfigError, SourceError
from retrainer.posts.sources.http import HttpClient
from tests.http_server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retrainer.posts.sources.http import Response


@dataclass
class Server(HttpServer):
    """A server that sends prepared answers: status, headers, body."""

    answers: list[tuple[int, Mapping[str, str], bytes]] = field(default_factory=list)
    requests: list[Mapping[str, str]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                status, headers, body = server.answers.pop(0)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


OK: tuple[int, Mapping[str, str], bytes] = (200, {}, b"done")


def get(server: Server, waits: list[float] | None = None, **limits: float) -> Response:
    waits = [] if waits is None else waits
    with HttpClient(sleep=waits.append, **limits) as http:
        return http.get(f"{server.url}/posts")


def error_of(server: Server, waits: list[float] | None = None, **limits: float) -> str:
    with pytest.raises(SourceError) as caught:
        get(server, waits, **limits)
    return caught.value.message


def asks_to_wait(header: str, seconds: int) -> str:
    """Return the value of a header as the servers that send it write it."""
    then = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "Retry-After": str(seconds),
        "Retry-After (a date)": format_datetime(then, usegmt=True),
        "X-RateLimit-Reset": f"{then:%Y-%m-%dT%H:%M:%S.%fZ}",
        "X-RateLimit-Reset (seconds)": str(seconds),
        "RateLimit-Reset": str(int(then.timestamp())),
    }[header]


@pytest.mark.parametrize(
    "header",
    [
        "Retry-After",
        "Retry-After (a date)",
        "X-RateLimit-Reset",
        "X-RateLimit-Reset (seconds)",
        "RateLimit-Reset",
    ],
)
def test_it_waits_as_long_as_the_server_asks(server: Server, header: str) -> None:
    server.answers = [(429, {header.partition(" ")[0]: asks_to_wait(header, 200)}, b""), OK]
    waits: list[float] = []
    assert get(server, waits).content == b"done"
    assert waits == [pytest.approx(200, abs=100)]


def test_it_does_not_wait_beyond_its_time(server: Server) -> None:
    server.answers = [(429, {"Retry-After": "900"}, b"")]
    waits: list[float] = []
    assert error_of(server, waits, max_minutes=10) == "127.0.0.1 returned HTTP 429 and asks to wait 900 s"
    assert (waits, len(server.requests)) == ([], 1)


def test_the_waits_between_attempts_grow(server: Server) -> None:
    server.answers = [(503, {}, b"")] * 5
    waits: list[float] = []
    assert error_of(server, waits) == "127.0.0.1 returned HTTP 503"
    assert len(waits) == 4
    assert all(wait <= 0.5 * 2**number for number, wait in enumerate(waits))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_other_errors_are_not_tried_again(server: Server, status: int) -> None:
    server.answers = [(status, {}, b"")]
    assert error_of(server) == f"127.0.0.1 returned HTTP {status}"
    assert len(server.requests) == 1


def test_an_answer_larger_than_the_limit_is_refused(server: Server) -> None:
    server.answers = [(200, {}, b"x" * 1_100_000)]
    assert error_of(server, max_megabytes=1) == "127.0.0.1 returned more than 1 MB (max_megabytes)"


def test_a_gzip_bomb_is_refused_without_being_unpacked(server: Server) -> None:
    once = gzip.compress(b"\0" * 30_000_000, 1)
    server.answers = [(200, {"Content-Encoding": "gzip"}, once)]
    assert "more than 1 MB" in error_of(server, max_megabytes=1)
    server.answers = [(200, {"Content-Encoding": "gzip, gzip"}, gzip.compress(once))]
    assert error_of(server, max_megabytes=1) == "127.0.0.1 used the unsupported encoding 'gzip, gzip'"


def test_gzip_data_that_ends_early_is_not_taken_for_the_whole(server: Server) -> None:
    whole = gzip.compress(b"done")
    server.answers = [(200, {"Content-Encoding": "gzip"}, whole[:-4]), (200, {"Content-Encoding": "gzip"}, whole)]
    assert get(server).content == b"done"


def test_a_redirect_is_followed_on_the_same_server_with_the_token(server: Server) -> None:
    server.answers = [(301, {"Location": "/moved"}, b""), OK]
    with HttpClient() as http:
        response = http.get(f"{server.url}/posts", headers={"Authorization": "Bearer secret"})
    assert response.url == f"{server.url}/moved"
    assert [request.get("authorization") for request in server.requests] == ["Bearer secret"] * 2


def test_the_token_is_not_sent_to_another_server(server: Server) -> None:
    with Server([OK]) as other:
        server.answers = [(302, {"Location": f"{other.url}/elsewhere"}, b"")]
        with HttpClient() as http:
            http.get(f"{server.url}/posts", headers={"Authorization": "Bearer secret", "X-Key": "secret"})
        (request,) = other.requests
    assert "secret" not in str(request)
    assert request["user-agent"].startswith("retrainer/")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1"])
def test_a_redirect_to_another_scheme_is_refused(server: Server, target: str) -> None:
    server.answers = [(302, {"Location": target}, b"")]
    assert error_of(server) == f"127.0.0.1 redirects to '{target.partition(':')[0]}', which is not followed"


def test_a_redirect_from_a_public_host_to_a_private_one_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to a public address; connections to it go to the local server all the same."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, port: object, *arguments: object, **options: object) -> object:
        if host == "feeds.example":
            address = "93.184.215.14" if port is None else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]
        return resolve(host, port, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    server.answers = [(302, {"Location": f"http://127.0.0.1:{server.port}/admin"}, b"")]
    with HttpClient() as http, pytest.raises(SourceError, match="the private address '127.0.0.1'"):
        http.get(f"http://feeds.example:{server.port}/feed")
    assert len(server.requests) == 1


def test_endless_redirects_end(server: Server) -> None:
    server.answers = [(302, {"Location": "/posts"}, b"")] * 6
    assert error_of(server) == "127.0.0.1 redirects more than 5 times"


@pytest.mark.parametrize("url", ["", "example.org/feed", "http://", "http://[::1", "file:///etc/passwd", "ftp://x/y"])
def test_what_is_not_an_http_url_is_a_wrong_setting(url: str) -> None:
    with HttpClient() as http, pytest.raises(ConfigError):
        http.get(url)


@contextmanager
def slow_server() -> Iterator[str]:
    """Accept connections, and send a byte of an endless header now and then."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not over.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/posts"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_server_that_sends_a_byte_now_and_then_is_given_up() -> None:
    waits: list[float] = []
    with (
        slow_server() as url,
        HttpClient(timeout_seconds=0.2, sleep=waits.append) as http,
        pytest.raises(SourceError, match="127.0.0.1 did not answer within 0.2 s"),
    ):
        http.get(url)
    assert len(waits) == 4


def test_a_wrong_proxy_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://u:secret@127.0.0.1:1")
    with pytest.raises(ConfigError, match="HTTP_PROXY"):
        get(server)
