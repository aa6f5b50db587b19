"""`make bench-live` finds worse forecasters and counts false calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import live

if TYPE_CHECKING:
    from pathlib import Path


def test_the_posts_until_a_call_are_counted_from_the_first_post() -> None:
    evidence = [np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[3.1, 0.0], [0.0, 0.0]]), np.zeros((2, 2))]
    assert live.posts_until(evidence, 20) == [2, None]
    assert live.posts_until(evidence[:2], 20) == [2, 2]


def test_a_t_test_of_the_size_that_is_shown_finds_the_difference_as_often_as_promised() -> None:
    difference = np.random.default_rng(4).normal(0.2, 1, 50_000)
    for posts, wanted in zip(live.t_test_posts(difference), (0.5, 0.9), strict=True):
        samples = difference[: len(difference) // posts * posts].reshape(-1, posts)
        found = samples.mean(axis=1) / samples.std(axis=1) * np.sqrt(posts) >= 1.645
        assert found.mean() == pytest.approx(wanted, abs=0.07)


def test_where_nothing_is_found_no_start_has_a_rollback_within_twice_the_median() -> None:
    random = np.random.default_rng(1)
    quantiles = np.sort(random.exponential(10, (60, 99)), axis=1)
    found = live.power(quantiles * 1.001, quantiles, random.exponential(10, 60))
    assert found["rollback"] == [None, None]
    assert found["within_twice_the_median"] == 0


@pytest.mark.slow
def test_the_synthetic_sample_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("STREAMS", "DRAWN_STREAMS"):
        monkeypatch.setattr(live, name, 2)
    path = tmp_path / "bench-live.json"
    live.main(["--data", str(tmp_path), "--json", str(path)])
    (stream,) = json.loads(path.read_text())["streams"]
    found = stream["power"]["30% slow"]
    assert found["crps_percent"] == pytest.approx(30)
    assert found["verdict"][0] < found["ab_test"][0] < found["rollback"][0]
    assert found["t_test"][0] < found["verdict"][0]
    assert found["within_twice_the_median"] >= 0.5
    assert found["split"] > 1
    assert stream["fleet"]["wrong"] <= 5
    assert "autocorrelated 0.05" in capsys.readouterr().out
