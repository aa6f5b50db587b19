"""The user's crontab: one marked block per project, every other byte unchanged.

Only the `crontab` program reads and writes it: it knows the file and notifies the daemon.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError
from retrainer.schedule.command import quote_for_cron

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ATTEMPTS = 5
_PASSED_ON = ("HOME", "LOGNAME", "PATH", "TMPDIR", "USER")  # to `crontab`, which needs no credentials
_LOCK_SECONDS = 10
_NO_CRONTAB = re.compile(rb"no crontab|no such file", re.IGNORECASE)  # Vixie cron and cronie; BusyBox


class Crontab:
    """The crontab of the current user."""

    def __init__(self) -> None:
        program = shutil.which("crontab")
        if program is None:
            raise RetrainerError(
                "`crontab` is not installed",
                hint="Install cron, or use `retrainer schedule show --systemd`",
            )
        self._program = program

    def read(self) -> bytes:
        """Return the text of the crontab; empty if there is none.

        Raises:
            RetrainerError: it cannot be read.
        """
        done = self._run("-l")
        if done.returncode == 0:
            return done.stdout
        if _NO_CRONTAB.search(done.stderr):
            return b""
        raise RetrainerError(f"cannot read the crontab: {_message(done)}", hint="Nothing was changed")

    def change(self, edit: Callable[[bytes], bytes]) -> bool:
        """Edit the text, without losing concurrent changes by other programs.

        It is read again right before it is written, and afterwards to verify the change.

        Args:
            edit: returns the new text, or the same text if there is nothing to change.

        Returns:
            Whether anything was changed.

        Raises:
            RetrainerError: it cannot be read or written, or another program keeps changing it.
        """
        written = False
        with self._lock():
            for _ in range(_ATTEMPTS):
                before = self.read()
                after = edit(before)
                if after == before:
                    return written
                if self.read() == before:
                    self._write(after)
                    written = True
        raise RetrainerError("another program keeps changing the crontab", hint="Wait for it to end and try again")

    def _write(self, text: bytes) -> None:
        done = self._run("-", given=text)
        if done.returncode != 0:
            raise RetrainerError(f"cannot write the crontab: {_message(done)}", hint="It was not changed")

    def _run(self, argument: str, *, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(  # noqa: S603  the program found on the path, without a shell
                [self._program, argument],
                input=given,
                capture_output=True,
                check=False,
                timeout=60,
                env={**{name: os.environ[name] for name in _PASSED_ON if name in os.environ}, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RetrainerError(f"cannot run `{self._program}`: {error}") from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one retrainer process at a time change crontabs, by a lock on the program, the file common to all.

        Any user who can read the program can hold its lock, so the wait ends after 10 seconds: the change is still
        verified.
        """
        try:
            file = os.open(self._program, os.O_RDONLY)
        except OSError:  # it may be executable only
            yield
            return
        deadline = time.monotonic() + _LOCK_SECONDS
        try:
            while time.monotonic() < deadline:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.05)
            yield
        finally:
            os.close(file)


def with_block(text: bytes, config_file: Path, line: str) -> bytes:
    """Return the text with the project's block, replaced in place or else appended.

    A last line without a line break gets one, since cron ignores it otherwise.

    Args:
        config_file: the project's settings file, which identifies its block.
        line: the job.

    Raises:
        RetrainerError: the block is damaged.
    """
    begin, end = _markers(config_file)
    block = b"".join(part + b"\n" for part in (begin, os.fsencode(line), end))
    pattern = _block_pattern(text, config_file)
    if not pattern.search(text):
        return text + (b"\n" if text and not text.endswith(b"\n") else b"") + block
    replacements = itertools.chain([block], itertools.repeat(b""))
    return pattern.sub(lambda _: next(replacements), text)


def without_block(text: bytes, config_file: Path) -> bytes:
    """Return the text without the project's block.

    Raises:
        RetrainerError: the block is damaged.
    """
    return _block_pattern(text, config_file).sub(b"", text)


def installed_line(text: bytes, config_file: Path) -> str | None:
    """Return the job in the project's block; None if there is no block.

    Raises:
        RetrainerError: the block is damaged.
    """
    block = _block_pattern(text, config_file).search(text)
    return os.fsdecode(block[1].splitlines()[0]) if block and block[1] else None


def find_lines(text: str, config_file: Path) -> list[str]:
    """Return the lines of a crontab that call retrainer for a project, also those added by hand."""
    wanted = f" {quote_for_cron(str(config_file))} "
    return [line for line in text.splitlines() if wanted in f"{line} " and not line.lstrip().startswith("#")]


def _block_pattern(text: bytes, config_file: Path) -> re.Pattern[bytes]:
    """Return the pattern of a project's block with its jobs; the blocks in the text are checked to be complete."""
    begin, end = map(re.escape, _markers(config_file))
    pattern = re.compile(rb"^%b\r*\n(.*?)^%b\r*(?:\n|\Z)" % (begin, end), re.MULTILINE | re.DOTALL)
    markers = re.findall(rb"^(?:%b|%b)\r*$" % (begin, end), text, re.MULTILINE)
    if len(markers) != 2 * len(pattern.findall(text)):
        names = " and ".join(f"'{os.fsdecode(marker)}'" for marker in _markers(config_file))
        raise RetrainerError(f"the crontab lines {names} do not pair up", hint="Correct them with `crontab -e`")
    return pattern


def _markers(config_file: Path) -> tuple[bytes, bytes]:
    name = os.fsencode(config_file)
    return b"# BEGIN retrainer " + name, b"# END retrainer " + name


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(os.fsdecode(done.stderr).split()) or f"`crontab` exited with {done.returncode}"
