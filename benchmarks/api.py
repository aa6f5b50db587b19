"""How the REST API bears a load: 50 connections for 10 s on the GET endpoints while retrains run.

make bench-api

Once with 10 versions and once with 10,000, on SQLite. The load comes from this process, on the same machine as the
server and the retrains, so the figures are those of a busy machine.
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
ALGORITHM = "prophet"  # of the retrains: the one that works longest


@dataclass
class Figures:
    """What came of the requests.

    Attributes:
        seconds: how long each took, by endpoint.
        failures: how many were not answered with 200, by what was answered instead.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    retrains: int = 0


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Serve a project; yields the port."""
    said = folder / "serve.log"
    environ = {**os.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": ALGORITHM}
    with said.open("wb") as stderr:
        command = [sys.executable, "-m", "retrainer", "serve", "--port", "0"]
        process = subprocess.Popen(command, cwd=folder, env=environ, stderr=stderr)
    try:
        while "Listening on " not in (text := said.read_text()):
            if process.poll() is not None:
                raise RuntimeError(text)
            time.sleep(0.05)
        yield int(text.split("Listening on ")[1].split()[0].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def retrain_until(over: threading.Event, port: int, figures: Figures) -> None:
    """Start a retrain whenever none is running."""
    body = json.dumps({"model_type": "timing", "auto_promote": False}).encode()
    headers = {"Content-Type": "application/json"}
    while not over.wait(0.2):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/models/retrain", data=body, headers=headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request):  # noqa: S310
                figures.retrains += 1
        except urllib.error.HTTPError as error:
            if error.code != 409:  # noqa: PLR2004  one is still running
                figures.failures[f"POST {error.code}"] += 1
            error.close()


async def connection(port: int, paths: dict[str, str], start: int, deadline: float, figures: Figures) -> None:
    """Send one request after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    names = list(paths)
    for name in itertools.islice(itertools.cycle(names), start % len(names), None):
        began = time.perf_counter()
        if began > deadline:
            break
        writer.write(f"GET {paths[name]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        figures.seconds[name].append(time.perf_counter() - began)
        status = head.split()[1]
        if status != "200":
            figures.failures[f"{name} {status}"] += 1
    writer.close()
    await writer.wait_closed()


async def load(port: int, paths: dict[str, str], figures: Figures) -> float:
    """Keep all connections busy; return for how long."""
    began = time.perf_counter()
    many = (connection(port, paths, number, began + SECONDS, figures) for number in range(CONNECTIONS))
    for outcome in await asyncio.gather(*many, return_exceptions=True):
        if isinstance(outcome, BaseException):
            figures.failures[type(outcome).__name__] += 1
    return time.perf_counter() - began


def measure(port: int, paths: dict[str, str]) -> tuple[Figures, float]:
    """Load the server while retrains run."""
    figures, over = Figures(), threading.Event()
    retrains = threading.Thread(target=retrain_until, args=(over, port, figures))
    retrains.start()
    while not figures.retrains:
        time.sleep(0.05)
    try:
        return figures, asyncio.run(load(port, paths, figures))
    finally:
        over.set()
        retrains.join()
        running = f"http://127.0.0.1:{port}/models/training-history?status=running"
        while json.load(urllib.request.urlopen(running))["count"]:
            time.sleep(0.2)


def show(title: str, figures: Figures, seconds: float) -> None:
    """Print the figures of one load, in all and by endpoint."""
    every = sorted(itertools.chain.from_iterable(figures.seconds.values()))
    print(
        f"{title}: {len(every) / seconds:.0f} requests/s, p50 {statistics.median(every) * 1000:.0f} ms, "
        f"p99 {quantile(every, 0.99) * 1000:.0f} ms, {figures.failures.total()} errors of {len(every)}, "
        f"{figures.retrains} retrains"
    )
    for name, taken in figures.seconds.items():
        middle, late = statistics.median(taken) * 1000, quantile(taken, 0.99) * 1000
        print(f"    {name:20} p50 {middle:5.0f} ms   p99 {late:5.0f} ms")
    for what, count in figures.failures.items():
        print(f"    FAILED {what}: {count}")


def quantile(values: list[float], level: float) -> float:
    """Return the value that a share `level` of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


def main() -> None:
    """Measure with few and with many versions: the endpoints that look, then those that forecast beside them."""
    failed = 0
    for size in SIZES:
        with tempfile.TemporaryDirectory() as place:
            project, (old, new) = filled_project(Path(place), size)
            run_id = project.registry.list_runs(limit=1)[0].run_id
            project.close()
            looks = {
                "production": "/models/production",
                "versions": "/models/versions?model_type=timing&limit=5",
                "training-history": "/models/training-history?limit=10",
                "one run": f"/models/training-history/{run_id}",
                "one version": f"/models/versions/{old}",
                "ready": "/health/ready",
                "metrics": "/metrics",
            }
            forecasts = {"predict timing": "/models/predict/timing", "compare": f"/models/compare/{old}/{new}"}
            with server(Path(place)) as port:
                for title, paths in (("looking", looks), ("looking and forecasting", {**looks, **forecasts})):
                    figures, seconds = measure(port, paths)
                    show(f"{size} versions, {title}", figures, seconds)
                    failed += figures.failures.total()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
