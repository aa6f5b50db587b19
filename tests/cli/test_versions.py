"""The commands for versions: pin, restore, prune, production at a past time, rollback to a version."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from tests.conftest import NOW, configure, open_project, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare


@pytest.fixture
def five(folder: Path, prepare: Prepare) -> list[str]:
    """Train five timing versions in a project that keeps one; return their ids, oldest first."""
    configure(folder, keep_versions="1")
    return prepare(folder, train_five_versions)


def train_five_versions(folder: Path) -> list[str]:
    project = open_project(folder)
    project.posts.add(sample_posts(), NOW)
    runs = [
        retrain(project, runtime_of(project), "timing", datetime(2024, 10, day, tzinfo=UTC), as_of=True).run
        for day in range(1, 6)
    ]
    project.close()
    return [str(run.model_version_id) for run in runs if run]


def test_archived_versions_are_restored_and_pinned(five: list[str], retrainer: Runner) -> None:
    states = {row["version_id"]: row["status"] for row in retrainer("versions", "--json").json["versions"]}
    assert [states[one] for one in five] == ["active", "archived", "archived", "archived", "trained"]
    assert f"{five[1]} is restored" in retrainer("restore", five[1], "--reason", "for a look").out
    assert f"{five[1]} is not archived" in retrainer("restore", five[1]).out
    assert f"{five[1]} is now pinned" in retrainer("pin", five[1]).out
    assert retrainer("pin", five[1], "--json").json["changed"] is False
    retrainer("train", "timing", "--as-of", "2024-10-06")
    shown = retrainer("show", five[1])
    assert "trained, pinned" in shown.out
    assert "it was archived (automatically, " in shown.out
    assert "it was restored (" in shown.out
    assert "for a look." in shown.out
    assert "is no longer pinned" in retrainer("unpin", five[1]).out


def test_prune_shows_its_plan_and_asks_first(five: list[str], retrainer: Runner, folder: Path) -> None:
    plan = retrainer("prune", "--dry-run", "--json").json
    assert plan["dry_run"]
    assert [row["version_id"] for row in plan["versions"]] == five[3:0:-1]
    assert all(row["bytes_on_disk"] > 0 for row in plan["versions"])
    refused = retrainer("prune")
    assert refused.code == 2
    assert "no terminal to ask for confirmation. Add --yes" in refused.err
    assert (folder / "models" / "timing" / five[1]).exists()
    done = retrainer("prune", "--yes")
    assert done.code == 0
    assert "Deleted the files of 3 versions" in done.out
    assert not (folder / "models" / "timing" / five[1]).exists()
    gone = retrainer("restore", five[1])
    assert gone.code == 1
    assert f"the files of '{five[1]}' were pruned on" in gone.err
    assert retrainer("show", five[1], "--json").json["evaluations"]
    assert retrainer("doctor").code == 0
    assert "No archived version has files to delete" in retrainer("prune", "--yes").out


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_prune_asks_on_a_terminal(answer: str, deleted: bool, five: list[str], folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "retrainer", "prune"]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, answer.encode())
        out, _ = process.communicate(timeout=600)
    os.close(ours)
    assert process.returncode == 0
    assert b"Archived version" in out
    assert (folder / "models" / "timing" / five[1]).exists() is not deleted


def test_production_at_a_past_time(five: list[str], retrainer: Runner) -> None:
    moment = datetime.now(UTC).isoformat()
    retrainer("promote", five[4])
    now = datetime.now(UTC).isoformat()
    assert retrainer("production", "--at", moment, "--json").json["timing_model"]["version_id"] == five[0]
    assert retrainer("production", "--at", now, "--json").json["timing_model"]["version_id"] == five[4]
    assert retrainer("production", "--at", "2020-01-01", "--json").json["timing_model"] is None
    shown = retrainer("production", "--at", "2020-01-01").out.split()
    assert shown[shown.index("timing") + 1] == shown[shown.index("content") + 1] == "none"
    assert retrainer("production", "--at", "2999-01-01").code == 2


def test_rollback_to_a_version(five: list[str], retrainer: Runner) -> None:
    retrainer("promote", five[3])
    retrainer("promote", five[4])
    done = retrainer("rollback", "timing", "--to", five[0])
    assert done.code == 0
    assert f"Rolled back from {five[4]} to {five[0]}" in done.out
    never = retrainer("rollback", "timing", "--to", five[2])
    assert never.code == 1
    assert f"Use `retrainer promote {five[2]}` instead" in never.err
    assert retrainer("rollback", "timing", "--to", "nope").code == 2


def test_show_prints_the_decision_with_its_scores(five: list[str], retrainer: Runner) -> None:
    shown = retrainer("show", five[4]).out
    assert "it was not promoted (automatically, " in shown
    assert "naive 0." in shown
    assert "on the same 20 posts." in shown
    assert "it was promoted to production (automatically, " in retrainer("show", five[0]).out


def test_history_pages_and_filters(five: list[str], retrainer: Runner) -> None:
    first = retrainer("history", "--limit", "2", "--json").json
    second = retrainer("history", "--limit", "2", "--page", "2", "--json").json
    assert (first["count"], first["total"]) == (2, 5)
    ids = [run["model_version_id"] for run in first["training_runs"] + second["training_runs"]]
    assert ids == five[4:0:-1]
    assert retrainer("history", "--promoted", "--json").json["total"] == 1
    assert retrainer("history", "--not-promoted", "--json").json["total"] == 4
    assert retrainer("history", "--status", "failed", "--json").json["total"] == 0
    between = retrainer("history", "--since", "2024-10-02", "--until", "2024-10-04", "--json").json
    assert [run["model_version_id"] for run in between["training_runs"]] == [five[2], five[1]]
    assert "Training runs (2 of 5)" in retrainer("history", "--limit", "2").out
    assert retrainer("history", "--status", "done").code == 2
    assert retrainer("history", "--since", "yesterday").code == 2


def test_the_next_command_restores_an_empty_models_folder(five: list[str], retrainer: Runner, folder: Path) -> None:
    """As in a CI job, which has an empty disk and a database elsewhere."""
    import shutil

    shutil.rmtree(folder / "models")
    done = retrainer("predict", "timing", "--json")
    assert done.code == 0
    assert done.json["version_id"] == five[0]
    retrainer("train", "timing", "--if-due")
    assert (folder / "models" / "timing_model" / "manifest.json").exists()


def test_a_full_disk_is_one_error_and_production_is_unchanged(
    five: list[str], retrainer: Runner, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small filesystem cannot be mounted here")
    try:
        (place / "ballast").write_bytes(b"x" * 15_000)
        done = retrainer("train", "timing", "--quiet", RETRAINER_MODELS_DIR=str(place))
        assert done.code == 1
        assert f"cannot write to '{place}" in done.err
        assert "No space left on device" in done.err
        assert retrainer("production", "--json").json["timing_model"]["version_id"] == five[0]
        (run, *_) = retrainer("history", "--json").json["training_runs"]
        assert run["status"] == "failed"
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_show_prints_options_that_are_mappings(retrainer: Runner) -> None:
    assert retrainer("train", "timing", "--algorithm", "ensemble", "--no-auto-promote").code == 0
    (options,) = [line for line in retrainer("show", "timing@latest").out.splitlines() if line.startswith("Options:")]
    assert "members.baseline.window: 20" in options
