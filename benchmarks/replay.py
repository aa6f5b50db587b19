"""Measure the time and memory of a replay of six years.

    make bench-replay

Replays a real stream weekly from 2012 to 2017 with `prophet`, under the three policies of every replay, with two
prefetch processes. Memory is the largest sum of the proportional set sizes (PSS) of all processes, sampled twice a
second.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STREAM = "trump_twitter_2009_2017.csv"
SPAN = ("2012-01-01", "2018-01-01")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CSV files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--from", dest="start", default=SPAN[0])
    parser.add_argument("--to", dest="end", default=SPAN[1])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        retrainer("init", ".", folder=folder)
        retrainer("posts", "import", str((given.data / STREAM).resolve()), folder=folder)
        span = ("--from", given.start, "--to", given.end)
        started = time.perf_counter()
        peak = retrainer("replay", "timing", *span, "--jobs", str(given.jobs), folder=folder, measure=True)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{seconds:.0f} s, {peak / 1024**3:.2f} GiB at peak; {used.ru_utime + used.ru_stime:.0f} s of processor "
        f"time, {given.jobs} prefetch processes; load average afterwards {os.getloadavg()[0]:.1f}"
    )


def retrainer(*arguments: str, folder: str, measure: bool = False) -> int:
    """Run a command in a folder; return its peak memory in bytes if `measure` is set."""
    command = [sys.executable, "-m", "retrainer", *arguments]
    output = None if measure else subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid)) if measure else 0
            time.sleep(0.5)
    if process.returncode:
        sys.exit(f"`retrainer {' '.join(arguments)}` exited with {process.returncode}")
    return peak


def memory_of(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes; shared pages are counted once."""
    import psutil

    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
