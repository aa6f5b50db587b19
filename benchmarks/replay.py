"""How long a replay of six years takes, and how much memory.

    make bench-replay

Replays a real stream weekly from 2012 to 2017 with `prophet`, under the three policies that every replay has, in two
processes that train ahead. The memory is the sum of the largest proportional set sizes (PSS) of the processes that live
at the same time, looked at twice a second.
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
    parser.add_argument("--data", type=Path, required=True, help="the folder of CSV files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--from", dest="start", default=SPAN[0])
    parser.add_argument("--to", dest="end", default=SPAN[1])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        retrainer("init", ".", folder=folder)
        retrainer("posts", "import", str((given.data / STREAM).resolve()), folder=folder)
        span = ("--from", given.start, "--to", given.end)
        started = time.perf_counter()
        most = retrainer("replay", "timing", *span, "--jobs", str(given.jobs), folder=folder, watched=True)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{seconds:.0f} s, {most / 1024**3:.2f} GiB at most; of the processors {used.ru_utime + used.ru_stime:.0f} s, "
        f"by {given.jobs} processes beside the first; load of the machine afterwards {os.getloadavg()[0]:.1f}"
    )


def retrainer(*arguments: str, folder: str, watched: bool = False) -> int:
    """Run a command in a folder; return the most memory that it took, in bytes, if it is to be watched."""
    command = [sys.executable, "-m", "retrainer", *arguments]
    quiet = None if watched else subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet) as process:
        most = 0
        while process.poll() is None:
            most = max(most, memory_of(process.pid)) if watched else 0
            time.sleep(0.5)
    if process.returncode:
        sys.exit(f"`retrainer {' '.join(arguments)}` ended with {process.returncode}")
    return most


def memory_of(pid: int) -> int:
    """Return the bytes that a process and all that it started hold now; what they share is counted once."""
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
