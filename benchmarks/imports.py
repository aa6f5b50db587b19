"""Measure imports of 1,000,000 posts: processor time, wall time and memory, by format.

make bench-import
make bench-import BEFORE=v0.1.0    (compare with a git revision, in the same run)

The revisions take turns, each in a fresh project on SQLite. The last column is the second import of the same file.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.revisions import environment, source_trees

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTS = int(os.environ.get("POSTS", "1_000_000"))
WORDS = ("rain", "garden", "letter", "morning", "stone", "harbour", "window", "silver", "paper", "quiet", "river")
NAMES = ("id", "created_at", "text", "replies_count", "reblogs_count", "favourites_count")


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


def records() -> Iterator[dict[str, object]]:
    """Yield made-up posts."""
    numbers = random.Random(20240601)  # noqa: S311  not for secrets
    moment = datetime(2000, 1, 1, tzinfo=UTC)
    for row in range(POSTS):
        moment += timedelta(seconds=numbers.randrange(1, 800))
        text = " ".join(numbers.choices(WORDS, k=15))
        counts = (numbers.randrange(100), numbers.randrange(100), numbers.randrange(1000))
        yield dict(zip(NAMES, (f"{10**17 + row * 1001}", moment.isoformat(), text, *counts), strict=True))


def write_files(folder: Path) -> list[Path]:
    """Write the posts in each format."""
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

    table, lines, array = (folder / f"posts.{suffix}" for suffix in ("csv", "jsonl", "json"))
    with table.open("w", newline="") as csv_file, lines.open("w") as lines_file, array.open("w") as array_file:
        writer = csv.DictWriter(csv_file, NAMES)
        writer.writeheader()
        for row, record in enumerate(records()):
            writer.writerow(record)
            text = json.dumps(record)
            lines_file.write(text + "\n")
            array_file.write(f"{',' if row else '['}\n{text}")
        array_file.write("\n]\n")
    parquet = folder / "posts.parquet"
    types = dict.fromkeys(NAMES[:3], pa.string()) | dict.fromkeys(NAMES[3:], pa.int64())
    with pq.ParquetWriter(parquet, pa.schema(list(types.items()))) as parquet_file:
        made = records()
        while batch := list(islice(made, 50_000)):  # little memory, which a child process would seem to take too
            parquet_file.write_table(pa.Table.from_pylist(batch, parquet_file.schema))
    return [table, lines, array, parquet]


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


def main() -> None:
    """Import each file by each revision."""
    with source_trees() as trees, tempfile.TemporaryDirectory() as name:
        files = write_files(Path(name))
        print(f"{POSTS:,} posts")
        for file in files:
            for tree_name, tree in trees.items():
                with tempfile.TemporaryDirectory() as project:
                    folder = Path(project)
                    run(tree, folder, "init", ".")
                    first, again = (run(tree, folder, "posts", "import", str(file)) for _ in range(2))
                megabytes = file.stat().st_size / 2**20
                print(f"{file.suffix:9} {megabytes:4.0f} MB  {tree_name:7} {first}   again: {again}")


if __name__ == "__main__":
    main()
