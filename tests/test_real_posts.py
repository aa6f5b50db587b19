"""Real streams can be imported without options and trained on, if they are beside the project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from retrainer.model_types.timing import Timing
from tests.conftest import open_project, version_folder
from tests.shared import REAL_STREAMS, real_stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner


def first_rows(name: str, count: int, target: Path) -> Path:
    """Write the first rows of a stream to another file."""
    import pandas as pd

    pd.read_csv(real_stream(name), dtype=str, nrows=count).to_csv(target, index=False)
    return target


def retrain_twice(retrainer: Runner, folder: Path, file: Path) -> None:
    """Import a stream, train twice, and compare the output with the stored forecasts."""
    imported = retrainer("posts", "import", str(file), "--json")
    assert imported.code == 0
    assert imported.json["rejected"] == []
    assert imported.json["mapping"].items() >= {"post_id": "id", "created_at": "created_at", "content": "text"}.items()
    environ = {"RETRAINER_TIMING_MODEL__ALGORITHM": "prophet"}
    first = retrainer("train", "timing", "--json", env=environ).json["training_runs"][0]
    assert first["promoted_to_production"]
    second = retrainer("train", "timing", "--json", env=environ).json["training_runs"][0]
    comparison = second["comparison"]
    assert comparison["version_a"]["version_id"] == first["model_version_id"]
    assert comparison["version_b"]["version_id"] == second["model_version_id"]
    assert comparison["num_predictions"] == 20
    recompute(folder, second)


def recompute(folder: Path, run: dict[str, object]) -> None:
    """Recompute MAE, within 6 h and the overall score from the stored forecasts."""
    project = open_project(folder)
    version = project.registry.get_version(str(run["model_version_id"]))
    (row,) = project.registry.list_evaluations(version.version_id)
    path = version_folder(project, "timing", version.version_id) / row.forecasts_file
    forecasts, targets, *_ = Timing().parse(path.read_bytes())
    project.close()
    error = np.abs(forecasts.point - targets.wait_hours)
    within = float((error <= 6).mean())
    assert run["test_mae_hours"] == pytest.approx(error.mean())
    assert run["test_within_6h_accuracy"] == within
    assert run["test_overall_score"] == pytest.approx(0.7 * within + 0.3 * (1 - min(error.mean() / 24, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_STREAMS)
def test_a_real_stream_is_imported_and_retrained_twice(name: str, retrainer: Runner, folder: Path) -> None:
    file, rows = real_stream(name), REAL_STREAMS[name].rows
    retrain_twice(retrainer, folder, file)
    assert retrainer("posts", "count", "--json").json["count"] == rows
    again = retrainer("posts", "import", str(file), "--json").json
    assert (again["added"], again["already_there"]) == (0, rows)


def test_a_sparse_stream_of_the_specified_size(retrainer: Runner, folder: Path, tmp_path: Path) -> None:
    retrain_twice(retrainer, folder, first_rows("trump_twitter_2009_2017.csv", 373, tmp_path / "first.csv"))
    run = retrainer("history", "--json").json["training_runs"][0]
    assert (run["num_training_samples"], run["num_test_samples"]) == (298, 75)
