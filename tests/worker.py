"""Worker processes of the registry tests, forked from a server that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.events import EventBus
from retrainer.errors import NothingToRollBack, PromotionRefused
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.project import Project
from retrainer.render.events import event_document
from retrainer.runtime import Runtime
from tests.command_line import environment
from tests.faults.injection import faults_library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.synchronize import Event

    from tests.faults.injection import Fault

IMPORTED = ["alembic.context", "filelock", "pandas", "psutil", "psycopg", "rich.table", "retrainer_baseline"]
IMPORTED += ["retrainer.cli.program", "retrainer.cli.train", "retrainer.cli.versions", "retrainer.live.rollback"]
IMPORTED += ["retrainer.pipeline.run", "retrainer.posts.store", "retrainer.registry.database"]
IMPORTED += ["retrainer.registry.folder_place", "retrainer.registry.production_links", "retrainer.registry.registry"]
IMPORTED += ["retrainer.render.documents.runs", "retrainer.render.tables"]
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass
class Worker:
    """A process that waits, ready for its work, until it is released."""

    process: ForkServerProcess
    ready: Event
    released: Event
    out_file: Path
    err_file: Path

    @classmethod
    def start(
        cls,
        folder: Path,
        work: Callable[..., None],
        *arguments: object,
        env: Mapping[str, str] | None = None,
        fault: Fault | None = None,
    ) -> Worker:
        """Start a worker.

        Args:
            folder: where its output is written.
            work: a function at the top level of a module.
            arguments: the arguments of the function.
            env: additional environment variables.
            fault: what goes wrong in its work.
        """
        _start_server()
        ready, released = _CONTEXT.Event(), _CONTEXT.Event()
        number = len(list(folder.glob("worker*.out")))
        out_file, err_file = (folder / f"worker{number}.{name}" for name in ("out", "err"))
        out_file.touch()
        process = _CONTEXT.Process(
            target=_work_when_released,
            args=(work, arguments, {**os.environ, **(env or {})}, (out_file, err_file), ready, released, fault),
            daemon=True,
        )
        process.start()
        return cls(process, ready, released, out_file, err_file)

    def is_running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()

    def finish(self, timeout: float = 600) -> int:
        """Wait for the end; return the exit code, which is negative for a signal."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running after {timeout} s: {self.err}"
        return self.process.exitcode

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text()


@cache
def _start_server() -> None:
    """Start the server with the library that lets operations on files fail, if there is a compiler for it.

    A server that a command of an earlier test has started lacks the library: it ends.
    """
    library = faults_library()
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)  # by itself it ends after all of its children
    server._stop()
    _CONTEXT.set_forkserver_preload(IMPORTED)
    with environment({} if library is None else {"LD_PRELOAD": str(library)}):
        forkserver.ensure_running()


def release(workers: Sequence[Worker]) -> None:
    """Let workers begin at once, when all of them are ready."""
    for worker in workers:
        assert worker.ready.wait(600), worker.err
    for worker in workers:
        worker.released.set()


def _work_when_released(
    work: Callable[..., None],
    arguments: tuple[object, ...],
    environ: dict[str, str],
    files: tuple[Path, Path],
    ready: Event,
    released: Event,
    fault: Fault | None,
) -> None:
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  until the process ends
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115  as above
    ready.set()
    released.wait()
    if fault is not None:
        fault.arm()
    work(*arguments)


def first_use(folder: Path) -> None:
    """Open a registry that nobody has used yet."""
    project = Project.find(folder, {})
    assert project.registry.list_versions() == []
    project.close()


def start_run(folder: Path) -> None:
    """Start a run, and end without closing it."""
    Project.find(folder, {}).registry.start_run("timing", "baseline", datetime.now(UTC), None)


def change(folder: Path, seconds: float, seed: int) -> None:
    """Promote and roll back versions at random for a while, at least once, and print how often.

    Losing a race is no failure.
    """
    choose = random.Random(seed)  # noqa: S311  no secret
    runtime = Runtime(EventBus(event_document, mute=True))
    project = Project.find(folder, {})
    ids = [version.version_id for version in project.registry.list_versions("timing")]
    changes = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not changes:
        try:
            if choose.random() < 0.7:
                promote_version(project, runtime, choose.choice(ids), f"worker {seed}", datetime.now(UTC))
            else:
                roll_back(project, runtime, "timing", f"worker {seed}", datetime.now(UTC), hold=False)
            changes += 1
        except (PromotionRefused, NothingToRollBack):
            pass
    project.close()
    print(changes)  # noqa: T201  its result


def command(folder: Path, *arguments: str) -> None:
    """Run a command line of `retrainer`."""
    from retrainer.cli.program import run

    os.chdir(folder)
    sys.exit(run(arguments))


def kill_at(folder: Path, name: str, when: str, max_bytes: int | None) -> None:
    """Train, and kill this process when it has called a function, or is about to call it.

    Args:
        folder: the project folder.
        name: the dotted name of the function; methods of `Path` count for staged files and folders only.
        when: `before` or `after`.
        max_bytes: the largest version that is copied to the database; None for the usual.
    """
    from retrainer.registry import artifacts

    if max_bytes is not None:
        artifacts.MAX_BYTES_IN_DATABASE = max_bytes
    owner, _, attribute = name.rpartition(".")
    target = pkgutil.resolve_name(owner)
    original = getattr(target, attribute)

    def replacement(*arguments: object, **options: object) -> object:
        counts = target is not Path or "/.staging/" in str(arguments[0])
        if counts and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if counts:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(target, attribute, replacement)
    command(folder, "train", "timing")
