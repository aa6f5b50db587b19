"""Every command, with and without --json."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from retrainer.posts.sample import sample_posts, write_sample_csv
from tests.command_line import with_default_signals
from tests.conftest import configure, open_project
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

SIX = ["train", "evaluate", "promote", "rollback", "compare", "history"]
OTHERS = ["production", "versions", "show", "predict", "plugins", "hold", "release", "pin", "unpin", "restore", "prune"]
OTHERS += ["doctor", "init"]


def test_init_keeps_a_link_to_settings_that_are_not_there_now(tmp_path: Path, retrainer: Runner) -> None:
    (tmp_path / "config").mkdir()
    link = tmp_path / "config" / "config.yaml"
    link.symlink_to(tmp_path / "disk" / "config.yaml")
    retrainer("init", cwd=tmp_path)
    assert link.is_symlink()


def test_init_creates_a_project_and_keeps_existing_files(tmp_path: Path, retrainer: Runner) -> None:
    first = retrainer("init", "new", cwd=tmp_path)
    assert first.code == 0
    assert "Created" in first.out
    config = tmp_path / "new" / "config" / "config.yaml"
    config.write_text(config.read_text() + "\n# mine\n")
    again = retrainer("init", "new", "--json", cwd=tmp_path)
    assert again.code == 0
    assert str(config) in again.json["kept"]
    assert config.read_text().endswith("# mine\n")


def test_train_logs_the_specified_lines_and_prints_both_scores(trained: str, retrainer: Runner) -> None:
    done = retrainer("train", "timing")
    assert done.code == 0
    for words in (
        "=" * 60,
        "TIMING MODEL RETRAINING",
        "Loading and splitting data...",
        "Loaded 400 posts (2022-02-25 to 2024-10-29)",
        "Split data: 320 train, 80 test",
        "Training new timing model on 320 samples...",
        "Model training complete!",
        "Trained model saved: models/timing/baseline_timing_",
        "Model version registered: baseline_timing_",
        "Evaluating model on test set...",
        "MAE: ",
        "h | Within 6h: ",
        "% | Overall score: 0.",
        "Checking if new model should be promoted...",
        "✗ Model not promoted. Reason: New model",
        "Manual review recommended",
        "TIMING MODEL RETRAINING COMPLETE",
        "Duration: ",
    ):
        assert words in done.err, words
    assert "Metric" in done.out
    assert "production" in done.out
    assert "naive" in done.out
    assert "> 0.65" in done.out
    assert "\x1b" not in done.out + done.err, "no colours, no progress in a pipe"
    assert "\r" not in done.err


def test_train_json_has_the_specified_fields(trained: str, retrainer: Runner) -> None:
    done = retrainer("train", "--json")
    assert done.code == 0
    document = done.json
    assert document["count"] == 2
    assert document["errors"] == []
    timing, content = document["training_runs"]
    assert {
        "run_id",
        "model_version_id",
        "started_at",
        "completed_at",
        "duration_seconds",
        "status",
        "test_mae_hours",
        "test_within_6h_accuracy",
        "promoted_to_production",
        "promotion_reason",
        "improvement_percentage",
    } <= timing.keys()
    assert timing["status"] == content["status"] == "completed"
    assert timing["compared_with"] == trained
    assert timing["started_at"].endswith("Z")
    evaluation = timing["evaluation"]
    assert evaluation["version_id"] == timing["model_version_id"]
    assert evaluation["num_predictions"] == 20
    assert {"start", "end", "posts"} <= evaluation["window"].keys()
    assert evaluation["baseline"]["metrics"]["overall_score"] == pytest.approx(evaluation["metrics"]["overall_score"])
    assert content["evaluation"]["metrics"].keys() >= {"length_similarity", "word_overlap", "overall_score"}


def test_fewer_than_100_posts_are_a_warning(folder: Path, retrainer: Runner, tmp_path: Path) -> None:
    write_sample_csv(tmp_path / "posts.csv", sample_posts()[:80])
    retrainer("posts", "import", str(tmp_path / "posts.csv"))
    done = retrainer("train", "timing")
    assert done.code == 0
    assert "WARNING: Only 80 posts; 100 or more recommended" in done.err


def test_exit_code_10_if_nothing_was_promoted(trained: str, retrainer: Runner) -> None:
    assert retrainer("train", "timing", "--exit-code").code == 10
    assert retrainer("train", "timing").code == 0


@pytest.mark.slow
def test_auto_promote_overrides_the_settings_both_ways(
    trained: str, retrainer: Runner, folder: Path, plugins: Plugins
) -> None:
    plugins.add("exact", timing_algorithm("exact", 1.0))
    plugins.add("far", timing_algorithm("far", 500.0))
    assert retrainer("train", "timing", "--algorithm", "far", env=plugins.environ).code == 0
    (far,) = [v for v in retrainer("versions", "--json").json["versions"] if v["algorithm"] == "far"]
    assert retrainer("promote", far["version_id"], env=plugins.environ).code == 0
    kept = retrainer("train", "timing", "--algorithm", "exact", "--no-auto-promote", "--json", env=plugins.environ).json
    assert not kept["training_runs"][0]["promoted_to_production"]
    configure(folder, auto_promote="false")
    kept = retrainer("train", "timing", "--algorithm", "exact", "--json", env=plugins.environ).json
    assert not kept["training_runs"][0]["promoted_to_production"]
    taken = retrainer("train", "timing", "--algorithm", "exact", "--auto-promote", "--json", env=plugins.environ).json
    assert taken["training_runs"][0]["promoted_to_production"]
    assert taken["training_runs"][0]["compared_with"] == far["version_id"]


def test_dry_run_records_nothing(trained: str, retrainer: Runner) -> None:
    before = retrainer("versions", "--json").out, retrainer("history", "--json").out
    done = retrainer("train", "--dry-run", "--json")
    assert done.code == 0
    assert [run["status"] for run in done.json["training_runs"]] == ["dry_run", "dry_run"]
    assert done.json["training_runs"][0]["comparison"]["version_a"]["version_id"] == trained
    assert "DRY RUN: NOTHING IS RECORDED" in done.err
    assert (retrainer("versions", "--json").out, retrainer("history", "--json").out) == before


def test_a_disabled_type_is_skipped(trained: str, retrainer: Runner, folder: Path) -> None:
    environ = {"RETRAINER_RETRAINING__CONTENT_MODEL__ENABLED": "false"}
    done = retrainer("train", "--json", env=environ)
    assert done.code == 0
    assert [run["model_type"] for run in done.json["training_runs"]] == ["timing"]
    assert "content model is disabled (retraining.content_model.enabled is false)" in done.err
    off = retrainer("train", "--json", RETRAINER_RETRAINING__ENABLED="false")
    assert off.code == 0
    assert off.json["training_runs"] == []


def test_one_types_failure_does_not_stop_the_other(folder: Path, retrainer: Runner, tmp_path: Path) -> None:
    """Without credentials the content run fails before it starts; the timing run completes."""
    write_sample_csv(tmp_path / "posts.csv", sample_posts())
    retrainer("posts", "import", str(tmp_path / "posts.csv"))
    done = retrainer("train", "--json", RETRAINER_CONTENT_MODEL__ALGORITHM="claude_api")
    assert done.code == 2
    timing, content = done.json["training_runs"]
    assert timing["status"] == "completed"
    assert content["status"] == "failed"
    assert content["model_version_id"] is None
    (error,) = done.json["errors"]
    assert error["model_type"] == "content"
    assert error["code"] == "missing_credentials"
    assert "ANTHROPIC_API_KEY" in error["hint"]
    assert "Training new content model" not in done.err


def test_evaluate_shows_the_naive_forecast_beside_the_version(trained: str, retrainer: Runner) -> None:
    shown = retrainer("evaluate", trained)
    assert shown.code == 0
    assert "naive" in shown.out
    assert "Skill +0.000: no better than the naive forecast" in shown.out
    document = retrainer("evaluate", trained, "--json").json
    assert document["version_id"] == trained
    assert {"metrics", "baseline", "num_predictions", "window"} <= document.keys()
    assert document["baseline"]["metrics"]["mae_hours"] > 0


def test_evaluate_explains_the_metrics_beside_the_content_score(
    folder: Path, retrainer: Runner, tmp_path: Path
) -> None:
    write_sample_csv(tmp_path / "posts.csv", sample_posts())
    retrainer("posts", "import", str(tmp_path / "posts.csv"))
    retrainer("train", "content")
    version = retrainer("versions", "--json").json["versions"][0]["version_id"]
    shown = retrainer("evaluate", version)
    table, legend = shown.out.split("The overall score decides. The other metrics:\n")
    explained = [line.strip().split(": ")[0] for line in legend.split("\n\n")[0].splitlines()]
    assert explained == ["Lift", "Rank AUC", "Copies", "Distinct", "BLEU", "chrF"]
    rows = {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in table.splitlines()[3:] if "  " in line}
    for label in explained:
        assert len(rows[label]) in {2, 4}, "the version, the naive forecast, and which is better if that makes sense"
    document = retrainer("evaluate", version, "--json").json
    beside = {"lift", "rank_auc", "copy_rate", "distinct_share", "bleu", "chrf"}
    assert beside <= set(document["metrics"])
    assert beside <= set(document["baseline"]["metrics"])
    assert retrainer("show", version).out.count("Rank AUC") == 1, "evaluated again on the same posts"


def test_compare_json_has_the_specified_fields(trained: str, retrainer: Runner) -> None:
    retrainer("train", "timing")
    newest = retrainer("versions", "--type", "timing", "--json").json["versions"][0]["version_id"]
    document = retrainer("compare", trained, newest, "--json").json
    assert document["version_a"]["version_id"] == trained
    assert document["version_b"]["version_id"] == newest
    assert document["recommendation"] in {"promote", "reject", "not_enough_evidence"}
    assert {"winner", "improvement_percentage", "reason"} <= document.keys()
    shown = retrainer("compare", trained, newest)
    assert f"A: {trained}" in shown.out
    assert "Recommendation: " in shown.out
    tie = retrainer("compare", trained, trained, "--json").json
    assert tie["winner"] is None


def test_compare_refuses_versions_of_two_types(trained: str, retrainer: Runner) -> None:
    content = retrainer("production", "--json").json["content_model"]["version_id"]
    done = retrainer("compare", trained, content)
    assert done.code == 2
    assert f"'{trained}' forecasts timing and '{content}' content" in done.err


def test_promote_and_rollback_are_recorded(trained: str, retrainer: Runner, folder: Path) -> None:
    retrainer("train", "timing")
    newest = retrainer("versions", "--type", "timing", "--json").json["versions"][0]["version_id"]
    promoted = retrainer("promote", newest, "--reason", "looks good", "--json")
    assert promoted.json["status"] == "success"
    assert promoted.json["message"] == f"Model {newest} promoted to production"
    assert promoted.json["version_id"] == newest
    assert retrainer("production", "--json").json["timing_model"]["version_id"] == newest
    again = retrainer("promote", newest)
    assert again.code == 0
    assert "is already in production" in again.out
    assert (folder / "models" / "timing_model").resolve().name == newest
    back = retrainer("rollback", "timing", "--reason", "did not")
    assert back.code == 0
    assert f"Rolled back from {newest} to {trained}" in back.out
    assert "on hold until `retrainer release timing`" in back.out
    assert "on hold since" in retrainer("production").out
    shown = retrainer("show", newest, "--json").json
    assert [entry["action"] for entry in shown["ledger"]] == ["rollback", "promotion", "rejection"]
    assert shown["ledger"][1]["reason"] == "looks good"
    changes = retrainer("history", "--json").json["changes"]
    assert [entry["action"] for entry in changes if entry["model_type"] == "timing"] == [
        "rollback",
        "promotion",
        "promotion",
    ]
    nothing_left = retrainer("rollback", "timing")
    assert nothing_left.code == 1
    assert "nothing to roll back" in nothing_left.err
    assert "is released" in retrainer("release", "timing").out
    assert "is not on hold" in retrainer("release", "timing").out
    assert "is now on hold" in retrainer("hold", "timing").out
    assert retrainer("hold", "timing", "--json").json["changed"] is False


def test_rollback_without_hold_does_not_stop_automatic_promotion(trained: str, retrainer: Runner) -> None:
    retrainer("train", "timing")
    newest = retrainer("versions", "--type", "timing", "--json").json["versions"][0]["version_id"]
    retrainer("promote", newest)
    assert retrainer("rollback", "timing", "--no-hold").code == 0
    assert "on hold" not in retrainer("production").out


def test_history_is_limited_filtered_and_newest_first(trained: str, retrainer: Runner) -> None:
    retrainer("train")
    document = retrainer("history", "--limit", "3", "--json").json
    assert document["count"] == len(document["training_runs"]) == 3
    moments = [run["started_at"] for run in document["training_runs"]]
    assert moments == sorted(moments, reverse=True)
    content = retrainer("history", "--type", "content", "--json").json
    assert {run["model_type"] for run in content["training_runs"]} == {"content"}
    assert "First timing model" in retrainer("history").out


def test_versions_json_has_the_specified_fields(trained: str, retrainer: Runner) -> None:
    document = retrainer("versions", "--json").json
    assert document["count"] == 2
    assert {
        "version_id",
        "model_type",
        "algorithm",
        "trained_at",
        "status",
        "is_production",
        "num_training_samples",
        "training_duration_seconds",
    } <= document["versions"][0].keys()
    assert trained in retrainer("versions", "--type", "timing").out


def test_production_json_has_the_specified_fields(trained: str, retrainer: Runner) -> None:
    document = retrainer("production", "--json").json
    assert document.keys() == {"stream", "timing_model", "content_model"}
    assert {"version_id", "algorithm", "trained_at", "promoted_at", "num_training_samples"} <= document[
        "timing_model"
    ].keys()


def test_show_prints_the_history_of_a_version(trained: str, retrainer: Runner) -> None:
    shown = retrainer("show", trained)
    assert shown.code == 0
    for words in (trained, "active, in production", "Evaluated", "naive", "First timing model"):
        assert words in shown.out
    document = retrainer("show", trained, "--json").json
    assert len(document["evaluations"][0]["predictions_json"]) == 20


def test_predict_forecasts_the_next_post(trained: str, retrainer: Runner) -> None:
    timing = retrainer("predict", "timing", "--json").json
    assert timing["version_id"] == trained
    assert timing["point_hours"] >= 0
    low, high = timing["interval"]["hours"]
    assert low <= timing["median_hours"] <= high
    content = retrainer("predict", "content", "--json").json
    assert isinstance(content["text"], str)
    assert "Next post: " in retrainer("predict", "timing").out
    assert content["text"] in retrainer("predict", "content").out


def test_predict_at_a_past_time(trained: str, retrainer: Runner) -> None:
    """The sample posts end in October 2024, so today they are stale."""
    del trained
    both = retrainer("predict", "timing")
    assert both.out.startswith("The posts are stale: the newest is ")
    assert "\nNow, after " in both.out
    assert both.out.count("\nNext post: ") == 2
    assert "\nAs of the last post (`--at last`):\nNext post: 2024-" in both.out
    last = retrainer("predict", "timing", "--at", "last", "--until", "2d")
    assert last.out.startswith("Version ")
    assert last.out.count("\nNext post: ") == 1
    assert "\n2024-10-29 from " in last.out, "the days after the last post"
    noon = retrainer("predict", "timing", "--at", "2024-09-01T12:00", "--json").json
    assert noon == {**retrainer("predict", "timing", "--at", "2024-09-01T14:00+02:00", "--json").json} | {
        "made_at": noon["made_at"]
    }
    assert noon["at"] == "2024-09-01T12:00:00Z"
    text = retrainer("predict", "content")
    assert text.out.startswith("The posts are stale: the newest is ")
    assert "last post 2024-10-29 20:00 UTC\n" in text.out, "posts without a text count too"
    assert "Next post, written for 2024-" in retrainer("predict", "content", "--at", "last").out


@pytest.mark.parametrize(
    ("at", "problem"),
    [
        ("soon", "--at: 'soon' is not a time (write it like 2024-10-31T12:00:00Z, or last)"),
        ("", "--at: '' is not a time"),
        ("2099-01-01", "at: '2099-01-01T00:00:00Z' is in the future. Choose a past time"),
        ("1970-01-01", "at: '1970-01-01T00:00:00Z' is before the first post, '2022-02-25"),
    ],
)
def test_a_moment_that_cannot_be_forecast_from_is_refused(
    trained: str, retrainer: Runner, at: str, problem: str
) -> None:
    del trained
    done = retrainer("predict", "timing", "--at", at)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert problem in line
    assert done.out == ""


def test_predict_works_with_content_alone(folder: Path, retrainer: Runner, tmp_path: Path) -> None:
    write_sample_csv(tmp_path / "posts.csv", sample_posts())
    retrainer("posts", "import", str(tmp_path / "posts.csv"))
    retrainer("train", "content")
    assert retrainer("predict", "content").code == 0
    done = retrainer("predict", "timing")
    assert done.code == 1
    assert "no timing version is in production. Train one with `retrainer train timing`" in done.err


def test_empty_results_are_empty_documents(folder: Path, retrainer: Runner) -> None:
    assert retrainer("history", "--json").json == {"training_runs": [], "count": 0, "total": 0, "changes": []}
    assert retrainer("versions", "--json").json == {"versions": [], "count": 0}
    none_live = {"stream": "default", "timing_model": None, "content_model": None}
    assert retrainer("production", "--json").json == none_live
    assert "No training runs" in retrainer("history").out
    assert "No versions yet" in retrainer("versions").out


def test_db_upgrade_prints_the_schema_revision(sqlite_folder: Path, retrainer: Runner) -> None:
    done = retrainer("db", "upgrade")
    assert done.code == 0
    assert "has the newest schema" in done.out
    assert (sqlite_folder / "data" / "retrainer.db").exists()


def test_commands_find_the_project_by_flag_and_variable(trained: str, retrainer: Runner, folder: Path) -> None:
    config = str(folder / "config" / "config.yaml")
    outside = folder.parent
    assert retrainer("--config", config, "production", "--json", cwd=outside).json["timing_model"]
    assert retrainer("production", "--json", cwd=outside, RETRAINER_CONFIG=config).json["timing_model"]
    assert retrainer("production", "--json", cwd=folder / "data").json["timing_model"]
    assert list(outside.glob("**/retrainer.db")) == [folder / "data" / "retrainer.db"]


def test_the_help_lists_the_main_commands_first(tmp_path: Path, retrainer: Runner) -> None:
    done = retrainer("--help", cwd=tmp_path)
    assert done.code == 0
    section = done.out.split("Retraining:")[1].split("\n\n")[0]
    assert [line.split()[0] for line in section.strip().splitlines()] == SIX
    assert retrainer(cwd=tmp_path).out == done.out


@pytest.mark.parametrize("command", [*SIX, *OTHERS, "posts import", "posts count", "posts sample", "db upgrade"])
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path, retrainer: Runner) -> None:
    done = retrainer(*command.split(), "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"Example: retrainer {command}" in done.out
    assert "--json" in done.out
    assert not re.search(r"[{}]|<\w", done.out.replace("<=x<=", "")), "a Python type, or braces"


def test_version_is_printed(tmp_path: Path, retrainer: Runner) -> None:
    assert retrainer("--version", cwd=tmp_path).out.startswith("retrainer 0.")


def test_global_options_may_follow_the_command(trained: str, retrainer: Runner) -> None:
    (warning,) = retrainer("train", "timing", "--quiet").err.splitlines()
    assert warning.startswith("WARNING: The posts are stale: ")
    assert "Loaded 400 posts" in retrainer("--verbose", "train", "timing").err


def test_the_settings_file_may_follow_the_command(folder: Path, retrainer: Runner) -> None:
    done = retrainer("posts", "count", "--config", str(folder / "config" / "config.yaml"), cwd=folder.parent)
    assert done.out.startswith("0 posts in ")


def test_a_global_option_after_the_command_needs_its_value(folder: Path, retrainer: Runner) -> None:
    done = retrainer("versions", "--log-file")
    assert (done.code, done.err) == (
        2,
        "Error: Option '--log-file' requires an argument. `retrainer --help` shows its options\n",
    )


SLOW = timing_algorithm(
    "slow", train="import sys, time; print('training', file=sys.stderr, flush=True); time.sleep(600)"
)


@pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGTERM", "SIGHUP"))]
)
def test_an_interrupted_run_is_closed_and_exits_with_130(
    name: str, trained: str, plugins: Plugins, folder: Path, retrainer: Runner
) -> None:
    plugins.add("slow", SLOW)
    command = [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "slow", "--quiet"]
    environ = {**os.environ, **plugins.environ}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_default_signals,  # noqa: PLW1509  no other thread is running
    ) as process:
        assert process.stderr is not None
        assert "training\n" in iter(process.stderr.readline, "")
        busy = retrainer("train", "timing")
        assert busy.code == 4
        assert "another timing run is in progress since" in busy.err
        process.send_signal(getattr(signal, name))
        try:
            _, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == "Error: interrupted\n"
    run = retrainer("history", "--type", "timing", "--json").json["training_runs"][0]
    assert (run["status"], run["error"]) == ("failed", "interrupted")
    assert retrainer("train", "timing").code == 0


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_is_interrupted(
    trained: str, plugins: Plugins, folder: Path, retrainer: Runner
) -> None:
    plugins.add("slow", SLOW)
    process, terminal = pty.fork()
    if process == 0:
        with_default_signals()
        os.chdir(folder)
        command = [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "slow"]
        os.execve(sys.executable, command, {**os.environ, **plugins.environ, "TERM": "xterm"})  # noqa: S606
    shown = b""
    while b"training\r" not in shown:
        shown += os.read(terminal, 65_536)
    os.close(terminal)  # the kernel sends SIGHUP, and writing to the terminal fails from here on
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    run = retrainer("history", "--type", "timing", "--json").json["training_runs"][0]
    assert (run["status"], run["error"]) == ("failed", "interrupted")


@pytest.mark.slow
def test_a_killed_run_does_not_block_the_next(trained: str, plugins: Plugins, folder: Path, retrainer: Runner) -> None:
    plugins.add("slow", SLOW)
    command = [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "slow", "--quiet"]
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **plugins.environ}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "training\n" in iter(process.stderr.readline, "")
        process.kill()
    done = retrainer("train", "timing", "--json")
    assert done.code == 0
    runs = retrainer("history", "--type", "timing", "--json").json["training_runs"]
    assert [run["status"] for run in runs] == ["completed", "failed", "completed"]
    assert "The run was interrupted: its process" in runs[1]["error"]


def test_a_closed_pipe_on_stdout_is_no_traceback_in_an_error(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "retrainer", "show", "nope", "--json"],
        cwd=folder,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_on_stdout_is_not_an_error(trained: str, folder: Path) -> None:
    command = f"{sys.executable} -m retrainer show {trained} --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_progress_shows_on_a_terminal_and_the_result_is_the_same(trained: str, folder: Path) -> None:
    """stderr is a pseudo-terminal that shows a spinner; stdout is still one JSON document."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "retrainer", "train", "timing", "--json"]
    environ = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        document = json.loads(process.stdout.read())
    os.close(ours)
    assert document["count"] == 1
    assert b"Loading and splitting data..." in shown
    assert b"\x1b[" in shown
    assert b"0:00:0" in shown


