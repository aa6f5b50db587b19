"""A server under load for a long time: honest callers beside idle, slow and broken ones, while it retrains."""

from __future__ import annotations

import asyncio
import itertools
import resource
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import pytest

from retrainer.api.server import BACKLOG, MAX_CONNECTIONS
from tests.api.conftest import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.api.conftest import ServeProcess

GETS_PER_SECOND = 200
HONEST_CONNECTIONS = 20
IDLE_SOCKETS = 600  # more than the server keeps
BROKEN_PER_SECOND = 20
MIN_RETRAINS = 3
SECONDS_BETWEEN_RETRAINS = 15
MAX_LOG_BYTES = 5_000_000
MEGABYTE = 2**20
BROKEN = (
    b"no http\r\n\r\n",
    b"GET / HTTP/1.1\r\nbroken header\r\n\r\n",
    b"POST /models/rollback/timing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{",
    b"POST /models/rollback/timing HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n\r\n",
    b"GET /health/live HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,  # and leaves without reading
)


@dataclass
class Load:
    """The load on a server, and what it saw.

    Attributes:
        live_seconds: the latencies of `/health/live`.
        failures: what went wrong for the honest callers.
        memory: of the server, each second, in bytes.
        files: the number of files that the server has open, each second.
    """

    port: int
    process: psutil.Process
    paths: Sequence[str]
    seconds: float
    live_seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answers: int = 0
    retrains: int = 0
    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    async def run(self) -> None:
        """Load the server until the time is over."""
        self._deadline = time.monotonic() + self.seconds
        others = [asyncio.create_task(self._forever(self._idle)) for _ in range(IDLE_SOCKETS)]
        others += [asyncio.create_task(self._forever(call)) for call in (self._slow_head, self._slow_reader) * 5]
        others += [asyncio.create_task(self._send_broken())]
        try:
            await asyncio.gather(self._watch(), self._retrain(), self._call_honestly())
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _call_honestly(self) -> None:
        queues: list[asyncio.Queue[str | None]] = [asyncio.Queue() for _ in range(HONEST_CONNECTIONS)]
        callers = [asyncio.create_task(self._honest(queue)) for queue in queues]
        begun = time.monotonic()
        for number, path in enumerate(itertools.cycle(self.paths)):
            at = begun + number / GETS_PER_SECOND
            if at > self._deadline:
                break
            await asyncio.sleep(max(at - time.monotonic(), 0))
            queues[number % HONEST_CONNECTIONS].put_nowait(path)
        for queue in queues:
            queue.put_nowait(None)
        await asyncio.gather(*callers)

    async def _honest(self, queue: asyncio.Queue[str | None]) -> None:
        """Send requests on one connection, which the server may close only after a silence."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while (path := await queue.get()) is not None:
            if self.failures and time.monotonic() > self._deadline:
                break  # a server that no longer answers is not waited for at each request
            sent = time.monotonic()
            try:
                status = await self._request(reader, writer, f"GET {path}")
            except (OSError, EOFError) as error:
                self.failures.append(f"{path}: {error!r}")
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                continue
            self.answers += 1
            if path == "/health/live":
                self.live_seconds.append(time.monotonic() - sent)
            if status != 200:
                self.failures.append(f"{path}: {status}")
        writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str) -> int:
        writer.write(f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        return int(head.split()[1])

    async def _retrain(self) -> None:
        while time.monotonic() < self._deadline + (PATIENCE if self.retrains < MIN_RETRAINS else 0):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            status = await self._request(reader, writer, "POST /models/retrain")
            writer.close()
            self.retrains += status == 202
            await asyncio.sleep(SECONDS_BETWEEN_RETRAINS if status == 202 else 1)  # a run in progress is refused

    async def _watch(self) -> None:
        while time.monotonic() < self._deadline:
            self.memory.append(self.process.memory_info().rss)
            self.files.append(self.process.num_fds())
            await asyncio.sleep(1)

    async def _forever(self, call: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        """Connect, call until the server closes the connection, and begin again."""
        while True:
            with suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    await call(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(1)

    async def _idle(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def _slow_head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            writer.write(b"G")
            await writer.drain()
            await asyncio.sleep(0.5)

    async def _slow_reader(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while True:
            writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 10)
            await writer.drain()
            await asyncio.sleep(1)

    async def _send_broken(self) -> None:
        for request in itertools.cycle(BROKEN):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request)
                await asyncio.sleep(0)
                writer.close()
            await asyncio.sleep(1 / BROKEN_PER_SECOND)


@pytest.mark.parametrize(
    "seconds", [pytest.param(75, marks=pytest.mark.slow), pytest.param(1800, marks=pytest.mark.soak)]
)
def test_a_server_under_load_stays_as_it_is(
    seconds: int, two_versions: tuple[str, str], serve_process: ServeProcess
) -> None:
    old, new = two_versions
    server = serve_process()
    run_id = server.get("/models/training-history").json()["training_runs"][0]["run_id"]
    shares = {
        "/health/live": 50,
        "/health/ready": 9,
        "/models/production": 40,
        "/models/versions": 40,
        f"/models/versions/{old}": 10,
        "/models/training-history": 30,
        f"/models/training-history/{run_id}": 10,
        "/metrics": 5,
        "/models/predict/timing": 5,
        f"/models/compare/{old}/{new}": 1,
    }
    assert sum(shares.values()) == GETS_PER_SECOND
    paths = [path for path, share in shares.items() for _ in range(share)]
    mixed = [paths[number * 67 % GETS_PER_SECOND] for number in range(GETS_PER_SECOND)]
    load = Load(server.port, psutil.Process(server.process.pid), mixed, seconds)
    for path in shares:
        assert server.get(path).status_code == 200
    files_before = load.process.num_fds()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        asyncio.run(load.run())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + PATIENCE
    while load.process.num_fds() > files_before + 15 and time.monotonic() < deadline:  # connections of the database
        time.sleep(0.1)
    files_after = load.process.num_fds()
    assert server.stop() == 0

    quarter = len(load.memory) // 4
    early, late = (statistics.median(part) for part in (load.memory[quarter : 2 * quarter], load.memory[-quarter:]))
    log_bytes = sum(map(len, server.lines))
    p50, p99 = (statistics.quantiles(load.live_seconds, n=100)[rank - 1] * 1000 for rank in (50, 99))
    print(  # noqa: T201  the figures that a long run is made for
        f"\n{load.answers} answers, {load.retrains} retrains; /health/live p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
        f"memory {early / MEGABYTE:.0f}, then {late / MEGABYTE:.0f} MB; files {files_before}, at most "
        f"{max(load.files)}, then {files_after}; log {log_bytes} bytes"
    )
    assert not load.failures, (len(load.failures), load.failures[:10])
    assert load.answers > 0.9 * GETS_PER_SECOND * seconds
    assert load.retrains >= MIN_RETRAINS
    assert late < 1.1 * early + 10 * MEGABYTE
    # The event loop accepts a second batch before it closes what the first one displaced.
    assert max(load.files) < MAX_CONNECTIONS + 2 * BACKLOG + 60
    assert files_after <= files_before + 15
    assert log_bytes < MAX_LOG_BYTES
    if seconds > 1000:
        assert p99 < 50
