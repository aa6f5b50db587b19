"""The source trees that a benchmark compares: this one, and that of the git revision in the variable BEFORE.

A command is run in either, and what it takes is measured.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent


@contextmanager
def source_trees() -> Iterator[dict[str, Path]]:
    """Yield the trees by name, `before` first if there is one."""
    revision = os.environ.get("BEFORE")
    if not revision:
        yield {"now": ROOT}
        return
    with tempfile.TemporaryDirectory() as before:
        command = f"git archive {shlex.quote(revision)} | tar -x -C {shlex.quote(before)}"
        subprocess.run(command, cwd=ROOT, shell=True, check=True)  # noqa: S602  a revision that the user names
        yield {"before": Path(before), "now": ROOT}


def environment(tree: Path) -> dict[str, str]:
    """Return the environment of a process that imports the program from a tree."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree), str(tree / "plugins")))}


class Usage(NamedTuple):
    """What a command took."""

    seconds: float
    processor_seconds: float
    megabytes: float
    code: int

    def __str__(self) -> str:
        if self.code:
            return f"failed with {self.code}"
        return f"{self.processor_seconds:5.1f} s CPU {self.seconds:5.1f} s wall {self.megabytes:5.0f} MB"


def run(tree: Path, folder: Path, *arguments: str) -> Usage:
    """Run a command of the program in a tree."""
    command = [sys.executable, "-m", "retrainer", *arguments]
    started = time.perf_counter()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(tree), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode)
