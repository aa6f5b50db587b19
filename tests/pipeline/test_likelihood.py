"""Evaluations of an algorithm that states how likely posts are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from retrainer.errors import AlgorithmError
from retrainer.model_types import get_model_type
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.run import retrain
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import content_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

CONTENT = get_model_type("content")
TOPICS = ("tea at the old mill", "fog on our hill", "snow in the valley", "stars above town")


@pytest.fixture
def project(sqlite_folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose stream stays with a topic for five posts, and algorithms with known likelihoods."""
    plugins.add("recent", content_algorithm("recent"))
    plugins.add("constant", content_algorithm("constant", known=0))
    plugins.add("leaking", content_algorithm("leaking", shift=1))
    plugins.add("constant_text", content_algorithm("constant_text", text="'tea at the old mill'"))
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(sqlite_folder, evaluation_max_predictions="30")
    project = open_project(sqlite_folder)
    posts = regular_posts(200)
    posts["content"] = [f"{TOPICS[row // 5 % 4]} number{row}" for row in range(200)]
    project.posts.add(posts, NOW)
    return project


def evaluate(project: Project, algorithm: str) -> dict[str, float]:
    result = retrain(project, runtime_of(project), "content", NOW, algorithm=algorithm)
    assert result.evaluation
    return result.evaluation.metrics


def by_hand(texts: list[str], row: int, origin: int) -> tuple[float, int]:
    """The log-likelihood of the post at a row as the one after another row, and its number of words and ends."""
    known = [word for text in texts[origin - 2 : origin + 1] for word in [*text.split(), "<end>"]]
    words = [*texts[row].split(), "<end>"]
    return sum(np.log(known.count(word) / len(known) / 2 + 1 / 2000) for word in words), len(words)


def test_nats_and_lift_are_those_computed_by_hand(project: Project) -> None:
    metrics = evaluate(project, "recent")
    texts = [f"{TOPICS[row // 5 % 4]} number{row}" for row in range(200)]
    rows = np.round(np.linspace(160, 199, 30)).astype(int)
    own = [by_hand(texts, row, row - 1) for row in rows]
    assert metrics["nats_per_token"] == pytest.approx(-sum(nats for nats, _ in own) / sum(count for _, count in own))
    lifts = []
    for post in range(1, 30):
        nats, tokens = own[post]
        origins = {int((number + 0.5) * post / 4) for number in range(4)}
        earlier = [by_hand(texts, rows[post], rows[origin] - 1)[0] for origin in origins]
        lifts.append((nats - np.mean(earlier)) / tokens)
    assert metrics["likelihood_lift"] == pytest.approx(np.mean(lifts))
    assert metrics["likelihood_lift"] > 0.5


def test_a_likelihood_that_ignores_the_context_has_a_lift_of_exactly_0(project: Project) -> None:
    assert evaluate(project, "constant")["likelihood_lift"] == 0


def test_the_text_that_is_chosen_does_not_matter(project: Project) -> None:
    """Copying a post, or always saying the same, wins nothing."""
    copied, constant = (evaluate(project, name) for name in ("recent", "constant_text"))
    assert copied["overall_score"] != constant["overall_score"]
    assert copied["copy_rate"] == 1
    assert all(copied[key] == constant[key] for key in ("nats_per_token", "likelihood_lift"))


def test_a_likelihood_that_knows_the_post_fails_the_run(project: Project) -> None:
    with pytest.raises(AlgorithmError, match="'leaking': its hook likelihood returned different values .* later posts"):
        evaluate(project, "leaking")


def test_an_impossible_likelihood_fails_the_run_and_names_the_hook(project: Project, plugins: Plugins) -> None:
    broken = content_algorithm("broken").replace("np.log(", "-np.log(")
    plugins.add("broken", broken)
    with pytest.raises(AlgorithmError, match="'broken': its hook likelihood returned the log-likelihood .* above 0"):
        evaluate(project, "broken")


def test_a_comparison_shows_the_likelihood_of_the_sides_that_have_one_and_decides_without(project: Project) -> None:
    for algorithm in ("baseline", "recent", "constant"):
        evaluate(project, algorithm)
    versions = {version.algorithm: version for version in project.registry.list_versions("content")}
    both = compare_versions(project, runtime_of(project), versions["constant"], versions["recent"], NOW)
    assert both.metrics_a
    assert both.metrics_b
    assert both.metrics_b["nats_per_token"] < both.metrics_a["nats_per_token"]
    assert both.winner is None  # both copy the previous post: the documented score decides
    one = compare_versions(project, runtime_of(project), versions["baseline"], versions["recent"], NOW)
    assert one.metrics_a
    assert "nats_per_token" not in one.metrics_a


def test_the_metrics_are_recomputed_from_the_recorded_forecasts(project: Project) -> None:
    metrics = evaluate(project, "recent")
    (version,) = project.registry.list_versions("content")
    (row,) = project.registry.list_evaluations(version.version_id)
    stored = CONTENT.parse(project.artifacts.read_file(version, row.forecasts_file))
    again = CONTENT.score(stored.forecasts, stored.targets)
    assert all(again[key] == metrics[key] == row.metrics[key] for key in ("nats_per_token", "likelihood_lift"))


def test_evaluate_and_show_print_them_and_explain_them(project: Project, plugins: Plugins, retrainer: Runner) -> None:
    metrics = evaluate(project, "recent")
    (version,) = project.registry.list_versions("content")
    nats, lift = (f"{metrics[key]:.4f}" for key in ("nats_per_token", "likelihood_lift"))
    printed = retrainer("evaluate", version.version_id, env=plugins.environ).out
    lines = {line.split("  ")[0].strip(): line for line in reversed(printed.splitlines()) if line}
    assert nats in lines["Nats per token"]
    assert lift in lines["Likelihood lift"]
    assert "Likelihood lift: nats per token that a post gains from its own origin" in printed
    shown = retrainer("show", version.version_id, env=plugins.environ).out
    assert nats in shown
    assert lift in shown
    document = json.loads(retrainer("evaluate", version.version_id, "--json", env=plugins.environ).out)
    assert document["metrics"]["likelihood_lift"] == metrics["likelihood_lift"]
    assert "likelihood_lift" not in document["baseline"]["metrics"]
