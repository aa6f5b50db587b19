"""Servers of the REST API, called over HTTP: in a thread, and as processes."""

from __future__ import annotations

import logging
import os
import select
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import psutil
import pytest

from retrainer.pipeline.run import retrain
from retrainer.project import Project, create_project
from tests.command_line import environment, packages, with_default_signals
from tests.conftest import configure, open_project, runtime_of, train_both_types
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

TOKEN = "a-token-of-many-letters"  # noqa: S105  of the tests
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # shared: to make one for each request is slow
PATIENCE = 60  # seconds; nothing takes so long but what will never come


@dataclass
class Server:
    """A running server, called over HTTP.

    Attributes:
        url: its address, without a slash at the end.
        lines: what it has logged.
    """

    url: str
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Call, on a connection of its own; every answer that is a failure has the one shape."""
        answer = httpx2.request(method, self.url + path, timeout=PATIENCE, verify=NO_TLS, **options)
        if answer.status_code >= 400 and method != "HEAD":
            (error,) = answer.json().values()
            assert set(error) == {"code", "message", "hint"}, answer.text
            assert error["code"]
            assert error["message"]
        return answer

    def ended(self, run_id: str) -> dict[str, Any]:
        """Return a run when it is over."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            document: dict[str, Any] = self.get(f"/models/training-history/{run_id}").json()
            if document["status"] != "running":
                return document
            time.sleep(0.05)
        raise AssertionError(f"{run_id} does not end")


@contextmanager
def thread_server(
    folder: Path,
    *,
    protect_reads: bool = False,
    allowed_hosts: Sequence[str] = (),
    answer_seconds: float = 60,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve a project as `retrainer serve` does, from a thread of this process.

    Args:
        folder: the project folder.
        protect_reads: whether reads need the token too.
        allowed_hosts: further host names of the server.
        answer_seconds: how long an algorithm may take to answer.
        env: additional environment variables, which the runs that the server starts inherit.
    """
    from retrainer.api import server as module
    from retrainer.api.app import create_app
    from retrainer.cli.serve import _open_connections
    from retrainer.notify import open_runtime
    from retrainer.serving.auth import load_auth
    from retrainer.serving.threads import THREADS, Threads

    with ExitStack() as stack:
        stack.enter_context(environment(env or {}))
        stack.enter_context(packages((env or {}).get("PYTHONPATH", "")))
        project = stack.enter_context(closing(Project.find(folder, os.environ)))
        runtime = stack.enter_context(open_runtime(project, os.environ))
        log = stack.enter_context(_log_lines())
        access = load_auth(os.environ, None, "127.0.0.1", protect_reads=protect_reads, allowed_hosts=allowed_hosts)
        _open_connections(project)
        threads = Threads(answer_seconds)
        running = module.create_server(create_app(project, runtime, access, threads))
        listening = stack.enter_context(module.listen("127.0.0.1", 0))
        thread = threading.Thread(target=running.run, args=([listening],), name="server of a test", daemon=True)
        thread.start()
        yield Server(f"http://127.0.0.1:{listening.getsockname()[1]}", log)
        running.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"
        deadline = time.monotonic() + PATIENCE
        while any(map(threads.count_stuck, THREADS)):  # the process of a server would end here, with its connections
            assert time.monotonic() < deadline, "a test left a call without an end"
            time.sleep(0.05)


@contextmanager
def _log_lines() -> Iterator[list[str]]:
    """Collect the log lines of retrainer, as `serve` prints them."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
            lines.append(f"{level}{self.format(record)}\n")

    logger, handler = logging.getLogger("retrainer"), Collect()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Serve(Protocol):
    """Call `thread_server` on the project of the test."""

    def __call__(
        self,
        *,
        protect_reads: bool = False,
        allowed_hosts: Sequence[str] = (),
        answer_seconds: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Server: ...


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Serve the project from a thread of this process; the runs that it starts are processes, ended after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Server:
            return stack.enter_context(thread_server(folder, **options))

        yield start
    _end_runs_of(folder)


@dataclass
class ServerProcess(Server):
    """`retrainer serve` in a process of its own."""

    process: subprocess.Popen[str] = field(kw_only=True)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> ServerProcess:
        command = [sys.executable, "-W", "error", "-m", "retrainer", "serve", "--port", "0", *arguments]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=with_default_signals,  # noqa: PLW1509  it calls nothing but signal()
        )
        assert process.stderr
        printed = []
        for line in process.stderr:
            printed.append(line)
            if line.startswith("Listening on "):
                server = cls(line.split()[-1], printed, process=process)
                server._reader = threading.Thread(target=server._read, daemon=True)
                server._reader.start()
                return server
        raise AssertionError(f"the server did not start: {''.join(printed)}")

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(self.process.stderr)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server; return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        if self._reader:
            self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        """Kill the server, if it still runs."""
        self.process.kill()
        self.process.wait()
        if self._reader:
            self._reader.join(PATIENCE)
        assert self.process.stderr
        self.process.stderr.close()
        assert "Traceback" not in "".join(self.lines), "".join(self.lines)


class ServeProcess(Protocol):
    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> ServerProcess: ...


@pytest.fixture
def serve_process(folder: Path) -> Iterator[ServeProcess]:
    """Start `retrainer serve` processes in the project; they and the runs they started are ended after the test."""
    servers: list[ServerProcess] = []

    def start(*arguments: str, env: Mapping[str, str] | None = None) -> ServerProcess:
        servers.append(ServerProcess.start(folder, *arguments, env=env))
        return servers[-1]

    yield start
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.close)
        stack.callback(_end_runs_of, folder)


