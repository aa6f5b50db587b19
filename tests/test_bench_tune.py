"""`make bench-tune` tunes on the training posts and measures the gain on the test part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import tune
from retrainer.posts.sample import sample_posts, write_sample_csv

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_each_algorithm_is_tuned_on_each_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample_csv(tmp_path / "stream.csv", sample_posts(seed=7))
    path = tmp_path / "bench-tune.json"
    tune.main(
        ["--data", str(tmp_path), "--json", str(path), "--algorithms", "baseline", "--trials", "4", "--metric", "crps"]
    )
    streams = {stream["stream"]: stream for stream in json.loads(path.read_text())["streams"]}
    assert set(streams) == {"(synthetic sample)", "stream"}
    for stream in streams.values():
        found = stream["algorithms"]["baseline"]
        assert "error" not in found
        if found["options"] is not None:
            low, high = found["test"]["interval"]
            assert low <= found["test"]["value"] <= high
            assert found["gain_on_folds"] > 0
    assert "| stream | 400 | baseline | " in capsys.readouterr().out
