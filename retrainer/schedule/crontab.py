"""The user's crontab: one marked block a project, all other bytes left as they are.

It is read and written by the `crontab` program alone, which knows where it is kept and tells the daemon.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ATTEMPTS = 5
_LOCK_SECONDS = (
    10  # whoever may read the program may hold its lock: then each change is only seen to be in it afterwards
)
_NO_CRONTAB = re.compile(rb"no crontab|no such file", re.IGNORECASE)  # Vixie's and cronie's words, and BusyBox's
_HINT = "Look at it with `crontab -e`"


class Crontab:
    """The crontab of the user who runs this."""

    def __init__(self) -> None:
        program = shutil.which("crontab")
        if program is None:
            raise RetrainerError(
                "there is no `crontab` program here",
                hint="Install cron, or use `retrainer schedule show --systemd`",
            )
        self._program = program

    def read(self) -> bytes:
        """Return its text; empty where there is none.

        Raises:
            RetrainerError: it cannot be read.
        """
        done = self._run("-l")
        if done.returncode == 0:
            return done.stdout
        if _NO_CRONTAB.search(done.stderr):
            return b""
        raise RetrainerError(f"the crontab cannot be read: {_said(done)}", hint="Nothing was changed")

    def change(self, edit: Callable[[bytes], bytes]) -> bool:
        """Replace its text by what `edit` makes of it; what another program writes meanwhile is kept.

        It is read again right before it is written, and afterwards to see that the change is in it.

        Args:
            edit: gives back what it is given where there is nothing to change.

        Returns:
            Whether anything was changed.

        Raises:
            RetrainerError: it cannot be read or written, or another program keeps changing it.
        """
        written = False
        with self._one_at_a_time():
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
            raise RetrainerError(f"the crontab cannot be written: {_said(done)}", hint="It is what it was before")

    def _run(self, argument: str, *, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(  # noqa: S603  the program found on the path, without a shell
                [self._program, argument],
                input=given,
                capture_output=True,
                check=False,
                timeout=60,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RetrainerError(f"`{self._program}` cannot be run: {error}") from error

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Let one retrainer at a time change crontabs; the lock is on the one file that all of them know."""
        try:
            file = os.open(self._program, os.O_RDONLY)
        except OSError:  # it may be executable only
            yield
            return
        try:
            _wait_for(file)
            yield
        finally:
            os.close(file)


def with_block(text: bytes, config: Path, line: str) -> bytes:
    """Return the text with the project's block, replaced where it stands, else at the end.

    A last line without its line break gets one: cron reads no other.

    Args:
        config: the project's settings file, by which its block is known.
        line: the job.

    Raises:
        RetrainerError: a block is damaged.
    """
    begin, end = _marks(config)
    block = b"".join(part + b"\n" for part in (begin, os.fsencode(line), end))
    lines, spans = _blocks(text, config)
    if not spans:
        gap = b"\n" if text and not text.endswith(b"\n") else b""
        return text + gap + block
    first, rest = spans[0], spans[1:]
    kept = [part for number, part in enumerate(lines) if not any(number in span for span in rest)]
    kept[first.start : first.stop] = [block]
    return b"".join(kept)


def without_block(text: bytes, config: Path) -> bytes:
    """Return the text without the project's block.

    Raises:
        RetrainerError: a block is damaged.
    """
    lines, spans = _blocks(text, config)
    return b"".join(part for number, part in enumerate(lines) if not any(number in span for span in spans))


def installed_line(text: bytes, config: Path) -> str | None:
    """Return the job in the project's block; None where there is none.

    Raises:
        RetrainerError: a block is damaged.
    """
    lines, spans = _blocks(text, config)
    jobs = [lines[number] for span in spans for number in span][1:-1]
    return os.fsdecode(jobs[0].rstrip(b"\r\n")) if jobs else None


def _blocks(text: bytes, config: Path) -> tuple[list[bytes], list[range]]:
    """Return the lines with their line breaks, and which of them are the project's blocks, their marks included."""
    begin, end = _marks(config)
    lines = [part for part in re.split(rb"(?<=\n)", text) if part]
    spans: list[range] = []
    start: int | None = None
    for number, part in enumerate(lines):
        bare = part.rstrip(b"\r\n")
        if bare == begin:
            if start is not None:
                raise RetrainerError(f"the crontab has '{os.fsdecode(begin)}' without its end", hint=_HINT)
            start = number
        elif bare == end:
            if start is None:
                raise RetrainerError(f"the crontab has '{os.fsdecode(end)}' without its beginning", hint=_HINT)
            spans.append(range(start, number + 1))
            start = None
    if start is not None:
        raise RetrainerError(f"the crontab has '{os.fsdecode(begin)}' without its end", hint=_HINT)
    return lines, spans


def _marks(config: Path) -> tuple[bytes, bytes]:
    name = os.fsencode(config)
    return b"# BEGIN retrainer " + name, b"# END retrainer " + name


def _wait_for(lock: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    said = " ".join(os.fsdecode(done.stderr).split())
    return said or f"`crontab` ended with {done.returncode}"