@pytest.mark.slow
@pytest.mark.parametrize("command", ["versions", "evaluate timing@production"])
def test_the_spinner_is_erased_before_the_result(command: str, trained: str, folder: Path) -> None:
    """stdout and stderr are the same terminal."""
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "retrainer", *command.split()]
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(arguments, cwd=folder, env=environ, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        assert process.wait(600) == 0
    os.close(ours)
    spinner, _, result = shown.decode().rpartition("\x1b[2K")  # erases the line
    assert "Working..." in spinner
    assert trained[-4:] not in spinner
    assert trained[-4:] in result
    assert "Working..." not in result


def test_a_foreign_table_of_posts_is_read_and_never_written(folder: Path, retrainer: Runner, tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE tweets (tid INTEGER PRIMARY KEY, at TEXT, body TEXT)")
    rows = [
        (10**17 + row, moment.strftime("%Y-%m-%dT%H:%M:%SZ"), text)
        for row, (moment, text) in enumerate(
            sample_posts()[["created_at", "content"]].itertuples(index=False, name=None)
        )
    ]
    connection.executemany("INSERT INTO tweets VALUES (?, ?, ?)", [(a, b, c or None) for a, b, c in rows])
    connection.commit()
    connection.close()
    path.chmod(0o444)
    before = path.read_bytes()
    environ = {
        "RETRAINER_POSTS__URL": f"sqlite:///{path}",
        "RETRAINER_POSTS__TABLE": "tweets",
        "RETRAINER_POSTS__COLUMNS__POST_ID": "tid",
        "RETRAINER_POSTS__COLUMNS__CREATED_AT": "at",
        "RETRAINER_POSTS__COLUMNS__CONTENT": "body",
    }
    assert retrainer("posts", "count", "--json", env=environ).json["count"] == 400
    done = retrainer("train", "--json", env=environ)
    assert done.code == 0
    assert done.json["training_runs"][0]["num_training_samples"] == 320
    refused = retrainer("posts", "import", str(tmp_path / "x.csv"), env=environ)
    assert refused.code == 1
    assert "was not created by retrainer and is read-only" in refused.err
    assert path.read_bytes() == before
    project = open_project(folder)
    assert project.registry.get_version(
        done.json["training_runs"][0]["model_version_id"]
    ).trained_through_post_id == str(10**17 + 319)
    project.close()


def test_evaluate_with_clock_origins_shows_the_reliability(trained: str, retrainer: Runner) -> None:
    shown = retrainer("evaluate", trained, "--origin", "clock")
    assert shown.code == 0
    assert "stated" in shown.out.lower()
    assert "observed" in shown.out.lower()
    document = retrainer("evaluate", trained, "--origin", "clock", "--json").json
    assert document["window"]["origin"] == "clock"
    assert document["metrics"]["crps_skill"] == 0
    for row in document["reliability"]:
        assert row.keys() == {"what", "stated", "observed", "num_predictions"}
    recorded = retrainer("show", trained, "--json").json["evaluations"]
    assert recorded[0]["reliability"] == document["reliability"]


def test_predict_prints_the_requested_interval_and_probabilities(trained: str, retrainer: Runner) -> None:
    del trained
    wide, narrow = (retrainer("predict", "timing", "--interval", level, "--json").json for level in ("0.9", "0.5"))
    assert (wide["interval"]["level"], narrow["interval"]["level"]) == (0.9, 0.5)
    assert wide["interval"]["hours"][0] < narrow["interval"]["hours"][0]
    assert narrow["interval"]["hours"][1] < wide["interval"]["hours"][1]
    chances = [wide["probability"][f"within_{hours}h"] for hours in (6, 12, 24)]
    assert 0 <= chances[0] < chances[1] < chances[2] <= 1


def test_predict_forecasts_the_next_days_and_posts(trained: str, retrainer: Runner) -> None:
    del trained
    assert retrainer("predict", "timing", "--json").json["simulation"] is None
    days = retrainer("predict", "timing", "--until", "2d", "--json").json["simulation"]
    assert [day["day"] for day in days["days"]] == sorted({day["day"] for day in days["days"]})
    assert days["days"][0]["start"] == days["total"]["start"]
    assert days["days"][-1]["end"] == days["total"]["end"] == days["until"]
    assert sum(day["expected"] for day in days["days"]) == pytest.approx(days["total"]["expected"])
    done = retrainer("predict", "timing", "--until", "2d", "--next", "3", "--interval", "0.5")
    assert "Day (UTC) " in done.out
    assert "Total " in done.out
    posts = retrainer("predict", "timing", "--next", "3", "--json").json["simulation"]
    assert [post["number"] for post in posts["posts"]] == [1, 2, 3]
    assert posts["until"] is posts["total"] is None
    assert "Post  Median (UTC) " in retrainer("predict", "timing", "--next", "3").out
    assert "Error: --next applies to timing only." in retrainer("predict", "content", "--next", "3").err


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--until", "soon", "'soon' is not a time (write it like 2024-10-31T12:00:00Z, or 36h, 3d or 1w ahead)"),
        ("--until", "2024-01-01", "until: '2024-01-01T00:00:00Z' is not after"),
        ("--until", "0h", "is not after"),
        ("--until", "32d", "is over 31 days after"),
        ("--until", "999999w", "'999999w' is out of range"),
        ("--next", "0", "greater than or equal to 1"),
        ("--next", "101", "next: '101' is over 100 posts"),
    ],
)
def test_a_horizon_out_of_range_is_refused(
    trained: str, retrainer: Runner, option: str, value: str, problem: str
) -> None:
    del trained
    done = retrainer("predict", "timing", option, value)
    assert done.code == 2
    assert problem in done.err


