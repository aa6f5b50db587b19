"""Compute what 100,000 and 1,000,000 streams take from what `make bench-fleet` measured.

    python -m benchmarks.scaling bench-fleet.json

The assumptions are the constants below.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from retrainer_claude import ClaudeOptions

STREAMS = (100_000, 1_000_000)
DAYS = (7, 1)  # between two runs of a stream, spread over them evenly
KEPT = 10  # versions of a stream: the shipped `keep_versions`, with the archived ones pruned
# Of a content run: 20 forecasts of each side, which share the examples of their prompt. Prices are those of claude_api.
FORECASTS = 20
SHARED_TOKENS = 2_500
OWN_TOKENS = 400
ANSWER_TOKENS = 80


class Needs(NamedTuple):
    """What a number of streams takes.

    Attributes:
        workers: busy all the time, each on a core.
        runs, commits: a second.
        lock_share: the share of the time in which the only advisory lock is held.
        server_cores: that the database server keeps busy.
        database_bytes, file_bytes: with `KEPT` versions of each stream.
        content_usd: of a content run of each stream.
    """

    streams: int
    days: int
    workers: float
    runs: float
    commits: float
    lock_share: float
    server_cores: float
    database_bytes: float
    files: float
    file_bytes: float
    content_usd: float


def compute(measured: dict[str, Any], streams: int, days: int) -> Needs:
    """Return what streams take that are retrained every so many days."""
    size, storage = measured["size"], measured["storage"]
    runs = streams / (days * 86_400)
    one_lock = max(measured["commits"]["one lock"].values())
    return Needs(
        streams,
        days,
        workers=runs * size["jobs"] / size["streams_a_second"],
        runs=runs,
        commits=runs * size["commits"],
        lock_share=runs / one_lock,
        server_cores=runs * size["server_processor_seconds"],
        database_bytes=streams * (storage["bytes_a_stream"] + (KEPT - 1) * size["bytes_a_run"]),
        files=streams * KEPT * storage["files_a_version"],
        file_bytes=streams * KEPT * storage["file_bytes_a_version"],
        content_usd=streams * content_cost(),
    )


def content_cost() -> float:
    """Return the assumed cost of a content run in US dollars."""
    options = ClaudeOptions()
    prices = options.prices[options.model]
    first = SHARED_TOKENS * prices.cache_write
    others = (FORECASTS - 1) * SHARED_TOKENS * prices.cache_read
    own = FORECASTS * (OWN_TOKENS * prices.input + ANSWER_TOKENS * prices.output)
    return 2 * (first + others + own) / 1_000_000


def print_scaling(measured: dict[str, Any]) -> None:
    """Print the table of the documentation."""
    columns = [compute(measured, streams, days) for streams in STREAMS for days in DAYS]
    every = {1: "every day", 7: "every 7 days"}
    rows: dict[str, list[str]] = {
        "runs a second": [f"{needs.runs:.2f}" for needs in columns],
        "workers, busy around the clock": [f"{needs.workers:.1f}" for needs in columns],
        "commits a second": [f"{needs.commits:.1f}" for needs in columns],
        "share of what one database takes in, at most": [f"{needs.lock_share:.0%}" for needs in columns],
        "cores of the database server": [f"{needs.server_cores:.2f}" for needs in columns],
        f"database, {KEPT} versions of each": [f"{needs.database_bytes / 1e9:,.0f} GB" for needs in columns],
        "files of models": [f"{needs.files / 1e6:.0f} million, {needs.file_bytes / 1e9:,.0f} GB" for needs in columns],
        "one content run of each": [f"${needs.content_usd:,.0f}" for needs in columns],
    }
    print("\n| | " + " | ".join(f"{needs.streams:,} {every[needs.days]}" for needs in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for label, cells in rows.items():
        print(f"| {label} | " + " | ".join(cells) + " |")
    print()


if __name__ == "__main__":
    print_scaling(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
