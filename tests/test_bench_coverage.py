"""`make bench-coverage` compares the score of each later post with the interval expected before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrainer.posts.sample import sample_posts, write_sample_csv

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_streams_are_measured_on_300_later_posts_and_short_ones_are_skipped(tmp_path: Path) -> None:
    write_sample_csv(tmp_path / "stream.csv", sample_posts(seed=7, count=700))
    write_sample_csv(tmp_path / "short.csv", sample_posts(seed=7))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.content_coverage", "--data", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Skipped 'short.csv'" in done.stdout
    streams = json.loads((tmp_path / "bench-coverage.json").read_text())["streams"]
    assert [stream["stream"] for stream in streams][-1] == "stream"
    for stream in streams:
        kept_up = stream["baseline"]["kept_up"]
        assert kept_up["posts"] >= 300
        low, high = kept_up["coverage_interval"]
        assert 0.75 <= kept_up["coverage"] <= 0.85
        assert low < kept_up["coverage"] < high
    without = streams[-1]["baseline"]["not_kept_up"]
    assert (streams[-1]["calibration_posts"] < 50) == (without is None)
