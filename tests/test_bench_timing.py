"""`make bench-timing` measures streams, compares results, and knows the truth of simulated streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.simulated import PROCESSES, START, derived_posts, simulated_posts
from benchmarks.timing_scores import (
    coverage_band,
    difference,
    effective_gaps,
    expected_posts,
    long_silences,
    true_forecasts,
)
from retrainer.model_types.base import hours_between
from retrainer.model_types.timing import LEVELS, TimingForecasts
from retrainer.posts.sample import sample_posts, write_sample_csv

if TYPE_CHECKING:
    from pathlib import Path


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    """Measure the streams of a folder; return the document."""
    path = folder / "bench-timing.json"
    timing.main(["--data", str(folder), "--json", str(path), *arguments])
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.slow
def test_a_result_equals_itself_and_its_diagrams_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample_csv(tmp_path / "stream.csv", sample_posts(seed=7))
    result = bench(tmp_path, "--algorithms", "baseline", "--origins", "50")
    assert [stream["stream"] for stream in result["streams"]] == ["(synthetic sample)", "stream"]
    (tmp_path / "bench-timing.json").rename(tmp_path / "earlier.json")
    options = ("--origins", "50", "--against", str(tmp_path / "earlier.json"), "--png", str(tmp_path / "diagrams"))
    again = bench(tmp_path, "--algorithms", "baseline", *options)
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "baseline − earlier" in line and "mean" in line]
    assert "+0.0000 to +0.0000" in out
    assert (tmp_path / "diagrams" / "stream.png").read_bytes().startswith(b"\x89PNG")
    for origin in ("post", "clock"):
        scores = again["streams"][1][origin]["baseline"]
        assert scores["skill_over_baseline"] == 0
        assert scores["log_crps"] == pytest.approx(np.log(scores["crps_hours"]))
        assert len(scores["per_origin"]["crps_hours"]) == scores["num_predictions"]


@pytest.mark.slow
def test_a_simulated_stream_is_measured_with_its_tail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: PROCESSES[name] for name in ("weekly", "sparse")}
    monkeypatch.setattr(timing, "PROCESSES", few)
    result = bench(tmp_path, "--streams", "simulated", "--origins", "100")
    streams = {stream["stream"]: stream for stream in result["streams"]}
    assert set(streams) == set(few)
    assert "prophet − baseline" in capsys.readouterr().out
    for stream in streams.values():
        assert set(stream["tail"]) == {"baseline", "prophet"}
        for key in ("overall_score", "skill", "interval_coverage"):
            assert np.isfinite(stream["post"]["prophet"][key])
        assert stream["post"]["truth"]["skill"] > stream["post"]["prophet"]["skill"] - 0.05


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("kind", ["post", "clock"])
def test_every_quantile_of_the_truth_is_met_as_often_as_it_says(name: str, kind: str) -> None:
    posts = timing.prepare(simulated_posts(name, seed=2))
    training = len(posts) // 2
    setting = {"post": timing.after_posts, "clock": timing.at_clock_times}[kind](posts, training, 500)
    process, times = PROCESSES[name][0], posts["created_at"].dt.tz_localize(None).to_numpy()
    forecasts = true_forecasts(process, hours_between(np.asarray(START), times), setting.silence, 1.0, setting.origins)
    waits = setting.targets.wait_hours[:, None]
    tolerance = 4 * np.sqrt(0.25 / setting.effective_gaps)
    assert (((waits < forecasts.quantiles - 1e-6).mean(axis=0) - tolerance) <= LEVELS).all()
    assert (((waits <= forecasts.quantiles + 1e-6).mean(axis=0) + tolerance) >= LEVELS).all()


@pytest.mark.parametrize("name", PROCESSES)
def test_the_true_survival_is_that_of_the_simulated_gaps(name: str) -> None:
    process, count = PROCESSES[name]
    hours = process.simulate(count, np.random.default_rng(3))
    gaps = np.diff(hours)
    posts = np.arange(len(gaps))
    for elapsed in np.quantile(gaps, [0.3, 0.6, 0.9, 0.97]):
        longer = gaps > elapsed
        true = np.exp(process.log_survival(hours, posts, np.full((len(gaps), 1), elapsed)))[:, 0]
        error = np.sqrt((true * (1 - true)).sum()) / len(gaps)
        assert longer.mean() == pytest.approx(true.mean(), abs=4 * error)


def test_derived_streams_keep_order_and_differ_from_the_first() -> None:
    posts = simulated_posts("weekly", seed=1)
    derived = derived_posts(posts, seed=1)
    assert set(derived) == {"subsampled", "thinned", "merged", "spliced", "stretched", "paused"}
    for stream in derived.values():
        assert stream["created_at"].is_monotonic_increasing
        assert not stream["created_at"].equals(posts["created_at"])


def test_forecasts_with_the_true_hazard_expect_as_many_posts_as_come() -> None:
    rate = 1 / 100
    gaps = np.random.default_rng(1).exponential(1 / rate, 4000)
    times = np.datetime64("2024-01-01", "us") + (np.cumsum(gaps) * 3.6e9).astype("timedelta64[us]")
    found = long_silences(times, 0, max_origins=10_000)
    assert found is not None
    origins, hours, observed = found
    assert observed == (gaps[1:] > 36).sum()
    quantiles = np.tile(-np.log(1 - LEVELS) / rate, (len(origins), 1))
    assert expected_posts(TimingForecasts(quantiles, quantiles[:, 0]), hours) == pytest.approx(observed, rel=0.06)


def test_origins_in_one_gap_count_as_one() -> None:
    assert effective_gaps(np.array([1, 2, 3, 4])) == 4
    assert effective_gaps(np.array([7, 7, 7, 7])) == 1
    low, high = coverage_band(35)
    assert (round(low, 2), round(high, 2)) == (0.67, 0.93)


def test_a_difference_has_an_interval_around_it() -> None:
    errors = np.random.default_rng(1).exponential(6, 300)
    one = {"within_6h": (errors < 6).tolist(), "error_hours": errors.tolist(), "crps_hours": errors.tolist()}
    other = {**one, "crps_hours": (errors * 1.1).tolist()}
    found = difference(one, other, effective=300)
    assert found["score"]["difference"] == 0
    assert found["log_crps"]["difference"] == pytest.approx(-np.log(1.1))
    low, high = found["log_crps"]["interval"]
    assert low <= found["log_crps"]["difference"] <= high
