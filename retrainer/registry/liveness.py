"""Which process a run belongs to, and whether that process still lives."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

HEARTBEAT_SECONDS = 15
SILENT_HEARTBEATS = 10  # after so many unheard ones a process elsewhere counts as gone

# When a process started is known from the time of boot, which moves when the clock is set; a number is not given to
# another process so soon.
_SAME_START = timedelta(minutes=1)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """What tells one process from every other, on this machine and after a restart of it."""

    host: str
    pid: int
    boot_id: str
    started_at: datetime

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Identify this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Identify a process of this machine that is there: this one, or a child not waited for yet."""
        return cls(socket.gethostname(), pid, _boot_id(), _started_at(psutil.Process(pid)))


def explain_death(identity: ProcessIdentity, heartbeat_at: datetime, clock: datetime) -> str | None:
    """Say why the process of a run no longer counts as alive; None where it does."""
    if identity.host == socket.gethostname():
        if identity.boot_id != _boot_id():
            return f"the machine '{identity.host}' was restarted"
        if not _lives(identity):
            return f"its process {identity.pid} is gone"
    silence = clock - heartbeat_at
    if silence > timedelta(seconds=HEARTBEAT_SECONDS * SILENT_HEARTBEATS):
        return f"its process {identity.pid} on '{identity.host}' was silent for {silence.total_seconds():.0f} s"
    return None


def current_actor() -> str:
    """Return who is acting, for the record: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _lives(identity: ProcessIdentity) -> bool:
    try:
        process = psutil.Process(identity.pid)
        is_same = abs(_started_at(process) - identity.started_at) < _SAME_START
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _started_at(process: psutil.Process) -> datetime:
    return datetime.fromtimestamp(process.create_time(), UTC)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else str(int(psutil.boot_time()))
