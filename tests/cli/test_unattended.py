"""Unattended runs: when they are due, their time limit, and their logs and summaries."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from retrainer.errors import InsufficientData
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts, write_sample_csv
from retrainer.schedule.due import due
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.notify.receiver import Receiver
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins


def fresh_sample(until: datetime) -> object:
    """The sample posts, shifted so that the last one is an hour before a time."""
    posts = sample_posts()
    return posts.assign(created_at=posts["created_at"] + (until - posts["created_at"].iloc[-1] - timedelta(hours=1)))


@pytest.fixture
def posts(folder: Path, retrainer: Runner) -> None:
    write_sample_csv(folder / "posts.csv", fresh_sample(datetime.now(UTC)))  # type: ignore[arg-type]
    assert retrainer("posts", "import", "posts.csv").code == 0


# --- due -------------------------------------------------------------------------------


def test_a_type_without_a_run_is_due(project: Project) -> None:
    found = due(project, "timing", NOW)
    assert (found.is_due, found.why) == (True, "no run has completed yet")


@pytest.mark.parametrize(("days", "is_due"), [(0.1, False), (6.9, False), (6.97, True), (7, True), (30, True)])
def test_a_type_is_due_when_the_days_have_passed(project: Project, days: float, is_due: bool) -> None:
    """With a tolerance of about an hour, so that a nightly check is not delayed by a day."""
    retrain(project, runtime_of(project), "timing", NOW)
    found = due(project, "timing", NOW + timedelta(days=days))
    assert found.is_due is is_due
    assert f"the last run was {days:.1f} days ago (schedule_days is 7)" in found.why
    assert due(project, "content", NOW + timedelta(days=days)).is_due


def test_a_run_dated_in_the_future_does_not_stop_the_schedule(project: Project) -> None:
    retrain(project, runtime_of(project), "timing", NOW + timedelta(days=30))
    found = due(project, "timing", NOW)
    assert (found.is_due, found.why) == (True, "the last run is dated 30.0 days from now")


@pytest.mark.parametrize(("days", "schedule"), [(1, "1"), (7, "7"), (14, "14")])
def test_no_run_is_skipped_when_the_clocks_go_forward(folder: Path, days: int, schedule: str) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    project = open_project(folder, {"RETRAINER_RETRAINING__SCHEDULE_DAYS": schedule})
    project.posts.add(regular_posts(200), NOW)
    change = datetime(2025, 3, 30, 3, 0, 5, tzinfo=berlin)
    before = datetime(2025, 3, 30, 3, 0, 10, tzinfo=berlin) - timedelta(days=days)  # local time
    retrain(project, runtime_of(project), "timing", before.astimezone(UTC))
    assert due(project, "timing", change.astimezone(UTC)).is_due


def test_new_posts_are_counted_even_if_old_ones_were_deleted(folder: Path) -> None:
    project = open_project(folder, {"RETRAINER_RETRAINING__MIN_NEW_POSTS": "20"})
    posts = regular_posts(200)
    moment = posts["created_at"].iloc[149].to_pydatetime()
    project.posts.add(posts.iloc[:150], NOW)
    retrain(project, runtime_of(project), "timing", moment)
    project.posts.add(posts.iloc[150:180], NOW)
    with sqlite3.connect(folder / "data" / "retrainer.db") as database:
        database.execute("DELETE FROM posts WHERE post_id < 'p00040'")
    found = due(project, "timing", posts["created_at"].iloc[179].to_pydatetime())
    assert (found.is_due, found.why) == (True, "30 new posts have arrived (min_new_posts is 20)")


def test_as_of_runs_and_failed_runs_do_not_count(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(200), NOW)
    retrain(project, runtime_of(project), "timing", NOW - timedelta(days=1), as_of=True)
    few = open_project(folder, {"RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES": "5000"})
    with pytest.raises(InsufficientData):
        retrain(few, runtime_of(few), "timing", NOW - timedelta(hours=1))
    assert due(project, "timing", NOW).why == "no run has completed yet"


def test_a_type_is_due_when_enough_new_posts_have_arrived(folder: Path) -> None:
    """Compared with the posts of the last run, so that posts imported late count too."""
    project = open_project(folder, {"RETRAINER_RETRAINING__MIN_NEW_POSTS": "20"})
    posts = regular_posts(200)
    project.posts.add(posts.iloc[20:], NOW)
    retrain(project, runtime_of(project), "timing", NOW)
    assert not due(project, "timing", NOW + timedelta(hours=1)).is_due
    project.posts.add(posts.iloc[1:20], NOW)
    found = due(project, "timing", NOW + timedelta(hours=1))
    assert not found.is_due
    assert "19 new posts have arrived (min_new_posts is 20)" in found.why
    project.posts.add(posts, NOW)
    found = due(project, "timing", NOW + timedelta(hours=1))
    assert (found.is_due, found.why) == (True, "20 new posts have arrived (min_new_posts is 20)")


@pytest.mark.usefixtures("posts")
def test_not_due_prints_nothing_unless_verbose(retrainer: Runner) -> None:
    first = retrainer("train", "--if-due", "--exit-code")
    assert first.code == 0
    assert "The timing model is due: no run has completed yet" in first.err
    again = retrainer("train", "--if-due")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert retrainer("train", "--if-due", "--exit-code").code == 11
    asked = retrainer("train", "--if-due", "--verbose")
    assert "The timing model is not due: the last run was 0.0 days ago (schedule_days is 7)" in asked.err
    assert retrainer("history", "--json").json["total"] == 2
    assert retrainer("train", "--if-due", "--json").json == {"training_runs": [], "count": 0, "errors": []}


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_not_due_is_logged_on_a_terminal(retrainer: Runner, folder: Path) -> None:
    assert retrainer("train", "timing").code == 0
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "retrainer", "train", "timing", "--if-due"]
    with subprocess.Popen(command, cwd=folder, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while b"The timing model is not due" not in shown:
            shown += os.read(master, 65_536)  # fails when the process has ended
    os.close(master)
    assert process.returncode == 0


@pytest.mark.usefixtures("posts")
def test_a_disabled_type_is_skipped_silently(retrainer: Runner) -> None:
    done = retrainer("train", "--if-due", RETRAINER_RETRAINING__ENABLED="false")
    assert (done.code, done.out, done.err) == (0, "", "")


# --- time limit -------------------------------------------------------------------------


@pytest.mark.usefixtures("posts")
def test_a_run_that_exceeds_its_time_limit_fails(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("stuck", timing_algorithm("stuck", train="import threading; threading.Event().wait(600)"))
    environ = {**plugins.environ, "RETRAINER_RETRAINING__MAX_RUN_MINUTES": "0.02"}
    assert retrainer("train", "timing").code == 0
    production = retrainer("production", "--json").json
    done = retrainer("train", "timing", "--algorithm", "stuck", "--json", env=environ)
    assert done.code == 1
    assert done.json["errors"][0]["code"] == "run_took_too_long"
    assert "the run took longer than 0.02 minutes (retraining.max_run_minutes)" in done.err
    (run, _) = retrainer("history", "--json").json["training_runs"]
    assert run["status"] == "failed"
    assert "max_run_minutes" in run["error"]
    assert retrainer("production", "--json").json == production
    assert retrainer("doctor").code == 0


@pytest.mark.usefixtures("posts")
@pytest.mark.slow
def test_a_run_stuck_in_c_code_is_ended(retrainer: Runner, retrainer_process: Runner, plugins: Plugins) -> None:
    """C code that no signal interrupts; the plugin shortens the grace period to keep the test short."""
    wait = """
        import ctypes, retrainer.pipeline.timeout as timeout
        timeout.GRACE_SECONDS = 0.5
        ctypes.PyDLL(None)  # releases the GIL, but the call below never returns to Python
        libc = ctypes.CDLL(None)
        while True:
            try:
                libc.pause()
            except KeyboardInterrupt:
                pass
    """
    plugins.add("stuck", timing_algorithm("stuck", train=wait))
    with Receiver() as receiver:
        environ = {
            **plugins.environ,
            "RETRAINER_RETRAINING__MAX_RUN_MINUTES": "0.2",
            "TOLD": receiver.url,
            "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "TOLD",
            "RETRAINER_NOTIFICATIONS__HEALTHCHECK__URL_VARIABLE": "TOLD",
        }
        done = retrainer_process("train", "timing", "--algorithm", "stuck", env=environ)
        assert [one.path for one in receiver.received] == ["/start", "/", "/fail"]
        assert receiver.received[1].json["event"] == "failure"
    assert done.code == 1
    assert "the run took longer than 0.2 minutes" in done.err
    (run,) = retrainer("history", "--json").json["training_runs"]
    assert run["status"] == "failed"
    assert "max_run_minutes" in run["error"]
    assert retrainer("doctor", "--repair").code == 0
    assert retrainer("train", "timing").code == 0


# --- logs and summaries -----------------------------------------------------------------------


@pytest.mark.usefixtures("posts")
def test_the_summary_is_appended_as_markdown(retrainer: Runner, folder: Path) -> None:
    (folder / "summary.md").write_text("# Before\n")
    assert retrainer("train", "timing", "--summary", "summary.md").code == 0
    assert retrainer("train", "timing", "--summary", "summary.md").code == 0
    text = (folder / "summary.md").read_text()
    assert text.startswith("# Before\n")
    assert "## ✓ timing: promoted" in text
    assert "| | new | naive |" in text
    assert "## – timing: not promoted" in text
    assert "| | new | production | naive |" in text
    assert "| Overall score | " in text
    assert "The new model is better with probability 0.50 on 20 posts" in text
    assert [line.count("|") for line in text.splitlines() if line.startswith("| Skill |")] == [4, 5], "in both sections"
    retrainer("train", "timing", "--if-due", "--summary", "summary.md")
    assert "- The timing model is not due" in (folder / "summary.md").read_text()


@pytest.mark.usefixtures("posts")
def test_the_summary_of_a_failed_run_has_the_reason(retrainer: Runner, folder: Path) -> None:
    done = retrainer("train", "timing", "--summary", "s.md", RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES="100000")
    assert done.code == 3
    assert (folder / "s.md").read_text().startswith("## ✗ timing: failed\n\n")


def test_the_summary_of_a_failure_before_the_first_run_has_the_reason(retrainer: Runner, folder: Path) -> None:
    configure(folder, test_split="1.5")
    done = retrainer("train", "--summary", "s.md")
    assert done.code == 2
    text = (folder / "s.md").read_text()
    assert text.startswith("## ✗ retraining: failed\n")
    assert "test\\_split" in text


def test_a_summary_that_cannot_be_written_is_refused_before_training(retrainer: Runner, sqlite_folder: Path) -> None:
    done = retrainer("train", "--summary", "no/such/folder/summary.md")
    assert done.code == 2
    assert "--summary: cannot write 'no/such/folder/summary.md': No such file or directory" in done.err
    assert not (sqlite_folder / "data" / "retrainer.db").exists()


@pytest.mark.usefixtures("posts")
def test_json_log_lines_have_the_run_id(retrainer: Runner) -> None:
    done = retrainer("train", "timing", "--log-format", "json")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert all(line.keys() == {"time", "level", "logger", "message", "run_id"} for line in lines)
    (run,) = retrainer("history", "--json").json["training_runs"]
    within = [line["message"] for line in lines if line["run_id"] == run["run_id"]]
    for words in (
        "Training new timing model on ",
        "✓ Model promoted",
        "TIMING MODEL RETRAINING COMPLETE",
        "Duration: ",
    ):
        assert any(message.startswith(words) for message in within), words
    failed = retrainer(
        "train", "timing", "--log-format=json", "--quiet", RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES="5000"
    )
    (line,) = [json.loads(line) for line in failed.err.splitlines()]
    assert line["run_id"] == retrainer("history", "--json").json["training_runs"][0]["run_id"]
    assert "timing" in line["message"], "cron's mail says which model"
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)


@pytest.mark.usefixtures("posts")
def test_a_log_file_gets_every_line_even_with_quiet(retrainer: Runner, folder: Path) -> None:
    done = retrainer("--quiet", "--log-file", "runs.log", "train", "timing")
    assert (done.code, done.err) == (0, "")
    (run,) = retrainer("history", "--json").json["training_runs"]
    lines = (folder / "runs.log").read_text().splitlines()
    assert any(f" INFO    {run['run_id']} Model training complete!" in line for line in lines)
    retrainer("train", "timing", "--log-file=runs.log", "--log-format=json")
    levels = [json.loads(line)["level"] for line in (folder / "runs.log").read_text().splitlines()[len(lines) :]]
    assert levels[-2:] == ["INFO", "WARNING"], "the posts are stale"


@pytest.mark.usefixtures("posts")
def test_not_due_is_in_the_log_file_but_not_on_stderr(retrainer: Runner, folder: Path) -> None:
    assert retrainer("train", "timing").code == 0
    done = retrainer("train", "timing", "--if-due", "--log-file", "runs.log")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "The timing model is not due: the last run was 0.0 days ago" in (folder / "runs.log").read_text()


def test_unusable_posts_are_logged_once_per_run_and_not_if_nothing_is_due(retrainer: Runner, folder: Path) -> None:
    posts = regular_posts(120)
    with sqlite3.connect(folder / "theirs.db") as theirs:
        theirs.execute("CREATE TABLE posts (post_id, created_at, content)")
        times = ["someday", *(str(moment) for moment in posts["created_at"])]
        theirs.executemany("INSERT INTO posts VALUES (?, ?, 'x')", list(enumerate(times)))
    environ = {"RETRAINER_POSTS__URL": "sqlite:///theirs.db", "RETRAINER_RETRAINING__MIN_NEW_POSTS": "50"}
    done = retrainer("--quiet", "train", "timing", "--if-due", env=environ)
    assert done.code == 0
    warning, stale = done.err.splitlines()
    assert stale.startswith("WARNING: The posts are stale: ")
    assert "Left out 1 post of the table 'posts' of " in warning
    assert warning.endswith("with an unreadable time, such as 'someday'")
    done = retrainer("--quiet", "train", "timing", "--if-due", env=environ)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_the_folder_of_the_log_file_is_created(retrainer: Runner, folder: Path) -> None:
    assert retrainer("history", "--log-file", "gone/runs.log").code == 0
    assert (folder / "gone/runs.log").exists()


def test_an_error_is_logged_as_json_and_in_the_log_file(retrainer: Runner, folder: Path) -> None:
    done = retrainer("evaluate", "nope", "--log-format", "json", "--log-file", "runs.log")
    assert done.code == 2
    for text in (done.err, (folder / "runs.log").read_text()):
        line = json.loads(text.splitlines()[-1])
        assert line["level"] == "ERROR"
        assert "'nope'" in line["message"]
    plain = retrainer("evaluate", "nope")
    assert plain.err.startswith("Error: ")


@pytest.mark.usefixtures("posts")
@pytest.mark.slow
def test_a_run_that_holds_the_gil_is_ended_by_a_timer(
    retrainer: Runner, retrainer_process: Runner, plugins: Plugins
) -> None:
    """C code that never releases the GIL: the process is killed, and the run counts as failed."""
    shortened = """
        import retrainer.pipeline.timeout as timeout
        timeout.GRACE_SECONDS = timeout.RECORD_SECONDS = 0.5
    """
    plugins.add("stuck", timing_algorithm("stuck", setup=shortened, train="import ctypes; ctypes.PyDLL(None).pause()"))
    environ = {
        **plugins.environ,
        "RETRAINER_RETRAINING__MAX_RUN_MINUTES": "0.2",  # on a busy machine it takes seconds until the training
        "RETRAINER_NOTIFICATIONS__TIMEOUT_SECONDS": "0.5",
    }
    done = retrainer_process("train", "timing", "--algorithm", "stuck", env=environ)
    assert done.code == 1
    (run,) = retrainer("history", "--json").json["training_runs"]
    assert run["status"] == "failed"
    assert "The run was interrupted: its process" in run["error"]
    assert retrainer("doctor", "--repair").code == 0


@pytest.mark.usefixtures("posts")
def test_a_log_file_gets_the_traceback_of_a_plugin_error(retrainer: Runner, plugins: Plugins, folder: Path) -> None:
    plugins.add("stuck", timing_algorithm("stuck", train="raise ValueError('no idea')"))
    done = retrainer("train", "timing", "--algorithm", "stuck", "--log-file", "runs.log", env=plugins.environ)
    assert done.code == 1
    assert "Traceback" not in done.err
    lines = (folder / "runs.log").read_text().splitlines()
    assert "Traceback (most recent call last):" in lines
    assert "ValueError: no idea" in lines


@pytest.mark.usefixtures("posts")
def test_a_full_disk_for_the_log_is_one_warning(retrainer: Runner) -> None:
    done = retrainer("train", "timing", "--log-file", "/dev/full")
    assert done.code == 0
    assert done.err.count("WARNING: cannot write the log file '/dev/full'; further log lines are lost") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--log-format", "xml"), "--log-format: invalid value 'xml' (choose text or json)"),
        (
            ("--log-file", "/no/such/folder/x.log"),
            "--log-file: cannot write '/no/such/folder/x.log': No such file",
        ),
    ],
)
def test_invalid_log_options_are_refused(
    retrainer: Runner, tmp_path: Path, arguments: tuple[str, str], problem: str
) -> None:
    done = retrainer("versions", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert problem in done.err


# --- users ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_and_a_home(folder: Path) -> None:
    """As in a container that is started with a user number; all commands in one process, which imports slowly."""
    number = 54_321
    for path in (folder, *folder.rglob("*")):
        os.chown(path, number, number)
    user = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]
    user += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]  # Python may be in root's folder
    environ = {"PATH": os.environ["PATH"], "HOME": "/dev/null/none"}

    script = """
import sys
from retrainer import console
from retrainer.cli.program import run
console.prepare_streams()
for command in sys.argv[1:]:
    print("==", command, flush=True)
    assert run(command.split()) == 0, command
"""
    since = f"{datetime.now(UTC) - timedelta(days=20):%Y-%m-%d}"
    commands = {
        "train timing --quiet --algorithm prophet": "",
        f"replay timing --from {since} --plot x.png": "",
        "show timing@latest": f"{number}@",
        "serve --systemd": f"User={number}",
        "schedule show --systemd": f"User={number}",
    }
    done = subprocess.run(
        [*user, sys.executable, "-c", script, *commands],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    for command, printed in commands.items():
        assert printed in done.stdout.partition(f"== {command}\n")[2].partition("\n== ")[0], command


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_files_are_as_private_as_the_umask_asks_for(folder: Path) -> None:
    script = f"umask 077; exec {sys.executable} -m retrainer train timing --quiet --log-file logs/x.log"
    before = set(folder.rglob("*"))
    subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, check=True)
    made = [path for path in folder.rglob("*") if path not in before and not path.is_symlink()]
    assert made
    assert not [path for path in made if path.stat().st_mode & 0o077]
