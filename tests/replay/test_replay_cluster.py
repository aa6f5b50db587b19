"""A replay whose steps a real Dask cluster computes in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.clusters import Dask
from tests.command_line import run_as_process

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow  # whole processes
@pytest.mark.usefixtures("project")
def test_a_cluster_changes_nothing_but_the_time(folder: Path, tmp_path: Path) -> None:
    retrainer = run_as_process(folder)
    arguments = ["replay", "timing", "--from", "2024-10-20", "--json"]
    alone = retrainer(*arguments, "--workdir", str(tmp_path / "alone"))
    assert alone.code == 0, alone.err
    with Dask(tmp_path / "cluster") as cluster:
        together = retrainer(*arguments, *cluster.arguments, "--workdir", str(tmp_path / "together"))
        assert together.code == 0, together.err
        assert "Continuing without the cluster" not in together.err
        assert "not computed in advance" not in together.err
    assert _without_seconds(together.json) == _without_seconds(alone.json)


def _without_seconds(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_seconds(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_seconds(item) for key, item in value.items() if "seconds" not in key}
