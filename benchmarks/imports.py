"""Measure imports of 1,000,000 posts: processor time, wall time and memory, by format.

make bench-import
make bench-import BEFORE=v0.1.0    (compare with a git revision, in the same run)
make bench-import STREAMS=10000    (one CSV file with many streams: see import_streams.py)

The revisions take turns, each in a fresh project on SQLite. The last column is the second import of the same file.
"""

from __future__ import annotations

import csv
import json
import os
import random
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import import_streams
from benchmarks.revisions import run, source_trees

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = int(os.environ.get("ROWS", "1_000_000"))
STREAMS = int(os.environ.get("STREAMS", "1"))
WORDS = ("rain", "garden", "letter", "morning", "stone", "harbour", "window", "silver", "paper", "quiet", "river")
NAMES = ("id", "created_at", "text", "replies_count", "reblogs_count", "favourites_count")


def records() -> Iterator[dict[str, object]]:
    """Yield made-up posts."""
    numbers = random.Random(20240601)  # noqa: S311  not for secrets
    moment = datetime(2000, 1, 1, tzinfo=UTC)
    for row in range(ROWS):
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


def main() -> None:
    """Import each file by each revision, or one file with the posts of many streams."""
    if STREAMS > 1:
        import_streams.main(ROWS, STREAMS)
        return
    with source_trees() as trees, tempfile.TemporaryDirectory() as name:
        files = write_files(Path(name))
        print(f"{ROWS:,} posts")
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
