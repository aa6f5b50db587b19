"""Real servers: `retrainer serve` in a process of its own, called over HTTP."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import psutil
import pytest

from retrainer.pipeline.run import retrain
from retrainer.project import create_project
from tests.conftest import configure, open_project, runtime_of, train_both_types

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Plugins, Prepare

TOKEN = "a-token-of-many-letters"  # noqa: S105  of the tests
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE = 60  # seconds; nothing takes so long but what will never come


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Server:
        command = [sys.executable, "-W", "error", "-m", "retrainer", "serve", "--port", "0", *arguments]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_with_default_signals,  # noqa: PLW1509  it calls nothing but signal()
        )
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("Listening on "):
                server = cls(process, line.split()[-1], said)
                server._reader = threading.Thread(target=server._read, daemon=True)
                server._reader.start()
                return server
        raise AssertionError(f"the server did not start: {''.join(said)}")

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(self.process.stderr)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx2.Response:
        return self.request("POST", path, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Call, on a connection of its own; every answer that is a failure has the one shape."""
        answer = httpx2.request(method, self.url + path, timeout=PATIENCE, **options)
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
        raise AssertionError(f"{run_id} does not end")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server; return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        if self._reader:
            self._reader.join(PATIENCE)
        return code


def _with_default_signals() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


class Serve(Protocol):
    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Server: ...


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Start servers of the project; they and the runs they started are gone after the test."""
    servers: list[Server] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> Server:
        servers.append(Server.start(folder, *arguments, env=env))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
        if server._reader:
            server._reader.join(PATIENCE)
        assert server.process.stderr
        server.process.stderr.close()
    for process in runs_of(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(PATIENCE)
    for server in servers:
        assert "Traceback" not in "".join(server.lines), "".join(server.lines)


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


WAITING = """
    import os
    import numpy as np
    from retrainer.algorithms import Algorithm, hookimpl

    def wait_at(place):
        if place in os.environ:
            with open(os.environ[place] + ".arrived", "w") as arrived:
                arrived.write("x")
            with open(os.environ[place] + ".go", "rb", buffering=0) as go:
                go.read(1)

    wait_at("WAIT_TO_IMPORT")

    @hookimpl
    def algorithm():
        return Algorithm(name="waiting", model_types=("timing",), summary="Waits until told to go on.")

    @hookimpl
    def train(posts):
        wait_at("WAIT_TO_TRAIN")
        return {"hours": 5.0}

    @hookimpl
    def predict(model, origins):
        from retrainer.model_types.timing import TimingForecasts
        wait_at("WAIT_TO_PREDICT")
        quantiles = np.full((len(origins), 99), float(model["hours"]))
        return TimingForecasts(quantiles, quantiles[:, 0])
"""


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


@pytest.fixture(scope="module")
def bad_input_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that many tests of wrong requests share: none of them changes anything."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    create_project(folder)
    configure(folder)
    server = Server.start(folder)
    yield server
    assert server.stop() == 0
    assert server.process.stderr
    server.process.stderr.close()
    assert "Traceback" not in "".join(server.lines), "".join(server.lines)
    assert runs_of(folder) == []
