"""Looking works where nothing can be written, also after a run that died: history, show, predict and the like."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.pipeline.run import retrain
from retrainer.registry.runs import RunFilter
from tests.api.conftest import thread_server
from tests.conftest import NOW, administer, configure, open_project, regular_posts, runtime_of
from tests.registry.conftest import leave_a_dead_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Runner


def leave_two_versions_and_a_dead_run(folder: Path) -> list[str]:
    """Train two timing versions, leave a dead run behind, and return the ids of the versions."""
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    runs = [retrain(project, runtime_of(project), "timing", NOW).run for _ in range(2)]
    leave_a_dead_run(project)
    project.close()
    return [str(run.model_version_id) for run in runs if run]


def look(retrainer: Runner, versions: list[str], *findings: str) -> None:
    """Call the commands that only look, and check what they show of the dead run.

    Args:
        findings: what `doctor` also finds.
    """
    (run, *_) = retrainer("history", "--json").json["training_runs"]
    assert (run["status"], run["run_id"]) == ("failed", retrainer_run_id(retrainer))
    assert "The run was interrupted: its process" in run["error"]
    assert retrainer("history", "--status", "running", "--json").json["total"] == 0
    for command in (
        ["show", versions[0], "--json"],
        ["versions"],
        ["production"],
        ["predict", "timing"],
        ["compare", *versions],
        ["posts", "count"],
        ["prune", "--dry-run"],
        ["train", "timing", "--dry-run"],
        ["history", "--csv"],
    ):
        done = retrainer(*command)
        assert done.code == 0, (command, done.err)
    examined = retrainer("doctor", "--json")
    assert {finding["kind"] for finding in examined.json["findings"]} == {"dead_run", *findings}, examined.err
    assert retrainer("status").code == 1


def retrainer_run_id(retrainer: Runner) -> str:
    """Return the id of the only failed run."""
    (run,) = retrainer("history", "--status", "failed", "--json").json["training_runs"]
    return str(run["run_id"])


def look_over_http(folder: Path, versions: list[str]) -> None:
    """Start a server, and call the endpoints that only look."""
    with thread_server(folder) as server:
        (run, *_) = server.get("/models/training-history?status=failed").json()["training_runs"]
        assert "The run was interrupted: its process" in run["error"]
        paths = (
            "/health/ready",
            "/metrics",
            "/status",
            "/models/production",
            "/models/versions",
            f"/models/versions/{versions[0]}",
            f"/models/training-history/{run['run_id']}",
            f"/models/compare/{versions[0]}/{versions[1]}",
            "/models/predict/timing",
        )
        answers = {path: server.get(path).status_code for path in (*paths, *paths)}
        assert set(answers.values()) == {200}, answers
        refused = server.post("/models/retrain", json={"model_type": "timing"})
        assert refused.status_code == 503, refused.text


def require_that_writing_fails(retrainer: Runner, problem: str) -> None:
    done = retrainer("train", "timing")
    assert done.code == 1
    assert problem in done.err.splitlines()[-1]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: for root, who ignores permissions, by a mount."""
    if os.geteuid() == 0:
        _mount("--bind", str(folder), str(folder))
        _mount("-o", "remount,bind,ro", str(folder))
    else:
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
    try:
        yield
    finally:
        undo = ["umount", "--lazy", str(folder)] if os.geteuid() == 0 else ["chmod", "-R", "u+w", str(folder)]
        subprocess.run(undo, check=True)


def _mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode:
        pytest.skip("only root may mount")


@pytest.mark.slow
def test_a_read_only_folder(sqlite_folder: Path, retrainer: Runner) -> None:
    versions = leave_two_versions_and_a_dead_run(sqlite_folder)
    with read_only(sqlite_folder):
        look(retrainer, versions, "unwritable_folder")
        look_over_http(sqlite_folder, versions)
        require_that_writing_fails(retrainer, "cannot be written")


