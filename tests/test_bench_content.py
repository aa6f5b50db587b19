"""`make bench-content` scores every trivial forecast of every stream with texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrainer.posts.sample import sample_posts, write_sample_csv

ROOT = Path(__file__).parent.parent


def test_streams_with_texts_are_measured_and_the_others_are_skipped(tmp_path: Path) -> None:
    write_sample_csv(tmp_path / "stream.csv", sample_posts(seed=7))
    sample_posts().drop(columns="content").to_csv(tmp_path / "silent.csv", index=False)
    (tmp_path / "nothing.csv").write_text("a,b\n1,2\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.content", "--data", ".", "--posts", "20"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Skipped 'silent.csv': no posts with a text" in done.stdout
    assert "Skipped 'nothing.csv': " in done.stdout
    streams = json.loads((tmp_path / "bench-content.json").read_text())["streams"]
    assert [stream["stream"] for stream in streams] == ["(synthetic sample)", "stream"]
    for stream in streams:
        forecasts = stream["forecasts"]
        assert len(forecasts) == 7
        for constant in ("meaningless string", "training medoid"):
            assert forecasts[constant]["lift"] == pytest.approx(0, abs=1e-12)
            assert forecasts[constant]["rank_auc"] == pytest.approx(0.5, abs=1e-12)
        assert forecasts["meaningless string"]["copy_rate"] == 0
        assert forecasts["previous post"]["copy_rate"] == 1
        best = forecasts["best training post"]
        assert all(best["overall_score"] >= other["overall_score"] for other in forecasts.values())
