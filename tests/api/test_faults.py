"""Faults while the server runs: malformed requests, lost databases, signals."""

from __future__ import annotations

import json
import select
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.registry.promotions import PRODUCTION_CHANGE_ACTIONS
from tests.api.conftest import PATIENCE
from tests.conftest import configure, open_project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, ServeProcess, Server, Turnstile
    from tests.command_line import Runner


def raw(server: Server, head: str) -> socket.socket:
    """Send the head of a request, and leave the rest to the test."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(f"{head}\r\nHost: 127.0.0.1\r\n".encode())
    return connection


def test_a_large_body_is_refused_before_it_is_sent(bad_input_server: Server) -> None:
    connection = raw(bad_input_server, "POST /models/retrain HTTP/1.1")
    with connection, connection.makefile("rb") as answer:
        connection.sendall(b"Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n")
        text = answer.read()  # to the end: the server closes the connection
    assert text.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_large"' in text


def test_a_large_body_without_a_length_is_cut_off(bad_input_server: Server) -> None:
    connection = raw(bad_input_server, "POST /models/retrain HTTP/1.1")
    with connection, connection.makefile("rb") as answer:
        connection.sendall(b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"186a0\r\n" + b" " * 100_000 + b"\r\n")
        connection.sendall(b"1\r\n \r\n")
        text = answer.read()
    assert text.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/models/rollback/timing", "/login"])
def test_a_body_in_broken_chunks_is_answered_once_and_is_no_error(path: str, bad_input_server: Server) -> None:
    connection = raw(bad_input_server, f"POST {path} HTTP/1.1")
    with connection, connection.makefile("rb") as answer:
        connection.sendall(b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n")
        text = answer.read()
    assert text.startswith(b"HTTP/1.1 400 ")
    assert text.count(b"HTTP/1.1 ") == 1
    assert bad_input_server.get("/health/live").status_code == 200
    assert not [line for line in bad_input_server.lines if "ERROR" in line or "Traceback" in line]


@pytest.mark.parametrize("head", ["no http", "GET / HTTP/1.1\r\nbroken header", "GET /\x01 HTTP/1.1"])
def test_malformed_http_is_answered_with_the_error_document(head: str, bad_input_server: Server) -> None:
    connection = raw(bad_input_server, head)
    with connection, connection.makefile("rb") as answer:
        connection.sendall(b"\r\n")
        text = answer.read()  # to the end: the server closes the connection
    assert text.startswith(b"HTTP/1.1 400 ")
    (error,) = json.loads(text.partition(b"\r\n\r\n")[2]).values()
    assert error == {"code": "bad_request", "message": "Invalid HTTP request received", "hint": ""}
    assert b"nosniff" in text


def test_a_missing_body_times_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrainer.api.middleware.CHUNK_SECONDS", 0.5)
    connection = raw(serve(), "POST /models/rollback/timing HTTP/1.1")
    with connection, connection.makefile("rb") as answer:
        connection.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        text = answer.read()  # to the end: the server closes the connection
    assert text.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in text


def test_a_slow_body_times_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrainer.api.middleware.BODY_SECONDS", 1)
    text = b""
    with raw(serve(), "POST /models/rollback/timing HTTP/1.1") as connection:
        connection.sendall(b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
        deadline = time.monotonic() + PATIENCE
        while not select.select([connection], [], [], 0.2)[0]:
            assert time.monotonic() < deadline, "it is cut off while it still comes"
            connection.sendall(b" ")
        # To the end: the server closes the connection, and resets it if a byte was on its way.
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                text += part
    assert text.startswith(b"HTTP/1.1 408 ")
    assert b"the body was not complete within 1 s" in text


def test_a_body_of_another_type_is_refused_with_the_right_type(bad_input_server: Server) -> None:
    answer = bad_input_server.post("/models/rollback/timing", data={"reason": "x"})
    assert answer.status_code == 422
    assert answer.json()["error"]["hint"] == "Send it as Content-Type: application/json"


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 400])
def test_an_invalid_length_is_refused(length: str, bad_input_server: Server) -> None:
    connection = raw(bad_input_server, "POST /models/retrain HTTP/1.1")
    with connection, connection.makefile("rb") as answer:
        connection.sendall(f"Content-Length: {length}\r\n\r\n".encode())
        assert answer.read().split()[1] in {b"400", b"413"}


def test_the_database_disappears_and_comes_back(trained: str, serve: Serve, folder: Path) -> None:
    server = serve()
    (folder / "data").rename(folder / "away")
    for path in ("/models/production", "/models/training-history", "/models/predict/timing", "/health/ready"):
        answer = server.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["error"]["code"] == "database"
        assert answer.headers["Retry-After"]
    assert server.post("/models/retrain").status_code == 503
    assert server.get("/health/live").status_code == 200
    assert "retrainer_database_up 0.0" in server.get("/metrics").text
    assert not (folder / "data").exists(), "no empty database was made in its place"
    (folder / "away").rename(folder / "data")
    assert server.get("/models/production").json()["timing_model"]["version_id"] == trained
    assert server.get("/health/ready").status_code == 200


def test_a_damaged_value_is_not_a_reason_to_ask_again(trained: str, serve: Serve, folder: Path) -> None:
    server = serve()
    with closing(sqlite3.connect(folder / "data" / "retrainer.db")) as database, database:
        database.execute("UPDATE retrainer_model_versions SET hyperparameters = '{'")
    answer = server.get("/models/production")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "damaged_value")
    assert "Retry-After" not in answer.headers


def test_a_replaced_database_is_used(two_versions: tuple[str, str], serve: Serve, folder: Path) -> None:
    old, new = two_versions
    server = serve()
    server.get("/models/production")
    project = open_project(folder)
    with project.registry.database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql(f"VACUUM INTO '{folder / 'copy.db'}'")
    project.close()
    assert server.post(f"/models/promote/{new}").status_code == 200
    for name in ("retrainer.db", "retrainer.db-wal", "retrainer.db-shm"):
        (folder / "data" / name).unlink(missing_ok=True)
    (folder / "copy.db").rename(folder / "data" / "retrainer.db")
    assert server.get("/models/production").json()["timing_model"]["version_id"] == old


@pytest.mark.slow
def test_all_endpoints_work_on_postgresql_and_survive_an_outage(
    folder: Path, postgresql_url: str, request: pytest.FixtureRequest, serve: Serve
) -> None:
    configure(folder, url=f'"{postgresql_url}"')
    old, new = request.getfixturevalue("two_versions")
    server = serve()
    for path in (
        "/models/production",
        "/models/versions?limit=1",
        f"/models/versions/{new}",
        "/models/training-history?status=completed",
        f"/models/compare/{old}/{new}",
        "/models/predict/timing",
        "/metrics",
    ):
        assert server.get(path).status_code == 200, path
    for path in ("/models/versions/%00", "/models/training-history/%00", "/models/versions/x%00y"):
        assert server.get(path).status_code == 404, path
    assert server.post(f"/models/promote/{new}", json={"reason": "a\tb — c"}).status_code == 200
    ids = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]
    assert server.ended(ids["timing"])["status"] == "completed"
    url = sa.make_url(postgresql_url)
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false"))
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
        answer = server.get("/models/production")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database")
        assert server.post("/models/retrain").status_code == 503
        connection.execute(sa.text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true"))
    engine.dispose()
    assert server.get("/models/production").json()["timing_model"]["version_id"] == new


def test_writes_wait_for_a_locked_database_and_reads_do_not(trained: str, serve: Serve, folder: Path) -> None:
    server = serve()
    with ThreadPoolExecutor(8) as threads:
        with open_project(folder).registry.database.write():
            calls = [threads.submit(server.post, "/models/rollback/timing") for _ in range(8)]
            for path in ("/health/live", "/models/production", "/models/versions"):
                assert server.get(path).status_code == 200, path
        assert {call.result().status_code for call in calls} == {409}


def test_forecasts_do_not_hold_up_other_requests(
    serve: Serve, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve(env=waiting_in_production)
    with ThreadPoolExecutor(60) as threads:
        calls = [threads.submit(server.get, "/models/predict/timing") for _ in range(50)]
        turnstile.await_arrival()
        for path in ("/health/live", "/health/ready", "/models/production", "/models/versions", "/metrics"):
            assert server.get(path).status_code == 200, path
        assert server.post("/models/retrain", json={"model_type": "content"}).status_code == 202
        for _ in calls:
            turnstile.let_through()
        assert {call.result().status_code for call in calls} == {200}


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_request_in_progress_is_finished_before_the_server_stops(
    number: signal.Signals, serve_process: ServeProcess, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve_process(env=waiting_in_production)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(server.get, "/models/predict/timing")
        turnstile.await_arrival()
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as idle:
            idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while not idle.recv(4096).endswith(b'{"status":"live"}'):
                pass
            server.process.send_signal(number)
            assert idle.recv(1) == b"", "idle connections are closed"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        assert server.process.poll() is None
        turnstile.let_through()
        assert call.result().status_code == 200
    assert server.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_disconnected_caller_is_not_an_error(
    serve_process: ServeProcess, waiting_in_production: dict[str, str], turnstile: Turnstile
) -> None:
    server = serve_process(env=waiting_in_production)
    with raw(server, "GET /models/predict/timing HTTP/1.1") as connection:
        connection.sendall(b"\r\n")
        turnstile.await_arrival()
    turnstile.let_through()
    assert server.get("/health/ready").status_code == 200
    assert server.stop() == 0
    assert not any("ERROR" in line for line in server.lines), server.lines


def test_a_port_in_use_is_one_line(serve: Serve, folder: Path, retrainer: Runner) -> None:
    server = serve()
    done = retrainer("serve", "--port", str(server.port))
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith(f"Error: cannot listen on '127.0.0.1' port {server.port}: ")


@pytest.mark.parametrize(
    "count", [pytest.param(100, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.soak)]
)
def test_many_concurrent_changes_leave_a_consistent_record(
    count: int,
    two_versions: tuple[str, str],
    serve: Serve,
    serve_process: ServeProcess,
    folder: Path,
    retrainer: Runner,
) -> None:
    servers = [serve(), serve_process()]
    paths = [*(f"/models/promote/{version}" for version in two_versions), "/models/rollback/timing"]
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(servers[n % 2].post, paths[n % 3]) for n in range(count)]
        codes = {call.result().status_code for call in calls}
    assert codes <= {200, 409}
    assert 200 in codes
    project = open_project(folder)
    entries = project.registry.list_ledger_entries(model_type="timing", actions=PRODUCTION_CHANGE_ACTIONS)
    assert all(new.from_version_id == old.to_version_id for new, old in pairwise(entries))
    assert retrainer("doctor").code == 0
