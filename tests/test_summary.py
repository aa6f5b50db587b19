"""The Markdown summary that CI shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.summary import _escaped
from tests.conftest import NOW, constant_timing, open_project, regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Plugins, Runner


@pytest.fixture
def with_posts(folder: Path) -> Path:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    return folder


def test_the_summary_has_decision_scores_and_evidence_and_is_appended(
    with_posts: Path, retrainer: Runner, plugins: Plugins, tmp_path: Path
) -> None:
    plugins.add("wrong", constant_timing("wrong", 30.0))
    file = tmp_path / "summary.md"
    file.write_text("# Mine\n")
    retrainer("train", "timing", "--algorithm", "wrong", env=plugins.environ)
    done = retrainer("train", "timing", "--summary", str(file), "--json", env=plugins.environ)
    (run,) = done.json["training_runs"]
    text = file.read_text()
    assert text.startswith("# Mine\n### Timing model: ✓ promoted\n")
    assert _escaped(run["promotion_reason"]) in text
    assert "| Metric | new | production | naive |" in text
    score = f"{run['comparison']['version_b']['score']:.4f} | {run['comparison']['version_a']['score']:.4f}"
    naive = f"{run['comparison']['baseline']['metrics']['overall_score']:.4f}"
    assert f"| Overall score | {score} | {naive} |" in text
    assert "The new model is better with probability 1.00" in text
    assert f"Version `{run['model_version_id']}`, run `{run['run_id']}`" in text
    assert retrainer("train", "timing", "--if-due", "--summary", str(file)).code == 0
    assert file.read_text().startswith(text)
    assert "### The timing model is not due: 0.0 of 7 days" in file.read_text()


def test_failures_are_in_the_summary(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    few = {"RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES": "5000"}
    assert retrainer("train", "--summary", str(file), env=few).code == 3
    text = file.read_text()
    assert "### Timing model: ✗ failed" in text
    assert "### Content model: ✗ failed" in text
    assert "Insufficient data for training: 120 posts" in text
    lost = {"RETRAINER_DATABASE__URL": "sqlite:////dev/null/x.db"}
    assert retrainer("train", "--summary", str(file), env=lost).code == 1
    assert "### Retraining failed\n\ncannot make the folder" in file.read_text()


def test_a_dry_run_says_so(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    retrainer("train", "timing", "--dry-run", "--summary", str(tmp_path / "summary.md"))
    assert "### Timing model: dry run, nothing is recorded" in (tmp_path / "summary.md").read_text()


def test_a_summary_that_cannot_be_written_is_a_warning(with_posts: Path, retrainer: Runner) -> None:
    done = retrainer("train", "timing", "--summary", "/dev/full")
    assert done.code == 0
    assert "The summary '/dev/full' cannot be written: No space left on device" in done.err


def test_words_of_others_are_no_markdown() -> None:
    assert _escaped("a `b` <c>\n| d") == "a \\`b\\` \\<c\\> \\| d"
