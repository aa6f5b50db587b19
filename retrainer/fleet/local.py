"""Worker processes on this machine.

Each has a connection of its own, so one that is killed takes no other one along. The workers of a pool (of the standard
library, loky or Pebble) share queues and locks: when one is killed, the others end, or wait for a lock that it held.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from retrainer.console import prepare_streams
from retrainer.errors import RetrainerError
from retrainer.parallel.child import END_SECONDS, Forwarder, WorkerLost
from retrainer.redaction import hide_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec
    from retrainer.parallel.child import NotStarted

log = logging.getLogger(__name__)

_PRELOADED = ["pandas", "psutil", "retrainer.fleet.worker", "retrainer.posts.store", "retrainer.registry.database"]
_PRELOADED += ["retrainer_baseline"]
_PROCESSES = multiprocessing.get_context("forkserver")


@dataclass
class _Worker:
    """A worker process and the connection to it."""

    process: ForkServerProcess
    connection: Connection

    @classmethod
    def start(cls, spec: WorkerSpec, threads: int) -> _Worker:
        _PROCESSES.set_forkserver_preload(_PRELOADED)  # imported once, and shared by all workers
        try:
            connection, its_end = _PROCESSES.Pipe()
            arguments = (its_end, spec, dict(os.environ), threads)
            process = _PROCESSES.Process(target=_serve, args=arguments, name="fleet worker", daemon=True)
            process.start()
        except OSError as error:
            raise RetrainerError(f"cannot start a worker process: {error.strerror or error}") from error
        its_end.close()
        return cls(process, connection)

    def describe_end(self) -> WorkerLost:
        """Wait for the end of the process, which has closed its connection, and describe it."""
        self.process.join(END_SECONDS)
        code = self.process.exitcode
        how = f"with signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return WorkerLost(f"its process {self.process.pid} ended {how}", self.process.pid)

    def interrupt(self) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)

    def stop(self, deadline: float) -> None:
        self.connection.close()
        self.process.join(max(deadline - time.monotonic(), 0))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class LocalProcesses:
    """Runs units in processes of this machine; see `Backend`."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost | NotStarted], None, None]:
        """Run units in up to `jobs` processes; each makes one run after another."""
        del is_stopping  # no unit waits in a worker
        threads = max((os.cpu_count() or 1) // self._jobs, 1)
        idle: list[_Worker] = []
        busy: dict[Any, tuple[_Worker, Unit]] = {}
        try:
            while True:
                while len(busy) < self._jobs and (unit := next_unit()) is not None:
                    worker = _hand_over(unit, idle) or _hand_over(unit, [_Worker.start(spec, threads)])
                    if worker is None:
                        yield unit, WorkerLost("its process ended before it began")
                    else:
                        busy[worker.connection] = worker, unit
                if not busy:
                    return
                for connection in wait(list(busy)):
                    worker, unit = busy[connection]
                    result = _receive(worker)
                    if isinstance(result, logging.LogRecord):
                        logging.getLogger(result.name).handle(result)
                        continue
                    del busy[connection]
                    if isinstance(result, WorkerLost) or result.must_end_worker:
                        worker.stop(time.monotonic() + END_SECONDS)
                    else:
                        idle.append(worker)
                    yield unit, result
        finally:
            for worker, _ in busy.values():
                worker.interrupt()
            deadline = time.monotonic() + END_SECONDS
            for worker in [*idle, *(worker for worker, _ in busy.values())]:
                worker.stop(deadline)


def _hand_over(unit: Unit, idle: list[_Worker]) -> _Worker | None:
    """Hand a unit to an idle worker and return it; None if there is none, or all of them have ended meanwhile."""
    while idle:
        worker = idle.pop()
        try:
            worker.connection.send(unit)
        except OSError:  # it was killed while it was idle
            worker.stop(time.monotonic())
        else:
            return worker
    return None


def _receive(worker: _Worker) -> Outcome | WorkerLost | logging.LogRecord:
    try:
        result: Outcome | logging.LogRecord = worker.connection.recv()
    except (EOFError, OSError):
        return worker.describe_end()
    return result


def _serve(connection: Connection, spec: WorkerSpec, environ: Mapping[str, str], threads: int) -> None:
    """Run units until the connection is closed, which the end of the fleet's process does too."""
    os.setpgrp()  # Ctrl-C on the terminal is for the fleet, which decides
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environ)
    prepare_streams()
    os.dup2(2, 1)  # what plugins print is no result
    hide_environment(os.environ)
    forwarder = Forwarder(connection)
    logging.basicConfig(level=logging.INFO, handlers=[forwarder], force=True)

    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    from retrainer.fleet.worker import run_unit  # noqa: PLC0415  preloaded

    with threadpool_limits(threads):
        while True:
            try:
                unit = connection.recv()
            except (EOFError, OSError):
                return
            try:
                outcome = run_unit(spec, unit)
            except KeyboardInterrupt:  # the run is closed as failed
                sys.exit(130)
            try:
                forwarder.send(outcome)
            except OSError:  # the fleet is gone
                return
            if outcome.must_end_worker:
                return
