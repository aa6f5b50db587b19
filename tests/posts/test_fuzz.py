"""Imports of files at random: no traceback, no hang, bounded memory, and every row counted once."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("num_files", "seed"),
    [
        pytest.param(12_000, "1", marks=pytest.mark.slow),
        pytest.param(300_000, str(random.randrange(2**32)), marks=pytest.mark.soak, id="300000-any"),  # noqa: S311  no secret
    ],
)
def test_no_file_ends_in_a_traceback_a_hang_or_without_memory(num_files: int, seed: str, folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.posts.fuzz", seed, str(num_files), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.split()[-1:] if done.stdout else done.stderr.splitlines()[-40:]
    assert done.returncode == 0, f"seed {seed}: {done.stdout}\n{last}"
