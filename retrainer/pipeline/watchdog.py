"""Ends a run that takes longer than `retraining.max_run_minutes`, as failed.

Twice over, since a plugin may be stuck in code that hears nothing:

1. When the time is up, a signal raises an exception in the main thread. The run then fails like any other: what it had
   half written is removed, the failure is recorded and told, and the next model type has its turn.
2. Where that changes nothing within `GRACE_SECONDS`, as in a C function that never returns, a second process records
   and tells the failure, and a timer of the C library ends this one with exit code 1, `LAST_SECONDS` later.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from retrainer.errors import RetrainerError

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import TrainingRun

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
LAST_SECONDS = 5.0


class _TimeIsUp(BaseException):
    """Raised in the midst of whatever is going on; no `except Exception` of a plugin stops it."""


def took_too_long(model_type: ModelTypeName, minutes: float) -> RetrainerError:
    """Return the error of a run that is ended by its limit."""
    return RetrainerError(
        f"the {model_type} run took longer than {minutes:g} minutes (retraining.max_run_minutes) and was ended",
        hint="Production is what it was. Lower retraining.evaluation_max_predictions, or raise the limit",
    )


class TimeLimit:
    """Limits the block to the minutes of the settings; without any, it does nothing.

    Raises:
        RetrainerError: the time was up before the limit was lifted.
    """

    def __init__(self, project: Project, run: TrainingRun) -> None:
        self._project = project
        self._run = run
        self._minutes = project.settings.retraining.max_run_minutes
        self._second: subprocess.Popen[bytes] | None = None
        self._had_children: set[int] = set()
        self._before: signal.Handlers | object = None

    def __enter__(self) -> Self:
        """Set the clock."""
        if self._minutes is None:
            return self
        seconds = self._minutes * 60
        self._had_children = set(_children(os.getpid()))
        self._second = _second_process(self._project, self._run, seconds)
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS + LAST_SECONDS, exit=True, file=_nowhere())
        if threading.current_thread() is threading.main_thread():  # no other hears signals
            self._before = signal.signal(signal.SIGALRM, _raise_time_is_up) or signal.SIG_DFL
            signal.setitimer(signal.ITIMER_REAL, seconds)
        return self

    def lift(self) -> None:
        """Stop the clock: from here on, the run is let come to its end."""
        if self._second is None:
            return
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)  # type: ignore[arg-type]  # as it was given
        faulthandler.cancel_dump_traceback_later()
        _end(self._second)
        self._second = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Stop the clock, and say what ended the block."""
        if self._minutes is None:
            return
        own = {self._second.pid} if self._second else set()
        self.lift()
        if isinstance(error, _TimeIsUp):
            _kill(set(_children(os.getpid())) - self._had_children - own)
            raise took_too_long(self._run.type_name, self._minutes) from None


def _raise_time_is_up(_: int, __: FrameType | None) -> None:
    raise _TimeIsUp


_devnull: list[int] = []


def _nowhere() -> int:
    """Return a file descriptor that stays open: the C library writes to it at the end."""
    if not _devnull:
        _devnull.append(os.open(os.devnull, os.O_WRONLY))
    return _devnull[0]


def _second_process(project: Project, run: TrainingRun, seconds: float) -> subprocess.Popen[bytes]:
    """Start the process that records the failure where this one cannot; it ends when its stdin does."""
    from retrainer import output  # noqa: PLC0415

    task = {
        "config": str(project.config_file),
        "run_id": run.run_id,
        "seconds": seconds,
        "logging": output.logging_options(),
    }
    return subprocess.Popen(  # noqa: S603  this very program
        [sys.executable, "-P", "-m", __name__, json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is meant for the run
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(LAST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _closed_within(seconds: float) -> bool:
    """Wait for the run's process to be done with its limit, or gone; say whether it was in time."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable)


def main(config: str, run_id: str, seconds: float, options: dict[str, object]) -> None:
    """Be the second process: wait, and where the run is still going on when it should not, record and tell it."""
    parent = os.getppid()
    if _closed_within(seconds):
        return
    from retrainer import logs, output  # noqa: PLC0415  nothing heavy while nothing is wrong
    from retrainer.pipeline.recovery import recover  # noqa: PLC0415
    from retrainer.project import Project  # noqa: PLC0415

    output.configure_logging(**options)  # type: ignore[arg-type]  # as they were given
    logs.belong_to(run_id)
    project = Project.find(Path.cwd(), os.environ, Path(config))
    try:
        if _closed_within(GRACE_SECONDS) or not _record_and_tell(project, run_id, seconds):
            return
        _kill(set(_children(parent)) - {os.getpid()})
        _closed_within(GRACE_SECONDS + LAST_SECONDS)
        recover(project)
    finally:
        project.close()


def _record_and_tell(project: Project, run_id: str, seconds: float) -> bool:
    """Close the run as failed; say whether it was still open."""
    from datetime import timedelta  # noqa: PLC0415

    from retrainer.algorithms.manager import broadcast  # noqa: PLC0415
    from retrainer.documents import run_document  # noqa: PLC0415
    from retrainer.notify import Attempt, observing  # noqa: PLC0415

    run = project.registry.run(run_id)
    error = took_too_long(run.type_name, seconds / 60)
    closed = project.registry.fail_run(run_id, str(error), run.started_at + timedelta(seconds=seconds))
    if run.status != "running" or closed.error != str(error):
        return False
    log.error("Model training failed: %s", error)
    document = run_document(closed)
    event = {"kind": "run", "model_type": run.model_type, "version_id": None, "reason": str(error), "run": document}
    with observing(project, os.environ, Attempt(failed=True, started=True)):
        broadcast(event)
    return True


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(given["config"], given["run_id"], given["seconds"], given["logging"])
