"""Real clusters on the loopback interface, of separate processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import psutil
import pytest

from retrainer.parallel import child
from retrainer.parallel.dask import DaskCluster
from tests.programs import free_port

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from types import TracebackType

SCRIPTS = Path(sys.executable).parent
WORKERS = 2
_RAY_WORKERS = [["ray::call_in_child"], ["ray::IDLE"]]  # not the agents of the node, which it does not outlive
START_SECONDS = 300


class Cluster(Protocol):
    """A cluster with two workers."""

    arguments: list[str]

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def kill_worker(self, choose: random.Random) -> None:
        """Kill one worker process; another one takes its place."""

    def kill_scheduler(self) -> None: ...

    def printed(self) -> str:
        """Return what the workers printed."""


class Dask:
    """A Dask scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        if find_spec("distributed") is None:
            pytest.skip("Dask is not installed: pip install 'retrainer[dask]'")
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.arguments = ["--backend", "dask", "--scheduler", self.address]
        self._workers: list[subprocess.Popen[bytes]] = []
        self._scheduler: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        host, port = self.address.split(":")
        self._scheduler = self._start("scheduler", "--host", host, "--port", port)
        wait_for_port(self.address)
        self._workers = [self.start_worker() for _ in range(WORKERS)]
        wait_until(lambda: self.printed().count("Registered to:") >= WORKERS, "the workers of Dask do not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self._workers, *([self._scheduler] if self._scheduler else [])]:
            process.kill()
            process.wait()

    def start_worker(self, *options: str) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", *options)

    def kill_worker(self, choose: random.Random) -> None:
        number = choose.randrange(len(self._workers))
        self._workers[number].kill()
        self._workers[number].wait()
        self._workers[number] = self.start_worker()

    def kill_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def kill_scheduler(self) -> None:
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()

    def printed(self) -> str:
        return (self._folder / "worker.log").read_text()

    def wait_until_withdrawn(self) -> None:
        """Wait until the calls that wait in a worker are withdrawn."""
        with closing(DaskCluster.connect(self.address)) as cluster:
            run = cluster._client.run
            wait_until(lambda: all(run(lambda: bool(child._withdrawn)).values()), "the waiting calls go on")

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        self._folder.mkdir(exist_ok=True)
        with (self._folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(
                [SCRIPTS / "dask", what, *options, "--no-dashboard"], cwd=self._folder, stdout=log, stderr=log
            )


class Ray:
    """A Ray head node with two processors."""

    def __init__(self, folder: Path) -> None:
        if find_spec("ray") is None:
            pytest.skip("Ray is not installed: pip install 'retrainer[ray]'")
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.arguments = ["--backend", "ray", "--address", self.address]
        os.environ["RAY_AUTH_MODE"] = "disabled"

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        options = ["--num-cpus", str(WORKERS), "--include-dashboard=false", "--disable-usage-stats", "--block"]
        with (self._folder / "ray.log").open("ab") as log:
            self._head = subprocess.Popen(
                [SCRIPTS / "ray", "start", "--head", "--port", self.address.split(":")[1], *options],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):  # it ends with another one
                process.kill()
        self._head.kill()
        self._head.wait()
        del os.environ["RAY_AUTH_MODE"]

    def _processes(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._head.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill_worker(self, choose: random.Random) -> None:
        workers = [process for process in self._processes() if _command_of(process)[:1] in _RAY_WORKERS]
        if workers:
            with suppress(psutil.NoSuchProcess):
                choose.choice(workers).kill()

    def kill_scheduler(self) -> None:
        self.__exit__()
        os.environ["RAY_AUTH_MODE"] = "disabled"

    def printed(self) -> str:
        return (self._folder / "ray.log").read_text()


def _command_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; an empty one if it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def wait_for_port(address: str) -> None:
    host, port = address.split(":")

    def answers() -> bool:
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False

    wait_until(answers, f"nothing listens at {address}")


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)
