"""What `make bench-fleet` measures, and what it computes from that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import fleet, fleet_projects
from benchmarks.scaling import compute
from retrainer.doctor import examine

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = {
    "size": {
        "jobs": 2,
        "streams_a_second": 4.0,
        "commits": 8.0,
        "server_processor_seconds": 0.02,
        "bytes_a_run": 50_000,
    },
    "storage": {"bytes_a_stream": 100_000, "files_a_version": 3, "file_bytes_a_version": 40_000},
    "commits": {"one lock": {1: 10.0, 2: 20.0}, "own locks": {1: 10.0, 2: 40.0}},
}


def test_what_streams_take() -> None:
    needs = compute(MEASURED, 864_000, 1)
    assert needs.runs == 10
    assert needs.workers == 5  # each makes two runs a second
    assert needs.commits == 80
    assert needs.lock_share == 0.5
    assert needs.server_cores == pytest.approx(0.2)
    assert needs.files == 864_000 * 30
    assert compute(MEASURED, 864_000, 10).workers == 0.5


@pytest.mark.slow
def test_a_small_fleet_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "FEW", 20)
    monkeypatch.setattr(fleet, "RUNS", 2)
    monkeypatch.setattr(fleet, "PROCESSES", (1, 2))
    monkeypatch.setattr(fleet_projects, "TEMPLATES", 3)
    path = tmp_path / "bench-fleet.json"
    measures = "processor,size,commits"
    fleet.main(["--streams", "24", "--timed", "20", "--seconds", "0.5", "--measure", measures, "--json", str(path)])
    found = json.loads(path.read_text())
    assert found["size"]["timed"] == 20
    assert found["size"]["commits"] >= 7
    for measure in ("processor", "size"):
        shares = found[measure]["shares"]
        assert {"training", "evaluation", "registry", "files", "posts", "rest"} <= shares.keys()
        assert sum(shares.values()) == pytest.approx(1)
    assert min(found["commits"]["one lock"].values()) > 0
    assert "| runs a second | 0.17 | 1.16 | 1.65 | 11.57 |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_registered_stream_is_like_one_that_was_trained(tmp_path: Path, postgresql_url: str) -> None:
    project = fleet_projects.create_registered(tmp_path, postgresql_url, 12)
    try:
        copied = project.for_stream(fleet_projects.stream_name(11))
        assert len(copied.posts.load(fleet_projects._END)) == fleet_projects.POSTS
        assert copied.registry.get_last_completed_run("timing") is not None
        assert examine(copied) == []
    finally:
        project.close()
