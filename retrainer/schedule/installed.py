"""The schedules of a project on this machine, and whether anything runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retrainer.errors import RetrainerError
from retrainer.schedule.command import quote_for_systemd
from retrainer.schedule.crontab import Crontab, find_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

CRON_DAEMONS = frozenset({"cron", "crond", "bcron-sched"})  # Debian, macOS; cronie, dcron, BusyBox; bcron
NO_DAEMON = "no cron daemon is running"
START_DAEMON = "Start it, for example with: sudo systemctl enable --now cron"
REINSTALL = "Run `retrainer schedule install` again"
OWN_CRONTAB = "your crontab"
_SYSTEMD_FOLDER = "systemd/system"
_SYSTEMCTL_SECONDS = 10


@dataclass(frozen=True)
class Schedule:
    """A schedule that calls retrainer for a project.

    Attributes:
        kind: what runs it: cron, or a systemd timer.
        where: the crontab or the file.
        line: the line of the crontab, or the timer's name.
        command: the line of the crontab, or that of the timer's service which says what to run.
        active: whether the cron daemon is running or the timer is active; None if that cannot be known.
    """

    kind: Literal["cron", "systemd"]
    where: str
    line: str
    command: str
    active: bool | None

    @property
    def problem(self) -> str | None:
        """Why it does not run; None if it runs, or if that cannot be known."""
        if self.active is not False:
            return None
        return NO_DAEMON if self.kind == "cron" else f"the timer '{self.line}' is not active"

    @property
    def remedy(self) -> str:
        """What to do about the problem."""
        return START_DAEMON if self.kind == "cron" else f"Start it with: sudo systemctl enable --now {self.line}"

    @property
    def replacement(self) -> str:
        """How to replace it by one that trains all streams."""
        if self.where == OWN_CRONTAB:
            return REINSTALL
        option = "--system" if self.kind == "cron" else "--systemd"
        return f"Replace it with what `retrainer schedule show {option}` prints"


def find_schedules(config_file: Path, etc: Path = Path("/etc")) -> list[Schedule]:
    """Return the schedules of a project: in the user's crontab, in /etc/crontab and /etc/cron.d, and as systemd timers.

    Args:
        config_file: the project's settings file, by which its schedules are recognized.
        etc: the folder of the system's settings.
    """
    lines = [*_own_crontab(config_file), *_system_crontabs(config_file, etc)]
    active = cron_is_running() if lines else None
    found = [Schedule("cron", where, line, line, active) for where, line in lines]
    return [*found, *_timers(config_file, etc)]


def names_no_stream(command: str) -> bool:
    """Whether a command line trains, but does not say which streams, as it must if there are several."""
    words = command.split()
    return "train" in words and not any(word.startswith(("--all-streams", "--stream")) for word in words)


def cron_is_running() -> bool | None:
    """Whether a cron daemon is running; None if this user cannot see the processes of others."""
    import psutil  # noqa: PLC0415  not needed by commands that only schedule

    names = {process.pid: process.info["name"] for process in psutil.process_iter(["name"])}
    if not CRON_DAEMONS.isdisjoint(names.values()):
        return True
    return False if 1 in names else None  # /proc may be mounted so that it hides them


def _own_crontab(config_file: Path) -> Iterator[tuple[str, str]]:
    with suppress(RetrainerError):  # there is no crontab, or it cannot be read
        for line in find_lines(os.fsdecode(Crontab().read()), config_file):
            yield OWN_CRONTAB, line


def _system_crontabs(config_file: Path, etc: Path) -> Iterator[tuple[str, str]]:
    for path in (etc / "crontab", *_files(etc / "cron.d")):
        for line in find_lines("\n".join(_lines(path)), config_file):
            yield str(path), line


def _timers(config_file: Path, etc: Path) -> Iterator[Schedule]:
    wanted = f" {quote_for_systemd(str(config_file))} "
    for service in _files(etc / _SYSTEMD_FOLDER, "*.service"):
        timer = service.with_suffix(".timer")
        commands = [line for line in _lines(service) if line.startswith("ExecStart=") and wanted in f"{line} "]
        if timer.exists() and commands:
            yield Schedule("systemd", str(timer), timer.name, commands[0], _is_active(timer.name))


def _is_active(timer: str) -> bool | None:
    """Whether systemd runs a timer; None without systemd."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    with suppress(OSError, subprocess.TimeoutExpired):
        command = [program, "is-active", "--quiet", timer]
        done = subprocess.run(command, check=False, capture_output=True, timeout=_SYSTEMCTL_SECONDS)  # noqa: S603
        return done.returncode == 0
    return None


def _files(folder: Path, pattern: str = "*") -> list[Path]:
    with suppress(OSError):
        return sorted(folder.glob(pattern))
    return []


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return []
