"""Imports of files at random: no traceback, no hang, bounded memory, and every row counted once."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("minutes", [pytest.param(2, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.soak)])
def test_no_file_ends_in_a_traceback_a_hang_or_without_memory(minutes: int, folder: Path) -> None:
    seed = str(random.randrange(2**32))  # noqa: S311  no secret
    command = [sys.executable, "-W", "error", "-m", "tests.posts.fuzz", seed, str(60 * minutes), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.split()[-1:] if done.stdout else done.stderr.splitlines()[-40:]
    assert done.returncode == 0, f"seed {seed}: {done.stdout}\n{last}"
