"""Files beside the project that some tests need, and how to get them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
REQUIREMENTS = SHARED / "RETRAINING.md"


class RealStream(NamedTuple):
    """A CSV file of real posts with the columns `id`, `created_at`, `text` and counts.

    Attributes:
        rows: how many posts it holds.
        source: where it comes from, and its licence.
    """

    rows: int
    source: str


REAL_STREAMS = {
    "trump_truth_2022_2026.csv": RealStream(32_433, "timothyjgraham/trump-truth-social-replication (MIT)"),
    "trump_twitter_2009_2017.csv": RealStream(20_761, "the R package dslabs (Artistic-2.0)"),
    "trump_twitter_2016_2017.csv": RealStream(3_232, "fivethirtyeight/data twitter-ratio (CC BY 4.0)"),
}


def real_stream(name: str) -> Path:
    """Return the path of a file of real posts; skip the test where it is missing."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(
            f"no '{path}': save {REAL_STREAMS[name].rows} posts from {REAL_STREAMS[name].source} there, as CSV with "
            "the columns id, created_at, text, replies_count, reblogs_count, favourites_count"
        )
    return path


def requirements() -> str:
    """Return the document that the REST API implements; skip the test where it is missing."""
    if not REQUIREMENTS.exists():
        pytest.skip(f"no '{REQUIREMENTS}': save the document that describes the endpoints and tables there")
    return REQUIREMENTS.read_text()
