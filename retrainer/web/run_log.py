"""The log of a run: the file of one that the server started, or its lines in the log of the scheduled job."""

from __future__ import annotations

import os
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from retrainer.files import open_regular
from retrainer.log_files import BACKUPS
from retrainer.redaction import redact
from retrainer.schedule.command import LOG_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.registry.tables import TrainingRun

MAX_BYTES = 256 * 1024  # of the end of a log
MAX_LINES = 2000
_RUN_ID = re.compile(r"run_[0-9]{8}_[0-9]{6}_[0-9a-f]{4,8}")
_STARTS_LINE = re.compile(rb'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ |\{"time": "')  # others continue the line before


@dataclass(frozen=True)
class RunLog:
    """The lines of a run's log.

    Attributes:
        source: the file, relative to the project folder.
        lines: the last ones.
        is_own: whether the file holds this run alone, which the server started.
        is_cut: whether earlier lines are left out.
    """

    source: str
    lines: list[str]
    is_own: bool
    is_cut: bool


def read_run_log(project_folder: Path, log_folder: Path, run: TrainingRun) -> RunLog | None:
    """Return the log of a run as far as it is written; None if none is found in the project folder.

    A run started in another way logs wherever its command says.

    Args:
        log_folder: of the runs that the server starts.
    """
    if not _RUN_ID.fullmatch(run.run_id):  # the name of a file
        return None
    own = log_folder / f"{run.run_id}.log"
    with suppress(OSError):
        data, is_cut = _read_end(own)
        return _make(project_folder, own, data.splitlines(), is_own=True, is_cut=is_cut)
    shared = project_folder / LOG_FILE
    lines = _find_lines(shared, run.run_id.encode())
    return _make(project_folder, shared, lines, is_own=False) if lines else None


def _make(project_folder: Path, path: Path, lines: list[bytes], *, is_own: bool, is_cut: bool = False) -> RunLog:
    texts = [redact(line.decode("utf-8", "replace")) for line in lines]
    return RunLog(os.path.relpath(path, project_folder), texts[-MAX_LINES:], is_own, is_cut or len(texts) > MAX_LINES)


def _read_end(path: Path) -> tuple[bytes, bool]:
    """Return the end of a file, from the start of a line on, and whether something is left out."""
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - MAX_BYTES, 0))
        data = file.read(MAX_BYTES)
    return (data, False) if size <= MAX_BYTES else (data.partition(b"\n")[2], True)


def _find_lines(path: Path, run_id: bytes) -> list[bytes]:
    """Return the lines of a run in a log and its older parts, each with the lines that continue it."""
    found: list[bytes] = []
    for part in [*(path.with_name(f"{path.name}.{number}") for number in range(BACKUPS, 0, -1)), path]:
        with suppress(OSError):
            state = part.stat()
            found += _find_lines_in(part, state.st_size, state.st_mtime_ns, run_id)
    return found


@lru_cache(maxsize=32)
def _find_lines_in(part: Path, _size: int, _changed: int, run_id: bytes) -> Sequence[bytes]:
    """Return the last lines of a run in one file, which is read again only if its size or time has changed."""
    found: deque[bytes] = deque(maxlen=MAX_LINES + 1)  # one more shows that lines are left out
    with open_regular(part) as file:
        data = file.read()
    if run_id not in data:
        return ()
    is_of_run = False
    for line in data.splitlines():
        if _STARTS_LINE.match(line):
            is_of_run = run_id in line
        if is_of_run:
            found.append(line.replace(b" " + run_id + b" ", b" ", 1))  # the page says which run it is
    return tuple(found)
