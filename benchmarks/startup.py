"""Time the start of light commands, as a ratio to an empty Python process.

make bench
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "retrainer --help": [sys.executable, "-m", "retrainer", "--help"],
    "retrainer plugins": [sys.executable, "-m", "retrainer", "plugins"],
}


def seconds(command: list[str]) -> float:
    """Return the wall time of a command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Time the commands in turn, so that a slow moment affects all of them, and print the medians."""
    for command in COMMANDS.values():
        seconds(command)
    rounds = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(RUNS)]
    medians = {name: statistics.median(row[name] for row in rounds) for name in COMMANDS}
    empty = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:20} {median * 1000:6.0f} ms  {median / empty:5.1f} × an empty process")


if __name__ == "__main__":
    main()