def test_an_algorithm_that_forecasts_the_next_post_only_says_so(
    trained: str, retrainer: Runner, plugins: Plugins
) -> None:
    del trained
    plugins.add("steady", timing_algorithm("steady"))
    train = ("train", "timing", "--algorithm", "steady", "--no-auto-promote", "--json")
    steady = retrainer(*train, env=plugins.environ).json["training_runs"][0]["model_version_id"]
    assert retrainer("promote", steady, env=plugins.environ).code == 0
    done = retrainer("predict", "timing", "--next", "2", env=plugins.environ)
    assert done.code == 2
    line = r"Error: the algorithm 'steady' forecasts the next post only. These forecast later ones too: .*baseline"
    assert re.search(line, done.err)


@pytest.mark.parametrize("level", ["2", "0", "0.99", "-0.5"])
def test_an_interval_level_out_of_range_is_refused(trained: str, retrainer: Runner, level: str) -> None:
    del trained
    done = retrainer("predict", "timing", f"--interval={level}")
    assert done.code == 2
    assert f"--interval: '{float(level):g}' is not between 0.02 and 0.98" in done.err


def test_an_unknown_origin_is_refused(trained: str, retrainer: Runner) -> None:
    for command in (("evaluate", trained), ("compare", trained, trained)):
        done = retrainer(*command, "--origin", "moon")
        assert done.code == 2
        assert "--origin: invalid value 'moon' (choose post or clock)" in done.err


