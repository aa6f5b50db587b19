"""Measure the REST API with 10 and with 10,000 versions, on SQLite.

make bench-api
make bench-api BEFORE=v0.1.0    (compare with a git revision, in the same run)

First the time of a request on one kept connection, then the requests per second of 50 connections, next to those of the
smallest FastAPI application, then 50 connections for 10 s while retrains run. The load comes from the same machine, so
compare figures of one run only; the processor time of the server depends least on what else the machine does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.registry import SIZES
from benchmarks.revisions import ROOT, environment, source_trees

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONNECTIONS = 50
SECONDS = 10  # of the load during retrains
ROUNDS, ROUND_SECONDS = 8, 0.4  # of each server and path; the servers take turns
ALGORITHM = {"RETRAINER_TIMING_MODEL__ALGORITHM": "prophet"}  # of the retrains: the slowest one
RATED_PATHS = ("/health/live", "/models/production", "/models/versions")
FILL = """
import sys, json
from pathlib import Path
from benchmarks.registry import filled_project
project, versions = filled_project(Path(sys.argv[1]), int(sys.argv[2]))
print(json.dumps([project.registry.list_runs(limit=1)[0].run_id, *versions]))
project.close()
"""


@dataclass
class Figures:
    """The outcome of the requests.

    Attributes:
        seconds: latencies by path.
        failures: number of answers other than 200, by path and status.
        retrains: number of runs started.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    retrains: int = 0


