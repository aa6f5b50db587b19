"""Load the REST API: 50 connections for 10 s on the GET endpoints while retrains run.

make bench-api

Once with 10 versions and once with 10,000, on SQLite. The load is generated on the same machine as the server and the
retrains, so the figures are those of a busy machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.registry import SIZES, filled_project

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 50
SECONDS = 10
ALGORITHM = "prophet"  # of the retrains: the slowest one


@dataclass
class Figures:
    """The outcome of the requests.

    Attributes:
        seconds: latencies by endpoint.
        failures: number of answers other than 200, by endpoint and status.
        retrains: number of runs started.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    retrains: int = 0


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Serve a project; yield the port."""
    log = folder / "serve.log"
    environ = {**os.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": ALGORITHM}
    with log.open("wb") as stderr:
        command = [sys.executable, "-m", "retrainer", "serve", "--port", "0"]
        process = subprocess.Popen(command, cwd=folder, env=environ, stderr=stderr)
    try:
        while "Listening on " not in (text := log.read_text()):
            if process.poll() is not None:
                raise RuntimeError(text)
            time.sleep(0.05)
        yield int(text.split("Listening on ")[1].split()[0].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


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


async def connection(port: int, paths: dict[str, str], start: int, deadline: float, figures: Figures) -> None:
    """Send one request after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    names = list(paths)
    for name in itertools.islice(itertools.cycle(names), start % len(names), None):
        started = time.perf_counter()
        if started > deadline:
            break
        writer.write(f"GET {paths[name]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        figures.seconds[name].append(time.perf_counter() - started)
        status = head.split()[1]
        if status != "200":
            figures.failures[f"{name} {status}"] += 1
    writer.close()
    await writer.wait_closed()


async def load(port: int, paths: dict[str, str], figures: Figures) -> float:
    """Keep all connections busy; return the seconds it took."""
    started = time.perf_counter()
    connections = (connection(port, paths, number, started + SECONDS, figures) for number in range(CONNECTIONS))
    for outcome in await asyncio.gather(*connections, return_exceptions=True):
        if isinstance(outcome, BaseException):
            figures.failures[type(outcome).__name__] += 1
    return time.perf_counter() - started


def measure(port: int, paths: dict[str, str]) -> tuple[Figures, float]:
    """Load the server while retrains run."""
    figures, stop = Figures(), threading.Event()
    retrains = threading.Thread(target=retrain_until, args=(stop, port, figures))
    retrains.start()
    while not figures.retrains:
        time.sleep(0.05)
    try:
        return figures, asyncio.run(load(port, paths, figures))
    finally:
        stop.set()
        retrains.join()
        running = f"http://127.0.0.1:{port}/models/training-history?status=running"
        while json.load(urllib.request.urlopen(running))["count"]:
            time.sleep(0.2)


def show(title: str, figures: Figures, seconds: float) -> None:
    """Print the figures of one load: overall and by endpoint."""
    every = sorted(itertools.chain.from_iterable(figures.seconds.values()))
    print(
        f"{title}: {len(every) / seconds:.0f} requests/s, p50 {statistics.median(every) * 1000:.0f} ms, "
        f"p99 {quantile(every, 0.99) * 1000:.0f} ms, {figures.failures.total()} errors of {len(every)}, "
        f"{figures.retrains} retrains"
    )
    for name, latencies in figures.seconds.items():
        p50, p99 = statistics.median(latencies) * 1000, quantile(latencies, 0.99) * 1000
        print(f"    {name:20} p50 {p50:5.0f} ms   p99 {p99:5.0f} ms")
    for what, count in figures.failures.items():
        print(f"    FAILED {what}: {count}")


def quantile(values: list[float], level: float) -> float:
    """Return the value that a share `level` of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


def main() -> None:
    """Measure with few and with many versions: read endpoints alone, then together with forecasts."""
    failed = 0
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            project, (old, new) = filled_project(Path(folder), size)
            run_id = project.registry.list_runs(limit=1)[0].run_id
            project.close()
            reads = {
                "production": "/models/production",
                "versions": "/models/versions?model_type=timing&limit=5",
                "training-history": "/models/training-history?limit=10",
                "one run": f"/models/training-history/{run_id}",
                "one version": f"/models/versions/{old}",
                "ready": "/health/ready",
                "metrics": "/metrics",
            }
            forecasts = {"predict timing": "/models/predict/timing", "compare": f"/models/compare/{old}/{new}"}
            with server(Path(folder)) as port:
                for title, paths in (("reads", reads), ("reads and forecasts", {**reads, **forecasts})):
                    figures, seconds = measure(port, paths)
                    show(f"{size} versions, {title}", figures, seconds)
                    failed += figures.failures.total()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
