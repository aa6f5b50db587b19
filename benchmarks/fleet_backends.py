"""The runs a minute of processes of this machine, of a Dask cluster and of a Ray cluster; for `benchmarks.fleet`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from retrainer.fleet.cluster import ClusterWorkers
from retrainer.fleet.local import LocalProcesses
from retrainer.parallel.dask import DaskCluster
from retrainer.parallel.ray import RayCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.fleet import Fleet
    from retrainer.fleet.backend import Backend
    from retrainer.fleet.units import Unit

_BIN = Path(sys.executable).parent
_RAY_PORT = 9_379  # its workers use the ports from 10,002


def measure_backends(fleet: Fleet, backends: dict[str, Backend], runs: int, jobs: int) -> dict[str, Any]:
    """Measure how many runs a minute backends make, in turn; the processes of this machine are the first one."""
    block = 10 * jobs
    seconds: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        running = {name: stack.enter_context(closing(InBlocks(backend, fleet))) for name, backend in backends.items()}
        for blocks in running.values():
            blocks.run(3 * jobs)
        for _ in range(max(runs // block, 1)):
            for name, blocks in running.items():
                seconds[name] += blocks.run(block)
    done = max(runs // block, 1) * block
    first = next(iter(backends))
    return {
        name: {"runs_a_minute": 60 * done / seconds[name], "ratio": seconds[first] / seconds[name]} for name in backends
    }


class InBlocks:
    """Runs units in the workers of a backend, which wait between blocks."""

    def __init__(self, backend: Backend, fleet: Fleet) -> None:
        self._fleet = fleet
        self._units: list[Unit] = []
        self._results = backend.run(fleet.spec, lambda: self._units.pop() if self._units else None, lambda: False)

    def run(self, count: int) -> float:
        """Run the next units, and return the seconds that took."""
        self._units = self._fleet.take(count)
        started = time.perf_counter()
        results = [next(self._results)[1] for _ in range(count)]
        seconds = time.perf_counter() - started
        self._fleet.check(results)
        return seconds

    def close(self) -> None:
        """End the workers."""
        self._results.close()


@contextmanager
def open_backends(jobs: int) -> Iterator[dict[str, Backend]]:
    """Open those backends that are installed, with as many workers each, on this machine."""
    backends: dict[str, Backend] = {"local": LocalProcesses(jobs)}
    with ExitStack() as stack:
        if find_spec("distributed"):
            address = f"127.0.0.1:{_free_port()}"
            stack.enter_context(_process("dask", "scheduler", "--host", address, "--no-dashboard"))
            _wait_for(address)
            for _ in range(jobs):
                stack.enter_context(_process("dask", "worker", address, "--nthreads", "1", "--no-dashboard"))
            dask = stack.enter_context(closing(DaskCluster.connect(address)))
            backends["dask"] = ClusterWorkers(dask)
        if find_spec("ray"):
            os.environ["RAY_AUTH_MODE"] = "disabled"
            address = f"127.0.0.1:{_RAY_PORT}"
            options = (f"--port={address.rpartition(':')[2]}", f"--num-cpus={jobs}", "--include-dashboard=false")
            stack.enter_context(_process("ray", "start", "--head", "--block", "--disable-usage-stats", *options))
            _wait_for(address)
            time.sleep(5)  # its other processes
            ray = stack.enter_context(closing(RayCluster.connect(address)))
            backends["ray"] = ClusterWorkers(ray)
        yield backends


@contextmanager
def _process(command: str, *arguments: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([_BIN / command, *arguments], cwd=folder, **silent)  # type: ignore[call-overload]
        try:
            yield
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            process.wait()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(address: str) -> None:
    """Wait until a port is open.

    Raises:
        TimeoutError: it is not after a minute.
    """
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing answers at {address}") from None
            time.sleep(0.2)
        else:
            return
