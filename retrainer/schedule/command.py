"""The command lines that cron or systemd runs: absolute paths, no shell start-up files, any working directory."""

from __future__ import annotations

import logging
import shlex
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import UsageError

if TYPE_CHECKING:
    from retrainer.project import Project

logger = logging.getLogger(__name__)

LOG_FILE = Path("logs") / "retrainer.log"
WHAT_IS_DUE = ("train", "--if-due")
SOURCES_A_FILE = "set -a; . "


@dataclass(frozen=True)
class ScheduledCommand:
    """A command of retrainer for one project.

    Attributes:
        interpreter: Python, of the environment that retrainer is installed in.
        config: the project's settings file.
        log: the log file.
        environment: a file of `NAME=value` lines, for credentials; None for none.
        arguments: the command itself.
    """

    interpreter: Path
    config: Path
    log: Path
    environment: Path | None = None
    arguments: tuple[str, ...] = WHAT_IS_DUE

    def __post_init__(self) -> None:
        """Refuse a path that one line cannot hold.

        Raises:
            UsageError: a path has a line break in it.
        """
        for word in (self.interpreter, self.config, self.log, self.environment, *self.arguments):
            if word is not None and not str(word).isprintable():
                raise UsageError(
                    f"'{word}' cannot stand in a crontab or unit: it holds a character that cannot be printed"
                )

    @classmethod
    def of(
        cls,
        project: Project,
        log: Path | None,
        environment: Path | None,
        *,
        arguments: tuple[str, ...] = WHAT_IS_DUE,
        usual_log: Path = LOG_FILE,
    ) -> ScheduledCommand:
        """Return the command of a project, run by this Python.

        Args:
            usual_log: the log file in the project's folder where `log` names no other.

        Raises:
            UsageError: the environment file does not exist, or there cannot be the log file.
        """
        if environment is not None and not environment.is_file():
            raise UsageError(f"--env-file: there is no file '{environment}'", hint="Make it, with lines NAME=value")
        if environment is not None and environment.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            logger.warning("Others may use the file '%s', which holds secrets: chmod 600 closes it", environment)
        if log is not None and (log.is_dir() or not log.absolute().parent.is_dir()):
            raise UsageError(f"--job-log: '{log}' cannot be a log file", hint="Name a file in a folder that there is")
        if log is None:
            with suppress(OSError):  # then the job says so, as of any log file that cannot be written
                (project.folder / usual_log).parent.mkdir(exist_ok=True)
        return cls(
            interpreter=Path(sys.executable),
            config=project.config_file,
            log=(log or project.folder / usual_log).absolute(),
            environment=environment and environment.absolute(),
            arguments=arguments,
        )

    @property
    def words(self) -> list[str]:
        """The words of the command. `-P` keeps modules in the working directory from being taken for Python's own."""
        command = [str(self.interpreter), "-P", "-m", "retrainer", "--quiet"]
        return [*command, "--config", str(self.config), "--log-file", str(self.log), *self.arguments]

    def crontab_command(self) -> str:
        """Return it for a crontab: what is wrong is mailed, and no % is left bare, which ends a line."""
        line = " ".join(_cron_quoted(word) for word in self.words) + " >/dev/null"
        if self.environment is None:
            return line
        return f"{SOURCES_A_FILE}{_cron_quoted(str(self.environment))}; set +a; {line}"

    def systemd_command(self) -> str:
        """Return it for ExecStart=."""
        return " ".join(_systemd_quoted(word) for word in self.words)


def _cron_quoted(word: str) -> str:
    """Quote a word for the shell, with every % outside of quotes and behind a backslash, which cron takes away."""
    quoted = shlex.quote(word)
    return quoted.replace("%", "'\\%'" if quoted.startswith("'") else "\\%")


def _systemd_quoted(word: str) -> str:
    """Quote a word for systemd, which knows % and $ and the backslash as special."""
    special = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{special}"' if special != word or not word.isascii() or any(char in word for char in " ';") else word
