"""Faults of a command: in the n-th change of a file, or before the n-th statement sent to the database."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any, Protocol

_REPORT_BYTES = 8192


class Action(IntEnum):
    """What happens, numbered as in faults.c."""

    COUNT = 0
    FULL = 1  # the disk is full, and stays so
    IO_ERROR = 2  # the operation fails, and those after it succeed
    KILL = 3
    CLOCK = 4  # the clock is set before it


@cache
def faults_library() -> Path | None:
    """Compile the library for LD_PRELOAD, once per test process; None without a compiler, and on other systems."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    folder = tempfile.mkdtemp(prefix="faults")
    atexit.register(shutil.rmtree, folder)
    library = Path(folder) / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class Fault(Protocol):
    """What goes wrong in a worker process, once."""

    def arm(self) -> None:
        """Start counting, in the process concerned."""

    @property
    def count(self) -> int:
        """The number of operations so far."""

    @property
    def what(self) -> str:
        """The operation that it happened to; empty if there were not as many."""


@dataclass(frozen=True)
class FileFault:
    """A fault in a change of a file.

    Attributes:
        action: what happens.
        number: which change of a file it happens to, from 1.
        folder: the folder of these files.
        report: a file outside of that folder, in which the changes are counted.
        clock: by how many seconds the clock is then wrong.
    """

    action: Action
    number: int
    folder: Path
    report: Path
    clock: int = 0

    def __post_init__(self) -> None:
        self.report.write_bytes(bytes(_REPORT_BYTES))

    def arm(self) -> None:
        """Start counting."""
        paths = (str(path).encode() for path in (self.report, self.folder))
        armed = ctypes.CDLL(None).faults_arm(*paths, int(self.action), *map(ctypes.c_long, (self.number, self.clock)))
        assert armed == 0

    @property
    def count(self) -> int:
        """The number of changes so far."""
        return int.from_bytes(self.report.read_bytes()[:8], "little")

    @property
    def what(self) -> str:
        """The operation that it happened to, and the path; empty if there were not as many changes."""
        return self.report.read_bytes()[8:].split(b"\0")[0].decode()


@dataclass(frozen=True)
class WrongClock:
    """A clock that is wrong from the start of a command.

    Attributes:
        seconds: by how much.
    """

    seconds: int
    count = 0
    what = "start"

    def arm(self) -> None:
        """Set the clock of the process concerned."""
        ctypes.CDLL(None).faults_set_clock(ctypes.c_long(self.seconds))


@dataclass(frozen=True)
class StatementFault:
    """A fault before a statement, or a commit, that a process sends to the database.

    Attributes:
        number: which of them it happens to, from 1.
        report: a file in which the statements are counted.
        terminates: whether PostgreSQL terminates all connections to the database; otherwise the process is killed.
    """

    number: int
    report: Path
    terminates: bool = False

    def __post_init__(self) -> None:
        self.report.write_text("")

    def arm(self) -> None:
        """Start counting."""
        import sqlalchemy as sa

        def note(connection: Any, statement: str) -> None:
            if self.terminates and connection.dialect.name != "postgresql":
                return  # a backup is a SQLite database
            with self.report.open("a") as report:
                print(" ".join(statement.split()), file=report)
            if self.count == self.number:
                if not self.terminates:
                    os.kill(os.getpid(), signal.SIGKILL)
                terminate_connections(connection.engine.url)

        def before(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            note(connection, statement)

        sa.event.listen(sa.Engine, "before_cursor_execute", before)
        sa.event.listen(sa.Engine, "commit", lambda connection: note(connection, "COMMIT"))

    @property
    def count(self) -> int:
        """The number of statements so far."""
        return len(self.report.read_text().splitlines())

    @property
    def what(self) -> str:
        """The statement that it happened to; empty if there were not as many."""
        return next(iter(self.report.read_text().splitlines()[self.number - 1 : self.number]), "")


def terminate_connections(url: Any) -> None:
    """Terminate all connections to a PostgreSQL database."""
    import psycopg

    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