@pytest.mark.slow
def test_show_prints_the_feature_importance(trained: str, retrainer: Runner, tmp_path: Path) -> None:
    shown = retrainer("show", trained)
    assert "Feature importance" in shown.out
    (first, *_) = retrainer("show", trained, "--json").json["importance"]
    assert first.keys() == {"label", "value", "unit", "note"}
    prophet = retrainer("train", "timing", "--algorithm", "prophet", "--json").json["training_runs"][0][
        "model_version_id"
    ]
    importance = retrainer("show", prophet, "--json").json["importance"]
    assert {one["unit"] for one in importance} == {"bits a post"}
    assert "hour of the week" in {one["label"] for one in importance}
    model = tmp_path / "project" / "models" / "timing" / prophet / "model.json"
    model.write_bytes(model.read_bytes()[:-2] + b"!}")
    damaged = retrainer("show", prophet)
    assert damaged.code == 0
    assert f"Cannot compute the feature importance of '{prophet}'" in damaged.err
    assert "Evaluated" in damaged.out


def test_compare_prints_its_evidence_and_the_largest_differences(trained: str, retrainer: Runner) -> None:
    retrainer("train", "timing", "--algorithm", "prophet")
    newest = retrainer("versions", "--type", "timing", "--json").json["versions"][0]["version_id"]
    shown = retrainer("compare", trained, newest)
    assert "is better with probability" in shown.out
    document = retrainer("compare", trained, newest, "--json").json
    evidence = document["evidence"]
    assert evidence["level"] == 0.95
    assert (
        evidence["interval_percentage"][0] <= document["improvement_percentage"] <= evidence["interval_percentage"][1]
    )
    assert 0 <= evidence["probability_better"] <= 1
    assert "95% interval" in document["reason"]
    for one in document["differences"]:
        assert one.keys() == {"situation", "num_predictions", "score_a", "score_b"}
    (entry,) = (
        e for e in retrainer("show", newest, "--json").json["ledger"] if e["action"] in {"rejection", "promotion"}
    )
    assert entry["evidence"]["evidence"] == evidence
