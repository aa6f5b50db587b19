"""`make bench-content` scores every trivial forecast of every stream with texts."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.content import CONTENT, prepare, print_model, summarize_model
from benchmarks.content_model import resume
from benchmarks.content_scores import interval, post_figures
from benchmarks.trigram import CachedTrigram
from retrainer.model_types.base import Origins
from retrainer.model_types.content import ContentForecast
from retrainer.posts.sample import sample_posts, write_sample_csv

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
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
        assert len(forecasts) == 9
        for constant in ("meaningless string", "training medoid"):
            assert forecasts[constant]["lift"] == pytest.approx(0, abs=1e-12)
            assert forecasts[constant]["rank_auc"] == pytest.approx(0.5, abs=1e-12)
        assert forecasts["meaningless string"]["copy_rate"] == 0
        assert forecasts["previous post"]["copy_rate"] == 1
        difference = stream["intervals"]["medoid of 5"]["difference"]["lift"]
        assert difference[0] == pytest.approx(forecasts["medoid of 5"]["lift"] - forecasts["medoid of 20"]["lift"])
        assert difference[1] < difference[0] < difference[2]
        best = forecasts["best training post"]
        assert all(best["overall_score"] >= other["overall_score"] for other in forecasts.values())


def test_figures_of_posts_have_the_metrics_as_means() -> None:
    posts = prepare(sample_posts(seed=7)).iloc[:80]
    rows = np.arange(30, 80)
    targets = CONTENT.targets(posts, Origins.before(posts, rows, target_time_known=True), rows)
    texts = list(posts["content"].iloc[rows - 1])
    metrics = CONTENT.score([ContentForecast(text) for text in texts], targets)
    for name, figures in post_figures(texts, targets, encoder=None).items():
        assert figures.mean() == pytest.approx(metrics[name])


def test_the_interval_of_a_constant_has_no_width() -> None:
    posts = prepare(sample_posts(seed=7)).iloc[:80]
    rows = np.arange(30, 80)
    targets = CONTENT.targets(posts, Origins.before(posts, rows, target_time_known=True), rows)
    figures = post_figures(["the same text"] * 50, targets, encoder=None)
    assert interval(figures["lift"]) == pytest.approx([0, 0], abs=1e-12)
    assert interval(figures["rank_auc"]) == pytest.approx([0.5, 0.5], abs=1e-12)


def test_of_400_scores_the_last_300_are_compared_with_the_interval_of_those_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {
        "training": {
            "seconds": 60,
            "processor_seconds": 60,
            "peak_gigabytes": None,
            "description": {"held_out": [3, 2], "steps": 9, "ended_by": "steps"},
        },
        "seconds": [1.0],
        "nats": [{"tokens": 10, "finetuned_lm": 20.0, "trigram": 30.0}] * 400,
    }
    scores = np.random.default_rng(0).random(400)
    coverage = summarize_model(found, scores)["coverage"]
    assert coverage["kept_up"]["posts"] == 300
    assert 0.75 <= coverage["kept_up"]["coverage"] <= 0.85
    scores[100:] = 0.5  # in every interval, to which those kept up to date adapt
    summary = summarize_model(found, scores)
    assert summary["coverage"]["not_kept_up"]["coverage"] == 1
    print_model(summary)
    assert "300 later posts: covers 100.0% up to date" in capsys.readouterr().out
    assert summarize_model(found, scores[:399])["coverage"] is None


def test_the_trigram_model_gives_probabilities() -> None:
    texts = [[1, 2, 3, 0], [2, 3, 4, 0], [1, 2, 4, 0], [4, 2, 3, 0]] * 5
    model = CachedTrigram(texts)
    total = sum(math.exp(model.log_likelihood([1, 2, token], texts[:6])) for token in range(5))
    unknown = math.exp(model.log_likelihood([1, 2, 99], texts[:6]))  # stands for all other tokens
    assert total + unknown == pytest.approx(math.exp(model.log_likelihood([1, 2], texts[:6])))


def test_the_weights_of_the_trigram_model_find_what_repeats() -> None:
    random = np.random.default_rng(0)
    texts = [list(random.integers(0, 50, 8)) for _ in range(60)]
    repeated = [text for text in texts for _ in range(2)]  # every text comes twice: the cache knows it
    first, second = CachedTrigram(texts), CachedTrigram(repeated)
    new = list(random.integers(0, 50, 8))
    assert second.log_likelihood(new, [new]) > first.log_likelihood(new, [new])


def test_a_measurement_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "draws.jsonl"
    assert resume(path, 3, lambda number: {"number": number}) == [{"number": 0}, {"number": 1}, {"number": 2}]
    path.write_text(path.read_text()[:-5])  # killed in the last line
    measured: list[int] = []

    def measure(number: int) -> dict[str, int]:
        measured.append(number)
        return {"number": number}

    assert len(resume(path, 4, measure)) == 4
    assert measured == [2, 3]
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
