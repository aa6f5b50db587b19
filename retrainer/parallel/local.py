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
from typing import TYPE_CHECKING, Any, TypeVar

from retrainer.console import prepare_streams
from retrainer.errors import RetrainerError
from retrainer.parallel.child import END_SECONDS, Forwarder, WorkerLost
from retrainer.redaction import hide_environment
from retrainer.signals import interrupt_on

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

    T = TypeVar("T")

_PROCESSES = multiprocessing.get_context("forkserver")


@dataclass
class _Worker:
    """A worker process and the connection to it."""

    process: ForkServerProcess
    connection: Connection

    @classmethod
    def start(cls, function: Callable[[Any], Any], threads: int) -> _Worker:
        try:
            connection, its_end = _PROCESSES.Pipe()
            arguments = (its_end, function, dict(os.environ), threads)
            process = _PROCESSES.Process(target=_serve, args=arguments, name="worker", daemon=True)
            process.start()
        except EOFError as error:  # which ends a command like Ctrl-C
            raise RetrainerError("cannot start a worker process: the process that forks them has ended") from error
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


def run_in_processes(
    function: Callable[[T], Any], next_unit: Callable[[], T | None], jobs: int, *, preload: Sequence[str]
) -> Generator[tuple[T, Any], None, None]:
    """Call a function for each unit in up to `jobs` processes; yield the unit with the result as it ends.

    The result is `WorkerLost` if its process was lost. When the generator is closed, the calls that are running are
    interrupted.

    Args:
        function: of a module, perhaps with arguments bound by `partial`. If its result has a true `must_end_worker`,
            its process ends.
        next_unit: returns the next unit for a free process; None if there is none for now. It is asked again after
            each result.
        jobs: the number of processes; each calls the function for one unit after another.
        preload: modules that are imported once, and shared by all processes.
    """
    _PROCESSES.set_forkserver_preload(list(preload))
    threads = max((os.cpu_count() or 1) // jobs, 1)
    idle: list[_Worker] = []
    busy: dict[Any, tuple[_Worker, T]] = {}
    try:
        while True:
            while len(busy) < jobs and (unit := next_unit()) is not None:
                worker = _hand_over(unit, idle) or _hand_over(unit, [_Worker.start(function, threads)])
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
                if isinstance(result, WorkerLost) or getattr(result, "must_end_worker", False):
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


def _hand_over(unit: object, idle: list[_Worker]) -> _Worker | None:
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


def _receive(worker: _Worker) -> Any:
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        return worker.describe_end()


def _serve(connection: Connection, function: Callable[[Any], Any], environ: Mapping[str, str], threads: int) -> None:
    """Call the function until the connection is closed, which the end of the calling process does too."""
    os.setpgrp()  # Ctrl-C on the terminal is for the calling process, which decides
    interrupt_on(signal.SIGINT, signal.SIGTERM)
    os.environ.clear()
    os.environ.update(environ)
    prepare_streams()
    os.dup2(2, 1)  # what plugins print is no result
    hide_environment(os.environ)
    forwarder = Forwarder(connection)
    logging.basicConfig(level=logging.INFO, handlers=[forwarder], force=True)

    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    with threadpool_limits(threads):
        try:
            _answer_calls(connection, function, forwarder)
        except KeyboardInterrupt:
            sys.exit(130)


def _answer_calls(connection: Connection, function: Callable[[Any], Any], forwarder: Forwarder) -> None:
    while True:
        try:
            unit = connection.recv()
        except (EOFError, OSError):
            return
        result = function(unit)
        try:
            forwarder.send(result)
        except OSError:  # the calling process is gone
            return
        if getattr(result, "must_end_worker", False):
            return