@dataclass
class Server:
    """A running server, and the paths of its endpoints by name."""

    port: int
    process: psutil.Process
    paths: dict[str, str]

    def cpu(self) -> float:
        """Return the processor time it has used, in seconds."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


class Connection(asyncio.Protocol):
    """Sends one request after another, and gives up at the deadline."""

    def __init__(self, port: int, paths: Sequence[str], deadline: float, figures: Figures) -> None:
        self._port = port
        self._paths = itertools.cycle(paths)
        self._deadline = deadline
        self._figures = figures
        self._received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Send the first request."""
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._path, self._sent = next(self._paths), time.perf_counter()
        self._transport.write(f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Record a complete answer, and send the next request."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not separator or not length or len(body) < int(length[1]):
            return
        now = time.perf_counter()
        self._figures.seconds[self._path].append(now - self._sent)
        if not head.startswith(b"HTTP/1.1 200 "):
            self._figures.failures[f"{self._path} {head[9:12].decode()}"] += 1
        self._received = b""
        if now > self._deadline:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Count a connection that the server closed."""
        if error is not None or time.perf_counter() < self._deadline:
            self._figures.failures["connection closed"] += 1
        self.done.set_result(None)


async def load(port: int, paths: Sequence[str], seconds: float, connections: int, figures: Figures) -> None:
    """Keep connections busy for some seconds; each begins with another path."""
    deadline = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    made = [
        Connection(port, [*paths[start:], *paths[:start]], deadline, figures)
        for start in (number % len(paths) for number in range(connections))
    ]
    for connection in made:
        await loop.create_connection(lambda one=connection: one, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(connection.done for connection in made))


@contextmanager
def started(command: Sequence[str], tree: Path, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server that imports the program from a tree; yield its port and process."""
    log = folder / "serve.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=folder, env={**environment(tree), **ALGORITHM}, stderr=stderr)
    try:
        while "Listening on " not in (text := log.read_text()):
            if process.poll() is not None:
                raise RuntimeError(text)
            time.sleep(0.05)
        yield int(text.split("Listening on ")[1].split()[0].rpartition(":")[2]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def served_project(tree: Path, size: int) -> Iterator[Server]:
    """Fill a project with this many versions, and serve it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-c", FILL, name, str(size)]
        filled = subprocess.run(
            command, cwd=folder, env={**environment(tree), **ALGORITHM}, check=True, stdout=subprocess.PIPE
        )
        run_id, old, new = json.loads(filled.stdout)
        paths = {
            "live": "/health/live",
            "ready": "/health/ready",
            "production": "/models/production",
            "versions": "/models/versions",
            "one version": f"/models/versions/{old}",
            "training-history": "/models/training-history",
            "one run": f"/models/training-history/{run_id}",
            "metrics": "/metrics",
            "openapi": "/openapi.json",
            "predict timing": "/models/predict/timing",
            "compare": f"/models/compare/{old}/{new}",
        }
        with started([sys.executable, "-m", "retrainer", "serve", "--port", "0"], tree, folder) as (port, process):
            yield Server(port, process, paths)


@contextmanager
def bare_server(documents: dict[str, object]) -> Iterator[Server]:
    """Serve documents by the smallest FastAPI application."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "documents.json"
        file.write_text(json.dumps(documents))
        command = [sys.executable, "-m", "benchmarks.bare_api", str(file)]
        with started(command, ROOT, Path(name)) as (port, process):
            yield Server(port, process, {path: path for path in documents})


def show_latencies(servers: Mapping[str, Server]) -> None:
    """Print the time of a request on one kept connection."""
    title = f"one kept connection, p50 in ms, the best of {ROUNDS} rounds"
    print(f"{title:54}" + "".join(f"{name:>12}" for name in servers))
    for path_name in list(servers.values())[-1].paths:
        p50s: dict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                figures, path = Figures(), server.paths[path_name]
                asyncio.run(load(server.port, [path], 0, 1, Figures()))  # the first one prepares
                asyncio.run(load(server.port, [path], ROUND_SECONDS, 1, figures))
                p50s[name].append(statistics.median(figures.seconds[path]) * 1000)
        print(f"    {path_name:50}" + "".join(f"{min(rounds):12.2f}" for rounds in p50s.values()))


def show_rates(servers: Mapping[str, Server]) -> int:
    """Print the requests per second of 50 connections, path by path; return the number of errors."""
    failed = 0
    print(f"{CONNECTIONS} connections: requests/s, the best of {ROUNDS} rounds (server's processor time per request)")
    for path in RATED_PATHS:
        rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                figures, cpu, begun = Figures(), server.cpu(), time.perf_counter()
                asyncio.run(load(server.port, [path], ROUND_SECONDS, CONNECTIONS, figures))
                count = len(figures.seconds[path])
                rates[name].append((count / (time.perf_counter() - begun), (server.cpu() - cpu) / count))
                failed += figures.failures.total()
        best = {name: max(rounds) for name, rounds in rates.items()}
        cells = [f"{name} {rate:5.0f} ({seconds * 1e6:5.0f} us)" for name, (rate, seconds) in best.items()]
        share = best["now"][0] / best["bare"][0]
        print(f"    {path:22}{'   '.join(cells)}   now / bare {share:.2f}")
    return failed


def retrain_until(stop: threading.Event, port: int, figures: Figures) -> None:
    """Start a retrain whenever none is running."""
    body = json.dumps({"model_type": "timing", "auto_promote": False}).encode()
    headers = {"Content-Type": "application/json"}
    while not stop.wait(0.2):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/models/retrain", data=body, headers=headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request):  # noqa: S310
                figures.retrains += 1
        except urllib.error.HTTPError as error:
            if error.code != 409:  # noqa: PLR2004  still running
                figures.failures[f"POST {error.code}"] += 1
            error.close()


def show_busy(title: str, server: Server, names: Sequence[str]) -> int:
    """Load the server while retrains run, print the figures, and return the number of errors."""
    figures, stop = Figures(), threading.Event()
    retrains = threading.Thread(target=retrain_until, args=(stop, server.port, figures))
    retrains.start()
    while not figures.retrains:
        time.sleep(0.05)
    begun = time.perf_counter()
    try:
        paths = [server.paths[name] for name in names]
        asyncio.run(load(server.port, paths, SECONDS, CONNECTIONS, figures))
    finally:
        seconds = time.perf_counter() - begun
        stop.set()
        retrains.join()
        running = f"http://127.0.0.1:{server.port}/models/training-history?status=running"
        while json.load(urllib.request.urlopen(running))["count"]:
            time.sleep(0.2)
    every = list(itertools.chain.from_iterable(figures.seconds.values()))
    p50, p99 = statistics.median(every) * 1000, quantile(every, 0.99) * 1000
    print(
        f"during retrains, {title}: {len(every) / seconds:.0f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
        f"{figures.failures.total()} errors of {len(every)}, {figures.retrains} retrains"
    )
    for name, path in zip(names, paths, strict=True):
        latencies = figures.seconds[path]
        p50, p99 = statistics.median(latencies) * 1000, quantile(latencies, 0.99) * 1000
        print(f"    {name:20} p50 {p50:5.0f} ms   p99 {p99:5.0f} ms")
    for what, count in figures.failures.items():
        print(f"    FAILED {what}: {count}")
    return figures.failures.total()


def quantile(values: list[float], level: float) -> float:
    """Return the value that a share `level` of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


def main() -> None:
    """Measure with few and with many versions."""
    failed = 0
    with source_trees() as trees:
        for size in SIZES:
            print(f"\n{size} versions")
            with ExitStack() as servers_stack:
                servers = {
                    name: servers_stack.enter_context(served_project(tree, size)) for name, tree in trees.items()
                }
                now = servers["now"]
                documents = {
                    path: json.load(urllib.request.urlopen(f"http://127.0.0.1:{now.port}{path}"))
                    for path in RATED_PATHS
                }
                bare = servers_stack.enter_context(bare_server(documents))
                show_latencies(servers)
                failed += show_rates({"bare": bare, **servers})
                reads = [name for name in now.paths if name not in {"live", "openapi", "predict timing", "compare"}]
                failed += show_busy("reads", now, reads)
                failed += show_busy("reads and forecasts", now, [*reads, "predict timing", "compare"])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
