"""The source trees that a benchmark compares: this one, and that of the git revision in the variable BEFORE."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
