"""The process in which a worker of a cluster makes one call after another.

The worker's own process belongs to its engine, which may run the work of others in its threads. A process of our own
has a main thread, which a time limit or Ctrl-C can interrupt, and may end without taking the worker along.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from retrainer.errors import wrap_unexpected
from retrainer.logs import IN_WORKER, apply_log_context
from retrainer.redaction import redact
from retrainer.signals import interrupt_on

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")

IDLE_SECONDS = 60  # after which a process without work ends
POLL_SECONDS = 0.5
END_SECONDS = 20  # for an interrupted call to end, before its process is killed

_TRIM = "MALLOC_TRIM_THRESHOLD_"  # Dask sets it, so that its workers give memory back soon; runs take a quarter longer
_ONE_THREAD = dict.fromkeys(("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class WorkerLost:
    """A worker ended before it handed back what it was to compute.

    Attributes:
        reason: how it ended, such as `its process 4711 ended with signal 9`.
        pid: its process, if known.
    """

    reason: str
    pid: int | None = None


@dataclass(frozen=True)
class NotStarted:
    """A call was withdrawn before it began."""


class Answer(NamedTuple):
    """What a call returned, or that it was lost or withdrawn, and what it logged."""

    result: Any
    records: list[logging.LogRecord]


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    connection: Connection

    @classmethod
    def start(cls) -> _Child:
        connection, its_end = multiprocessing.Pipe()
        environ = {name: value for name, value in os.environ.items() if name != _TRIM}
        with its_end:
            process = subprocess.Popen(  # noqa: S603
                # -P: no module in the worker's current folder takes the place of another
                [sys.executable, "-P", "-m", "retrainer.parallel.child", str(its_end.fileno()), str(os.getpid())],
                pass_fds=[its_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ONE_THREAD | environ,
                start_new_session=True,  # Ctrl-C on the worker's terminal is for the engine
            )
        return cls(process, connection)

    def receive(self) -> Answer:
        records: list[logging.LogRecord] = []
        try:
            while True:
                while not self.connection.poll(POLL_SECONDS):
                    pass  # Ray's interrupt does not end the wait for a connection
                if not isinstance(result := self.connection.recv(), logging.LogRecord):
                    break
                records.append(result)
        except (EOFError, OSError):
            result = self.end()
        return Answer(result, records)

    def interrupt(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def end(self) -> WorkerLost:
        """Wait for the end of the process; kill it if it does not come."""
        self.connection.close()
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        how = f"with signal {-code}" if code < 0 else f"with exit code {code}"
        return WorkerLost(f"its process {self.process.pid} ended {how}", self.process.pid)


_idle: list[_Child] = []
_busy: dict[_Child, str] = {}
_withdrawn: set[str] = set()


def call_in_child(token: str, function: Callable[[T], Any], argument: T) -> Answer:
    """Call a function in a child process, which is kept for the next call.

    Args:
        token: of the caller, by which it can interrupt its calls.
    """
    if token in _withdrawn:
        return Answer(NotStarted(), [])
    child = _hand_over(token, function, argument)
    try:
        answer = child.receive()
    except BaseException:
        child.interrupt()
        child.end()
        raise
    finally:
        del _busy[child]
    if getattr(answer.result, "must_end_worker", False):
        child.end()
    if not child.connection.closed:
        _idle.append(child)
    return answer


def withdraw_calls(token: str) -> None:
    """Let no further call of a caller begin in this process; those that have begun go on."""
    _withdrawn.add(token)


def interrupt_calls(token: str) -> None:
    """Interrupt the calls of a caller in this process, as by Ctrl-C, and let no other begin."""
    withdraw_calls(token)
    for child, its_token in list(_busy.items()):
        if its_token == token:
            child.interrupt()


def _hand_over(token: str, function: Callable[[T], Any], argument: T) -> _Child:
    while True:
        try:
            child, is_new = _idle.pop(), False
        except IndexError:
            child, is_new = _Child.start(), True
        _busy[child] = token
        try:
            child.connection.send((function, argument))
        except OSError:  # it was idle for too long, or killed
            if is_new:
                return child  # whose answer is that it was lost
            del _busy[child]
            child.end()
        else:
            return child


class Forwarder(QueueHandler):
    """Sends the log records of a process through its connection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # the connection is its queue
        self._connection = connection
        self.addFilter(lambda record: record.name.startswith("retrainer") or record.levelno >= logging.WARNING)
        self.addFilter(apply_log_context)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return what is sent of a record: strings, the traceback apart, without the secrets of this process."""
        sent = copy.copy(record)
        sent.msg, sent.args = redact(record.getMessage()), None
        if record.exc_info:
            sent.exc_text, sent.exc_info = redact(logging.Formatter().formatException(record.exc_info)), None
        return sent

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record; the lock of the handler keeps threads apart."""
        setattr(record, IN_WORKER, True)
        self._connection.send(record)

    def send(self, result: object) -> None:
        """Send something else than a record."""
        self.acquire()
        try:
            self._connection.send(result)
        finally:
            self.release()


@cache
def exit_with(parent: int) -> None:
    """End this process as soon as its parent is gone, whatever signal ended it."""
    if sys.platform != "linux":
        return
    try:
        handle = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([handle], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="exit with the parent", daemon=True).start()


def _serve(connection: Connection, parent: int) -> None:
    """Answer calls until the connection is closed, or none came for a while."""
    exit_with(parent)
    interrupt_on(signal.SIGINT, signal.SIGTERM)
    from retrainer.console import prepare_streams  # noqa: PLC0415
    from retrainer.redaction import hide_environment  # noqa: PLC0415

    prepare_streams()
    hide_environment(os.environ)
    forwarder = Forwarder(connection)
    logging.basicConfig(level=logging.INFO, handlers=[forwarder], force=True)
    while connection.poll(IDLE_SECONDS):
        try:
            function, argument = connection.recv()
            result = function(argument)
        except (EOFError, OSError):
            return
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:  # noqa: BLE001  such as a module that this machine does not have
            result = WorkerLost(str(wrap_unexpected(error)), os.getpid())
        forwarder.send(result)
        if getattr(result, "must_end_worker", False):
            return


if __name__ == "__main__":
    with suppress(OSError, KeyboardInterrupt):  # the worker is gone
        _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
