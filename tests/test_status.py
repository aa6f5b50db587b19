"""`status` says in one look what is live and what needs a person; `doctor` finds the same surroundings wanting."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil
import pytest
import sqlalchemy as sa

from retrainer import health
from retrainer.doctor import examine
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.run import retrain
from retrainer.project import create_project
from retrainer.registry.tables import TrainingRun
from retrainer.schedule.installed import CRON_DAEMONS, cron_is_running, find_schedules
from retrainer.status import get_status, model_problems
from retrainer.streams import ModelKey
from tests.api.conftest import thread_server
from tests.conftest import configure, open_project, regular_posts, runtime_of
from tests.plugins_for_tests import timing_algorithm
from tests.programs import process_named

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _own_crontab(cron_folder: Path) -> None:
    """No test looks at the crontab of the developer."""


def import_fresh_posts(project: Project) -> datetime:
    """Store 480 posts, one every 5 hours until 5 hours ago; return the time now."""
    now = datetime.now(UTC)
    project.posts.add(regular_posts(480, start=now - timedelta(hours=5 * 480)), now)
    return now


def train_both(project: Project, now: datetime) -> None:
    for model_type in MODEL_TYPE_NAMES:
        retrain(project, runtime_of(project), model_type, now)


def messages(project: Project, now: datetime) -> list[str]:
    return [problem.message for problem in get_status(project, now).problems]


def test_a_sound_project_needs_nobody(folder_on_each_database: Path, retrainer: Runner) -> None:
    project = open_project(folder_on_each_database)
    now = import_fresh_posts(project)
    train_both(project, now)
    done = retrainer("status")
    assert (done.code, done.err) == (0, ""), done.out
    assert "✓ Nothing needs attention" in done.out
    for words in (", promoted 20", "next run due 20", "last run 20", "480, the newest 5 h old", "GiB free"):
        assert words in done.out
    document = retrainer("status", "--json").json
    assert (document["needs_attention"], document["problems"]) == (False, [])
    timing, content = document["types"]
    assert (timing["model_type"], content["model_type"]) == ("timing", "content")
    assert timing["version_id"] == timing["last_run"]["model_version_id"]
    assert timing["live_since"] is not None
    assert (timing["is_due"], timing["hold"]) == (False, None)
    assert datetime.fromisoformat(timing["due_at"]) == (now + 7 * DAY).replace(microsecond=0)
    posts = document["posts"]
    assert (posts["count"], posts["stale"]) == (480, False)
    assert posts["recent_per_day"] == pytest.approx(4.8, abs=0.2)
    assert posts["usual_per_day"] == pytest.approx(4.8, abs=0.1)
    assert posts["usual_gap_hours"] == 10
    assert {plugin["name"]: plugin["problem"] for plugin in document["plugins"]} == {"baseline": None}
    project.registry.hold("timing", "holiday season", now)
    held = retrainer("status")
    assert held.code == 0, "somebody holds it on purpose"
    assert "put on hold 20" in held.out
    assert "holiday season" in held.out


def test_the_rest_api_has_the_same_status(folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    train_both(project, import_fresh_posts(project))
    project.close()
    with thread_server(folder) as server:
        answered = server.get("/status").json()
    shown = retrainer("status", "--json").json
    assert answered.keys() == shown.keys()
    assert answered["types"] == shown["types"]
    assert answered["needs_attention"] is False


def test_a_new_project_needs_posts_and_a_first_run(folder: Path, retrainer: Runner) -> None:
    done = retrainer("status", "--json")
    assert done.code == 1
    assert [problem["message"] for problem in done.json["problems"]] == [
        "there are no posts",
        "no timing version is in production",
        "no content version is in production",
    ]
    assert all(problem["hint"] for problem in done.json["problems"])
    disabled = retrainer("status", "--json", RETRAINER_RETRAINING__ENABLED="false")
    assert [problem["kind"] for problem in disabled.json["problems"]] == ["no_posts"]


def test_stale_posts_a_failed_run_and_a_late_one_need_a_person(folder_on_each_database: Path) -> None:
    project = open_project(folder_on_each_database)
    now = import_fresh_posts(project)
    train_both(project, now)
    assert messages(project, now + timedelta(hours=4)) == []
    (stale,) = messages(project, now + 3 * DAY)
    assert stale.startswith("the posts are stale: the newest is 3")
    posts = get_status(project, now + 30 * DAY).posts
    assert posts.recent_per_day == 0
    assert posts.usual_per_day == pytest.approx(4.8, abs=0.1), "as before the silence"
    assert len(messages(project, now + 7.9 * DAY)) == 1, "due, but a daily schedule may be about to run"
    late = messages(project, now + 8.1 * DAY)
    assert [message.partition(" since")[0] for message in late[1:]] == [
        "the timing model has been due",
        "the content model has been due",
    ]
    run = project.registry.start_run("timing", "baseline", now + 8 * DAY, None)
    project.registry.fail_run(run.run_id, "the disk is full", now + 8 * DAY)
    of_the_past = project.registry.start_run("timing", "baseline", now + 8.05 * DAY, as_of=now)
    project.registry.fail_run(of_the_past.run_id, "not enough posts then", now + 8.05 * DAY)
    failed = messages(project, now + 8.1 * DAY)
    assert any(message.endswith(": the disk is full") for message in failed)
    assert not any("timing model has been due" in message for message in failed), "it was tried"
    timing = ModelKey("default", "timing")
    (one,) = model_problems(timing, None, now - 2 * DAY, now, enabled=True, is_live=True, several=True)
    assert one.hint.endswith("or run `retrainer train --if-due --all-streams`")


def test_production_without_its_algorithm_is_found(folder: Path, plugins: Plugins, retrainer: Runner) -> None:
    project = open_project(folder)
    import_fresh_posts(project)
    project.close()
    plugins.add("fragile", timing_algorithm("fragile"))
    done = retrainer("train", "timing", "--algorithm", "fragile", env=plugins.environ)
    assert done.code == 0, done.err
    assert retrainer("doctor", env=plugins.environ).code == 0
    found = retrainer("doctor", "--json")
    assert found.code == 1
    (finding,) = found.json["findings"]
    assert finding["kind"] == "unusable_algorithm"
    assert "cannot forecast: unknown algorithm 'fragile'" in finding["message"]
    assert finding["hint"].startswith("Install or fix the plugin, or promote a version of another algorithm")
    problems = retrainer("status", "--json").json["problems"]
    assert [(problem["kind"], problem["subject"]) for problem in problems if "fragile" in problem["message"]] == [
        ("unusable_algorithm", finding["subject"])
    ]
    assert "(not repaired)" not in retrainer("doctor", "--repair").out
    (plugins.site / "retrainer_fragile_module.py").write_text("import no_such_module\n")
    broken = retrainer("doctor", "--json", env=plugins.environ).json["findings"]
    assert "cannot import the plugin 'fragile'" in broken[0]["message"]


def test_a_configured_algorithm_that_is_broken_needs_a_person(
    folder: Path, plugins: Plugins, retrainer: Runner
) -> None:
    plugins.add("broken", "import no_such_module\n")
    environ = {**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "broken"}
    document = retrainer("status", "--json", env=environ).json
    expected = "the configured timing algorithm cannot be used: cannot import the plugin 'broken'"
    assert sum(problem["message"].startswith(expected) for problem in document["problems"]) == 1


def test_invalid_settings_of_the_production_algorithm_need_a_person(
    folder: Path, plugins: Plugins, retrainer: Runner
) -> None:
    project = open_project(folder)
    import_fresh_posts(project)
    project.close()
    plugins.add("fragile", timing_algorithm("fragile"))
    environ = {**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "fragile"}
    assert retrainer("train", "timing", env=environ).code == 0
    done = retrainer("status", "--json", env={**environ, "RETRAINER_TIMING_MODEL__FRAGILE__COLOUR": "red"})
    (problem,) = [problem for problem in done.json["problems"] if "content" not in problem["message"]]
    assert (problem["kind"], problem["subject"]) == ("unusable_algorithm", "fragile")
    assert problem["message"].startswith("the configured timing algorithm cannot be used: ")


def test_a_disk_that_is_nearly_full_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = open_project(folder)
    assert examine(project) == []
    monkeypatch.setattr(health, "MIN_FREE_BYTES", 10**18)
    (finding,) = examine(project)
    assert (finding.kind, finding.subject) == ("full_disk", str(project.models_dir))
    assert any("MiB left" in message for message in messages(project, datetime.now(UTC)))


@pytest.mark.slow
def test_a_models_folder_that_cannot_be_written_is_found(sqlite_folder: Path, powerless_retrainer: Runner) -> None:
    models = sqlite_folder / "models"
    models.chmod(0o555)
    try:
        findings = powerless_retrainer("doctor", "--json").json["findings"]
    finally:
        models.chmod(0o755)
    assert [(finding["kind"], finding["subject"]) for finding in findings] == [("unwritable_folder", str(models))]


def record_run(project: Project, at: datetime) -> None:
    run = project.registry.start_run("timing", "baseline", at, None)
    project.registry.fail_run(run.run_id, "not enough posts", at)


def test_two_projects_with_one_database_notice_each_other(folder_on_each_database: Path, tmp_path: Path) -> None:
    first = open_project(folder_on_each_database)
    now = datetime.now(UTC)
    url = first.registry.database.engine.url.render_as_string(hide_password=False)
    create_project(tmp_path / "other")
    configure(tmp_path / "other", url=f'"{url}"')
    other = open_project(tmp_path / "other")
    record_run(first, now)
    assert shared(first) == shared(other) == []
    record_run(other, now + timedelta(minutes=1))
    assert shared(first) == [str(tmp_path / "other")]
    assert shared(other) == [], "the other one may have been moved here"
    record_run(first, now + timedelta(minutes=2))
    assert shared(other) == [str(first.folder)]
    assert any("trains with the same database" in message for message in messages(other, now))
    other.close()
    shutil.rmtree(tmp_path / "other")
    assert shared(first) == [], "it is gone"
    with first.registry.database.write() as session:
        session.execute(sa.update(TrainingRun).values(host="elsewhere"))
    assert shared(first) == [str(tmp_path / "other")], "it may exist on another host"


def shared(project: Project) -> list[str]:
    """Return the projects that `doctor` finds to share the database."""
    return [finding.subject for finding in examine(project) if finding.kind == "shared_database"]


def test_a_copied_project_shares_nothing(sqlite_folder: Path, tmp_path: Path) -> None:
    project = open_project(sqlite_folder)
    now = datetime.now(UTC)
    record_run(project, now)
    project.close()
    shutil.copytree(sqlite_folder, tmp_path / "copy", symlinks=True)
    copy = open_project(tmp_path / "copy")
    assert examine(copy) == []
    record_run(copy, now + timedelta(minutes=1))
    assert examine(copy) == examine(project) == []


def require_no_cron() -> None:
    if any(process.info["name"] in CRON_DAEMONS for process in psutil.process_iter(["name"])):
        pytest.skip("a cron daemon is running on this machine")


def test_a_schedule_without_a_daemon_is_found(folder: Path, tmp_path: Path, retrainer: Runner) -> None:
    require_no_cron()
    installed = retrainer("schedule", "install")
    assert installed.code == 0
    assert "WARNING: No cron daemon is running: nothing runs this line. Start it" in installed.err
    (finding,) = retrainer("doctor", "--json").json["findings"]
    assert (finding["kind"], finding["subject"]) == ("idle_schedule", "your crontab")
    assert "no cron daemon is running" in retrainer("status").out
    shown = retrainer("schedule", "show", "--json")
    assert "No cron daemon is running" in shown.err
    assert (shown.json["cron_is_running"], shown.json["next_call_at"]) == (False, None)
    with process_named("crond", tmp_path):
        assert cron_is_running() is True
        assert retrainer("doctor").code == 0
        assert "a cron daemon is running" in retrainer("status").out
        weekly = retrainer("schedule", "install", "weekly", "--jitter", "30", "--json")
        assert weekly.err == ""
        assert retrainer("schedule", "show", "--json").json["next_call_at"] == weekly.json["next_call_at"]


def test_schedules_of_the_system_are_found(folder: Path, tmp_path: Path, cron_folder: Path, retrainer: Runner) -> None:
    config, etc = folder / "config" / "config.yaml", tmp_path / "etc"
    units = etc / "systemd" / "system"
    units.mkdir(parents=True)
    (etc / "cron.d").mkdir()
    assert find_schedules(config, etc) == []
    line = retrainer("schedule", "show", "--system", "--user", "ada", "--json").json["line"]
    (etc / "cron.d" / "retrainer").write_text(f"# {config}\n{line}\n0 5 * * * root backup\n")
    files = retrainer("schedule", "show", "--systemd", "--user", "ada", "--json").json["files"]
    for path, text in files.items():
        (units / path.rpartition("/")[2]).write_text(text)
    systemctl = cron_folder / "systemctl"
    for code, active in ((0, True), (3, False)):
        systemctl.write_text(f"#!/bin/sh\nexit {code}\n")
        systemctl.chmod(0o755)
        cron, timer = find_schedules(config, etc)
        assert (cron.kind, cron.where, cron.line) == ("cron", str(etc / "cron.d" / "retrainer"), line)
        assert (timer.kind, timer.line, timer.active) == ("systemd", "retrainer.timer", active)
    assert timer.problem == "the timer 'retrainer.timer' is not active"
    assert find_schedules(tmp_path / "config.yaml", etc) == []
    project = open_project(folder)

    def hints() -> list[str | None]:
        return [problem.hint for problem in health.check_schedules(project, [cron, timer])]

    before = hints()
    for name in ("one", "two"):
        project.posts.for_stream(name).add(regular_posts(3), datetime.now(UTC))
    assert [hint for hint in hints() if hint not in before] == [
        f"Replace it with what `retrainer schedule show {option}` prints" for option in ("--system", "--systemd")
    ]
