"""Idle, slow and broken callers: they keep neither connections nor threads, and cannot fill the log."""

from __future__ import annotations

import logging
import resource
import socket
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest

from retrainer.api import server as module
from retrainer.logs import RateLimit
from tests.api.conftest import PATIENCE
from tests.api.test_faults import raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.conftest import Serve, ServeProcess, Server, Turnstile

LIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow this process to open as many files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.slow
def test_idle_sockets_do_not_stop_answers(serve_process: ServeProcess) -> None:
    server = serve_process()
    for sockets, files in ((300, 250), (2000, 1024)):
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (files, 1024))
        with ExitStack() as stack:
            for _ in range(sockets):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            for _ in range(3):
                assert server.get("/health/live").status_code == 200
            assert server.get("/models/versions").status_code == 200
    assert server.stop() == 0
    assert sum(map(len, server.lines)) < 20_000


@pytest.mark.slow
def test_a_server_without_free_files_goes_on_when_there_are_some(serve_process: ServeProcess) -> None:
    server = serve_process()
    assert server.get("/health/live").status_code == 200  # it has loaded everything
    pid = server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (5, hard))
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
        deadline = time.monotonic() + PATIENCE
        while not any("Cannot accept" in line for line in server.lines) and time.monotonic() < deadline:
            time.sleep(0.01)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert server.get("/health/live").status_code == 200
    assert server.stop() == 0
    assert 1 <= sum("Cannot accept" in line for line in server.lines) <= 20


def test_the_connection_that_waits_longest_gives_way(
    serve: Serve, waiting_in_production: dict[str, str], turnstile: Turnstile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.api.server.MAX_CONNECTIONS", 4)
    for name in ("server.HEAD_SECONDS", "middleware.CHUNK_SECONDS", "middleware.BODY_SECONDS"):
        monkeypatch.setattr(f"retrainer.api.{name}", PATIENCE)
    server = serve(env=waiting_in_production)
    with ExitStack() as stack:
        busy = stack.enter_context(raw(server, "GET /models/predict/timing HTTP/1.1"))
        busy.sendall(b"\r\n")
        turnstile.await_arrival()
        slow_body = stack.enter_context(raw(server, "POST /models/rollback/timing HTTP/1.1"))
        slow_body.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        half_head, idle = (stack.enter_context(raw(server, "GET / HTTP/1.1")) for _ in range(2))
        for oldest in (slow_body, half_head, idle):
            newest = stack.enter_context(raw(server, "GET /health/live HTTP/1.1"))
            newest.sendall(b"\r\n")
            assert newest.recv(4096).startswith(b"HTTP/1.1 200 ")
            with suppress(ConnectionResetError):
                assert oldest.recv(4096) == b""
        turnstile.let_through()
        assert busy.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_the_head_of_a_request_must_arrive_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrainer.api.server.HEAD_SECONDS", PATIENCE)
    server = serve()
    silent = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    trickling, kept = raw(server, "GET / HTTP/1.1"), raw(server, "GET /health/live HTTP/1.1")
    with silent, trickling, kept:
        kept.sendall(b"\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200 ")
        monkeypatch.setattr("retrainer.api.server.HEAD_SECONDS", 0.5)
        trickling.settimeout(0.05)
        closed, deadline = False, time.monotonic() + PATIENCE
        while not closed:  # a byte in time does not help
            assert time.monotonic() < deadline
            try:
                trickling.sendall(b"x")
                closed = trickling.recv(1) == b""
            except TimeoutError:
                pass
            except ConnectionError:
                closed = True
        for connection in (silent, kept):
            connection.settimeout(PATIENCE)
            with suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass


def test_an_answer_must_be_read_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrainer.api.server.READ_SECONDS", 0.5)
    server = serve()
    request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    with connection, pytest.raises(ConnectionError):  # closed by the server, while the caller waits to send more
        while True:
            connection.sendall(request * 100)


@pytest.mark.parametrize(
    "lines", ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
)
def test_two_lengths_of_a_body_close_the_connection(lines: str, bad_input_server: Server) -> None:
    connection = raw(bad_input_server, "POST /models/rollback/timing HTTP/1.1")
    with connection, connection.makefile("rb") as answer:
        connection.sendall(f"Content-Type: application/json\r\n{lines}\r\n\r\n0\r\n\r\n".encode() + LIVE)
        text = answer.read()  # to the end: the server closes the connection
    assert text.count(b"HTTP/1.1 ") == 1
    assert text.startswith(b"HTTP/1.1 400 ")
    assert b"both Content-Length and Transfer-Encoding" in text


def test_an_answer_does_not_wait_for_the_caller_to_acknowledge_its_head() -> None:
    with closing(module.listen("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_broken_callers_are_not_errors_and_do_not_fill_the_log(serve_process: ServeProcess) -> None:
    server = serve_process()
    heads = [
        "no http",
        "POST /models/rollback/timing HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        "POST /models/rollback/timing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
        "GET /health/live HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ]
    for head in heads * 100:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(f"{head}\r\n\r\n".encode())
    for _ in range(100):
        server.get("/health/live")
    assert server.stop() == 0
    assert len(server.lines) < 200
    assert not [line for line in server.lines if line.startswith("ERROR")], server.lines


def test_dropped_log_lines_are_counted() -> None:
    limit, passed = RateLimit(), []
    for second in (*range(30), *range(100, 103)):
        for line in (1, 2):
            record = logging.LogRecord("x", logging.INFO, "x.py", line, "%d", (second,), None)
            record.created = second
            if limit.filter(record) and limit.filter(record) and line == 1:  # as two handlers ask
                passed.append(record.getMessage())
    assert passed == [*map(str, range(20)), "100 (and 10 more like this before it)", "101", "102"]