@pytest.mark.slow
def test_a_read_only_folder_with_a_write_ahead_log(sqlite_folder: Path, retrainer: Runner) -> None:
    """A killed process leaves the log behind, and it holds the latest changes."""
    versions = leave_two_versions_and_a_dead_run(sqlite_folder)
    project = open_project(sqlite_folder)
    with project.registry.database.engine.connect():  # keeps the log
        project.registry.hold("timing", "in the log", NOW)
        with read_only(sqlite_folder):
            look(retrainer, versions, "unwritable_folder")
            assert "in the log" in retrainer("production").out


@pytest.mark.slow
def test_a_read_only_models_folder_that_lacks_files(sqlite_folder: Path, retrainer: Runner) -> None:
    versions = leave_two_versions_and_a_dead_run(sqlite_folder)
    (sqlite_folder / "models" / "timing" / versions[0] / "model.json").unlink()
    with read_only(sqlite_folder):
        assert retrainer("history", "--json").json["training_runs"][0]["status"] == "failed"
        assert retrainer("predict", "timing").code == 0


def test_a_reader_in_a_read_only_place_sees_what_others_commit(sqlite_folder: Path, tmp_path: Path) -> None:
    open_project(sqlite_folder).registry.database.close()  # creates it
    view = tmp_path / "view"
    view.mkdir()
    _mount("--bind", str(sqlite_folder), str(view))
    _mount("-o", "remount,bind,ro", str(view))
    try:
        reader = open_project(view).registry
        for number in range(3):
            assert (reader.get_hold("timing") is not None) is (number % 2 == 1)
            writer = open_project(sqlite_folder)
            assert (writer.registry.release if number % 2 else writer.registry.hold)("timing", "test", NOW)
            assert (reader.get_hold("timing") is not None) is (number % 2 == 0), "the log holds it"
            writer.close()
        reader.database.close()
    finally:
        subprocess.run(["umount", "--lazy", str(view)], check=True)


@pytest.mark.slow
def test_a_full_disk(sqlite_folder: Path, retrainer: Runner) -> None:
    configured = (sqlite_folder / "config" / "config.yaml").read_text()
    _mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(sqlite_folder))
    try:
        for name in ("config", "data"):
            (sqlite_folder / name).mkdir()
        (sqlite_folder / "config" / "config.yaml").write_text(configured)
        versions = leave_two_versions_and_a_dead_run(sqlite_folder)
        with pytest.raises(OSError, match="No space left"), (sqlite_folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        look(retrainer, versions, "full_disk")
        require_that_writing_fails(retrainer, "disk")
    finally:
        subprocess.run(["umount", "--lazy", sqlite_folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["read-only database", "role that may only select"])
def test_a_read_only_postgresql(
    how: str, sqlite_folder: Path, retrainer: Runner, postgresql_server: str, postgresql_url: str
) -> None:
    configure(sqlite_folder, url=f'"{postgresql_url}"')
    versions = leave_two_versions_and_a_dead_run(sqlite_folder)
    name = sa.make_url(postgresql_url).database
    with administer(postgresql_server) as connection:
        if how == "read-only database":
            connection.execute(sa.text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
            look(retrainer, versions)
            look_over_http(sqlite_folder, versions)
            require_that_writing_fails(retrainer, "cannot be written: it is read-only")
            return
    role = f"reader_of_{name}"
    with administer(postgresql_url.replace(str(name), "{name}", 1).format(name=name)) as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(sa.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
    configure(sqlite_folder, url=f'"{postgresql_url.replace("postgres@", f"{role}@")}"')
    look(retrainer, versions)
    require_that_writing_fails(retrainer, "permission denied")


@pytest.mark.slow_on_postgresql
def test_a_dead_run_is_shown_as_failed_and_filtered_as_such(folder: Path) -> None:
    project = open_project(folder)
    leave_a_dead_run(project)
    registry = project.registry
    (dead,) = registry.list_running_runs()
    assert registry.get_run(dead.run_id).status == "failed"
    assert [run.run_id for run in registry.list_runs(run_filter=RunFilter(status="failed"))] == [dead.run_id]
    assert registry.count_runs(run_filter=RunFilter(status="failed")) == 1
    assert registry.list_runs(run_filter=RunFilter(status="running")) == []
    assert registry.count_runs(run_filter=RunFilter(status="running")) == 0
    assert [run.run_id for run in registry.list_running_runs()] == [dead.run_id], "nothing was written"
