"""Process identity: which process a run belongs to, and whether that process is alive."""

from __future__ import annotations

import getpass
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

HEARTBEAT_SECONDS = 15
MAX_MISSED_HEARTBEATS = 10  # after which a process on another host counts as dead

_START_TOLERANCE = timedelta(seconds=2)  # the boot time is known to the second
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """What distinguishes a process from every other one, also across reboots.

    Attributes:
        started_at: when it started, as the time since the boot, counted from the start of 1970: setting the clock
            changes the time of the boot, and with it all start times that are derived from it.
    """

    host: str
    pid: int
    boot_id: str
    started_at: datetime

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Identify this process."""
        return cls.from_pid(os.getpid())

    @classmethod
    def from_pid(cls, pid: int) -> ProcessIdentity:
        """Identify a process on this host: this one, or a child that has not been waited for."""
        return cls(socket.gethostname(), pid, _boot_id(), _started_at(pid))


def explain_death(
    identity: ProcessIdentity, heartbeat_at: datetime, heartbeat_monotonic: float | None, clock: datetime
) -> str | None:
    """Explain why the process of a run counts as dead; None if it is alive.

    Args:
        heartbeat_at: its last heartbeat, by the clock of its host.
        heartbeat_monotonic: the same by a clock that nobody sets, which counts the seconds since the boot.
        clock: the time now.
    """
    silence = (clock - heartbeat_at).total_seconds()
    if identity.host == socket.gethostname():
        if identity.boot_id != _boot_id():
            return f"the machine '{identity.host}' was restarted"
        if not _is_alive(identity):
            return f"its process {identity.pid} is gone"
        if heartbeat_monotonic is not None:
            silence = time.monotonic() - heartbeat_monotonic
    if abs(silence) <= HEARTBEAT_SECONDS * MAX_MISSED_HEARTBEATS:
        return None
    how = f"was silent for {silence:.0f} s" if silence > 0 else f"sent a heartbeat {-silence:.0f} s from the future"
    return f"its process {identity.pid} on '{identity.host}' {how}"


def is_gone(identity: ProcessIdentity) -> bool | None:
    """Whether a process is gone; None for one on another machine, of which that is not known."""
    if identity.host != socket.gethostname():
        return None
    return identity.boot_id != _boot_id() or not _is_alive(identity)


def current_user() -> str:
    """Return the name of the user, or the number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def current_actor() -> str:
    """Return the user who acts, for the record: user@host."""
    return f"{current_user()}@{socket.gethostname()}"


def _is_alive(identity: ProcessIdentity) -> bool:
    import psutil  # noqa: PLC0415  not needed by commands that only read

    try:
        is_same = abs(_started_at(identity.pid) - identity.started_at) < _START_TOLERANCE
        return is_same and psutil.Process(identity.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _started_at(pid: int) -> datetime:
    import psutil  # noqa: PLC0415

    return datetime.fromtimestamp(psutil.Process(pid).create_time() - psutil.boot_time(), UTC)


def _boot_id() -> str:
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    import psutil  # noqa: PLC0415

    return str(int(psutil.boot_time()))
