"""A replay whose steps a real Dask cluster computes in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.clusters import Dask
from tests.command_line import run_as_process
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugins_for_tests import Plugins

_NOTE_THE_PROCESS = """
import sys
with Path(os.environ["TRAININGS"]).open("a") as file:
    print(*sys.orig_argv, file=file)
"""


@pytest.mark.slow  # whole processes
@pytest.mark.usefixtures("project")
def test_a_cluster_changes_nothing_but_the_time(
    folder: Path, tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("noting", timing_algorithm("noting", train=_NOTE_THE_PROCESS))
    trainings = tmp_path / "trainings"
    for name, value in {**plugins.environ, "TRAININGS": str(trainings)}.items():
        monkeypatch.setenv(name, value)
    retrainer = run_as_process(folder)
    arguments = ["replay", "timing", "--from", "2024-10-20", "--policy", "noting: algorithm=noting", "--json"]
    alone = retrainer(*arguments, "--workdir", str(tmp_path / "alone"))
    assert alone.code == 0, alone.err
    assert "retrainer.parallel.child" not in trainings.read_text()
    with Dask(tmp_path / "cluster") as cluster:
        together = retrainer(*arguments, *cluster.arguments, "--workdir", str(tmp_path / "together"))
        assert together.code == 0, together.err
        assert "Continuing without the cluster" not in together.err
        assert "not computed in advance" not in together.err
    assert "retrainer.parallel.child" in trainings.read_text()
    assert _without_seconds(together.json) == _without_seconds(alone.json)


def _without_seconds(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_seconds(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_seconds(item) for key, item in value.items() if "seconds" not in key}
