"""The command lines for cron and systemd: absolute paths, independent of the shell and the working directory."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.files import is_possible_output

if TYPE_CHECKING:
    from retrainer.project import Project

log = logging.getLogger(__name__)

LOG_FILE = Path("logs") / "retrainer.log"
TRAIN_IF_DUE = ("train", "--fetch", "--if-due")
SOURCES_A_FILE = "set -a; . "  # how a crontab line reads its environment file


@dataclass(frozen=True)
class ScheduledCommand:
    """A retrainer command for one project.

    Attributes:
        interpreter: the Python that retrainer is installed in.
        config_file: the project's settings file.
        log_file: the log file.
        env_file: a file of `NAME=value` lines, for credentials, if any.
        arguments: the command and its options.
        delay_seconds: how long a crontab line waits before it runs the command.
    """

    interpreter: Path
    config_file: Path
    log_file: Path
    env_file: Path | None = None
    arguments: tuple[str, ...] = TRAIN_IF_DUE
    delay_seconds: int = 0

    def __post_init__(self) -> None:
        """Refuse a path that does not fit on one line.

        Raises:
            UsageError: a path contains a line break or another unprintable character.
        """
        for word in (self.interpreter, self.config_file, self.log_file, self.env_file, *self.arguments):
            if word is not None and not str(word).isprintable():
                raise UsageError(f"'{word}' contains an unprintable character", hint="cron and systemd need one line")

    @classmethod
    def for_project(
        cls,
        project: Project,
        log_file: Path | None,
        env_file: Path | None,
        *,
        arguments: tuple[str, ...] = TRAIN_IF_DUE,
        default_log_file: Path = LOG_FILE,
        delay_seconds: int = 0,
    ) -> ScheduledCommand:
        """Return a command of a project, run by this Python.

        Args:
            default_log_file: relative to the project folder; for `log_file` None.

        Raises:
            UsageError: the environment file does not exist, or the log file cannot be created.
        """
        if env_file is not None and not env_file.is_file():
            raise UsageError(f"--env-file: no file '{env_file}'", hint="Create it, with lines NAME=value")
        if env_file is not None and env_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("Other users can access '%s', which holds secrets. Run chmod 600 on it", env_file)
        if log_file is not None and not (is_possible_output(log_file) and log_file.absolute().parent.is_dir()):
            raise UsageError(f"--job-log: cannot write '{log_file}'", hint="Choose a file in an existing folder")
        if log_file is None:
            log_file = project.folder / default_log_file
            with suppress(OSError):  # the job reports a log file that it cannot write
                log_file.parent.mkdir(exist_ok=True)
        return cls(
            interpreter=Path(sys.executable),
            config_file=project.config_file,
            log_file=log_file.absolute(),
            env_file=env_file and env_file.absolute(),
            arguments=arguments,
            delay_seconds=delay_seconds,
        )

    @property
    def words(self) -> list[str]:
        """The words of the command. `-P` keeps Python from importing modules of the working directory."""
        command = [str(self.interpreter), "-P", "-m", "retrainer", "--quiet"]
        return [*command, "--config", str(self.config_file), "--log-file", str(self.log_file), *self.arguments]

    def crontab_command(self) -> str:
        """Return the command for a crontab: only warnings and errors are mailed, and every % is escaped."""
        line = " ".join(quote_for_cron(word) for word in self.words) + " >/dev/null"
        if self.env_file is not None:
            line = f"{SOURCES_A_FILE}{quote_for_cron(str(self.env_file))}; set +a; {line}"
        return f"sleep {self.delay_seconds}; {line}" if self.delay_seconds else line

    def systemd_command(self) -> str:
        """Return the command for ExecStart=."""
        return " ".join(quote_for_systemd(word) for word in self.words)


def choose_delay(config_file: Path, minutes: int) -> int:
    """Choose by how many seconds to delay the jobs of a project, less than so many minutes.

    The delay depends on host and project: it spreads the jobs of many of them, and is the same every day, so that the
    time between two runs stays the same.
    """
    digest = hashlib.sha256(os.fsencode(f"{socket.gethostname()}:{config_file}")).digest()
    return int.from_bytes(digest) % (60 * minutes) if minutes else 0


def quote_for_cron(word: str) -> str:
    """Quote a word for the shell, and escape every %, outside of quotes, by a backslash that cron removes."""
    quoted = shlex.quote(word)
    return quoted.replace("%", "'\\%'" if quoted.startswith("'") else "\\%")


def quote_for_systemd(word: str) -> str:
    """Quote a word for systemd, where % and $ and the backslash are special."""
    special = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{special}"' if special != word or not word.isascii() or any(char in word for char in " ';") else word
