"""A log file that several processes write to, such as a scheduled run and a manual one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import logging, sys
from pathlib import Path
from retrainer import log_files
log_files.MAX_BYTES, log_files.BACKUPS = 10_000, 100
log = logging.getLogger("retrainer.test")
log.setLevel(logging.INFO)
log.addHandler(log_files.file_handler(Path(sys.argv[1]), "text", print))
for number in range(1_000):
    log.info("line %s of %s", number, sys.argv[2])
"""
PROCESSES = 4


def test_several_processes_rotate_a_log_without_losing_a_line(tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    command = [sys.executable, "-W", "error", "-c", WRITER, str(log)]
    writers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE) for number in range(PROCESSES)]
    for writer in writers:
        said, _ = writer.communicate(timeout=600)
        assert (writer.returncode, said) == (0, b"")
    files = list(tmp_path.iterdir())
    lines = [line.split(" - ")[1] for file in files for line in file.read_text().splitlines()]
    expected = [f"line {number} of {writer}" for writer in range(PROCESSES) for number in range(1_000)]
    assert sorted(lines) == sorted(expected)
    assert len(files) > 10, "new files were begun"
    assert max(file.stat().st_size for file in files) < 100_000
