"""Stuck threads: callers are answered, other requests go on, and the server stops."""

from __future__ import annotations

import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.api.conftest import PATIENCE, TOKEN
from tests.conftest import configure

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from tests.api.conftest import Serve, ServeProcess, Server, Turnstile
    from tests.command_line import Runner

IMPATIENT = 0.5  # seconds


def get_in_time(server: Server, path: str, turnstile: Turnstile | None = None) -> httpx2.Response:
    """Ask until an answer is made within the time limit, which a busy machine may exceed."""
    deadline = time.monotonic() + PATIENCE
    while (answer := server.get(path)).status_code == 503 and time.monotonic() < deadline:
        if turnstile is not None:
            turnstile.let_through()  # the call that took too long
    return answer


def test_a_stuck_forecast_is_given_up(
    serve: Serve, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve(answer_seconds=IMPATIENT, env=waiting_in_production)
    answer = server.get("/models/predict/timing")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == ("took_too_long", "no answer within 0.5 s")
    assert "--answer-seconds" in error["hint"]
    assert 'retrainer_stuck_threads{work="forecast"} 1.0' in server.get("/metrics").text
    assert server.get("/health/ready").status_code == 200, "there is a second thread"
    for _ in range(2):
        turnstile.let_through()
    assert get_in_time(server, "/models/predict/timing", turnstile).status_code == 200


def test_the_server_is_busy_until_a_stuck_thread_comes_back(
    serve: Serve, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve(answer_seconds=IMPATIENT, env=waiting_in_production)
    with ThreadPoolExecutor(2) as threads:
        codes = list(threads.map(lambda path: server.get(path).status_code, ["/models/predict/timing"] * 2))
    assert codes == [503, 503]
    assert 'retrainer_stuck_threads{work="forecast"} 2.0' in server.get("/metrics").text
    for path in ("/models/predict/content", "/health/ready"):
        answer = server.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy"), path
        assert answer.headers["Retry-After"]
    assert server.get("/health/live").status_code == 200
    for _ in range(3):
        turnstile.let_through()
    assert get_in_time(server, "/models/predict/timing", turnstile).status_code == 200
    assert server.get("/health/ready").status_code == 200


def test_a_slow_plugin_import_does_not_hold_up_other_requests(
    serve: Serve, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    """Whether it costs money, the plugin says: it has to be imported."""
    waiting = {name: value for name, value in waiting_in_production.items() if name != "WAIT_TO_PREDICT"}
    server = serve(env={**waiting, "RETRAINER_API_TOKEN": TOKEN, "WAIT_TO_IMPORT": str(turnstile.path)})
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(server.get, "/models/predict/timing")
        turnstile.await_arrival()
        try:
            assert server.get("/health/live").status_code == 200
        finally:
            turnstile.let_through()
        assert call.result(PATIENCE).status_code == 200


def test_a_database_that_does_not_answer_times_out(
    sqlite_folder: Path, postgresql_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the question and is silent: here because somebody holds a lock on everything."""
    monkeypatch.setattr("retrainer.serving.threads.QUERY_SECONDS", 1.0)
    configure(sqlite_folder, url=f'"{postgresql_url}"')
    server = serve()
    engine = sa.create_engine(postgresql_url)
    with engine.connect() as connection:
        tables = ", ".join(sa.inspect(connection).get_table_names())
        connection.execute(sa.text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
        with ThreadPoolExecutor(3) as threads:
            asked = threads.map(server.get, ["/models/versions", "/health/ready", "/metrics"])
            versions, ready, metrics = list(asked)
        for answer in (versions, ready):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "took_too_long")
        assert metrics.status_code == 200
        assert "retrainer_database_up 0.0" in metrics.text
        assert re.search(r'retrainer_stuck_threads\{work="look"\} [123]\.0', metrics.text), "its own at least"
        connection.rollback()
    engine.dispose()
    assert get_in_time(server, "/health/ready").status_code == 200
    assert get_in_time(server, "/models/versions").json() == {"versions": [], "count": 0}


@pytest.mark.slow
def test_a_server_with_stuck_threads_stops(
    serve_process: ServeProcess, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve_process("--answer-seconds", "1", env=waiting_in_production)
    assert server.get("/models/predict/timing").status_code == 503
    assert server.stop() == 0
    assert server.lines[-2:] == [
        "Stopped\n",
        "WARNING: Exiting although threads are still running: 'forecast_0'\n",
    ]


@pytest.mark.slow
def test_a_server_stopped_at_once_answers_requests_in_progress(
    serve_process: ServeProcess, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve_process(env=waiting_in_production)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(server.get, "/models/predict/timing")
        turnstile.await_arrival()
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as idle:
            idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            received = b""
            while not received.endswith(b'{"status":"live"}'):  # it has accepted the connection
                part = idle.recv(4096)
                assert part, received
                received += part
            server.process.send_signal(signal.SIGINT)
            assert idle.recv(1) == b"", "it has begun to stop"
        server.process.send_signal(signal.SIGINT)  # the second says: at once
        answer = call.result(PATIENCE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
    assert server.process.wait(PATIENCE) == 0


def test_the_systemd_unit_keeps_answer_seconds(trained: str, retrainer: Runner) -> None:
    assert "--answer-seconds" not in retrainer("serve", "--systemd").out
    assert "--answer-seconds 300" in retrainer("serve", "--systemd", "--answer-seconds", "300").out


def test_the_systemd_unit_keeps_allowed_hosts(trained: str, retrainer: Runner) -> None:
    unit = retrainer("serve", "--systemd", "--allowed-host", "Proxy", "--allowed-host", "models.example.org").out
    assert "--allowed-host proxy --allowed-host models.example.org" in unit