def _end_runs_of(folder: Path) -> None:
    for process in runs_of(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(PATIENCE)


def runs_of(folder: Path, model_type: str = "") -> list[psutil.Process]:
    """Return the processes of runs that a server of this project started, of one model type or of both."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        ours = "--run-id" in words and any(word.startswith(str(folder)) for word in words)
        if ours and (not model_type or model_type in words):
            found.append(process)
    return found


@pytest.fixture
def two_versions(folder: Path, prepare: Prepare) -> tuple[str, str]:
    """Two timing versions, the first of them in production; returns both."""
    return prepare(folder, train_two_versions)


def train_two_versions(folder: Path) -> tuple[str, str]:
    first = train_both_types(folder)
    project = open_project(folder)
    run = retrain(
        project, runtime_of(project), "timing", datetime(2024, 6, 2, tzinfo=UTC), as_of=True, auto_promote=False
    ).run
    project.close()
    assert run
    return first, str(run.model_version_id)


WAITING = timing_algorithm(
    "waiting",
    setup="""
    def wait_at(location):
        if location in os.environ:
            with open(os.environ[location] + ".arrived", "w") as arrived:
                arrived.write("x")
            with open(os.environ[location] + ".go", "rb", buffering=0) as go:
                go.read(1)

    wait_at("WAIT_TO_IMPORT")
    """,
    train='wait_at("WAIT_TO_TRAIN")',
    predict='wait_at("WAIT_TO_PREDICT")',
)


@dataclass
class Turnstile:
    """A place where a hook of the algorithm `waiting` waits until it is let through."""

    path: Path
    _arrived: int
    _go: int

    @classmethod
    def at(cls, path: Path) -> Turnstile:
        ends = []
        for name in ("arrived", "go"):
            fifo = path.with_name(f"{path.name}.{name}")
            os.mkfifo(fifo)
            ends.append(os.open(fifo, os.O_RDWR))
        return cls(path, *ends)

    def await_arrival(self) -> None:
        ready, _, _ = select.select([self._arrived], [], [], PATIENCE)
        assert ready, "nobody came"
        assert os.read(self._arrived, 1) == b"x"

    def let_through(self) -> None:
        os.write(self._go, b"x")

    def close(self) -> None:
        os.close(self._arrived)
        os.close(self._go)


@pytest.fixture
def waiting(folder: Path, plugins: Plugins) -> dict[str, str]:
    """The environment that makes `waiting` the timing algorithm of the project."""
    plugins.add("waiting", WAITING)
    return {**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "waiting"}


@pytest.fixture
def turnstile(tmp_path: Path) -> Iterator[Turnstile]:
    made = Turnstile.at(tmp_path / "turnstile")
    yield made
    made.close()


@pytest.fixture
def waiting_in_production(
    trained: str, waiting: dict[str, str], retrainer: Runner, turnstile: Turnstile
) -> dict[str, str]:
    """A timing version whose forecasts wait; returns the environment of a server where they do."""
    version_id = retrainer("train", "timing", "--json", env=waiting).json["training_runs"][0]["model_version_id"]
    assert retrainer("promote", version_id, env=waiting).code == 0
    return {**waiting, "WAIT_TO_PREDICT": str(turnstile.path)}


@pytest.fixture(scope="session")
def bad_input_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that many tests of wrong requests share: none of them changes anything."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    create_project(folder)
    configure(folder)
    with closing(ServerProcess.start(folder)) as server:
        yield server
        assert server.stop() == 0
    assert runs_of(folder) == []
