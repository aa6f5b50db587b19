"""Log lines: their shape, whose run they belong to, and the log file."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from retrainer import logs
from retrainer.__main__ import _flags_first
from tests.conftest import NOW, open_project, regular_posts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Runner

URL = "https://hooks.example/T0/secret"


@pytest.fixture
def with_posts(folder: Path) -> Path:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    return folder


def test_json_lines_carry_the_run_and_the_file_holds_the_same(
    with_posts: Path, retrainer: Runner, tmp_path: Path
) -> None:
    done = retrainer("train", "timing", "--log-format", "json", "--log-file", str(tmp_path / "new" / "log"))
    assert done.code == 0
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert all(line.keys() == {"time", "level", "logger", "run_id", "message"} for line in lines)
    run_id = retrainer("history", "--json").json["training_runs"][0]["run_id"]
    messages = [line["message"] for line in lines if line["run_id"] == run_id]
    for words in ("Loading and splitting data...", "Model training complete!", "TIMING MODEL RETRAINING COMPLETE"):
        assert words in messages
    assert {line["run_id"] for line in lines} <= {run_id, None}
    assert (tmp_path / "new" / "log").read_text() == done.err


def test_an_error_is_a_json_line_too(with_posts: Path, retrainer: Runner) -> None:
    done = retrainer("--log-format=json", "show", "no_such_version")
    assert done.code == 2
    (line,) = map(json.loads, done.err.splitlines())
    assert line["level"] == "ERROR"
    assert "no_such_version" in line["message"]
    traced = retrainer("--log-format=json", "--traceback", "show", "no_such_version")
    assert "UnknownName" in json.loads(traced.err.splitlines()[0])["traceback"]


def test_the_file_has_times_levels_and_runs_and_what_quiet_does_not_print(
    with_posts: Path, retrainer: Runner, tmp_path: Path
) -> None:
    done = retrainer("--quiet", "train", "--log-file", str(tmp_path / "log"))
    assert done.code == 0
    assert done.err == ""
    lines = (tmp_path / "log").read_text().splitlines()
    ids = {run["run_id"] for run in retrainer("history", "--json").json["training_runs"]}
    assert {line.split()[2] for line in lines} == ids | {"-"}
    assert all(line[10] == "T" and line.split()[1] == "INFO" for line in lines)
    retrainer("--quiet", "show", "nothing", "--log-file", str(tmp_path / "log"))
    assert "ERROR   - unknown version 'nothing'" in (tmp_path / "log").read_text()


def test_a_full_log_disk_is_told_once_and_the_run_goes_on(with_posts: Path, retrainer: Runner) -> None:
    done = retrainer("train", "timing", "--log-file", "/dev/full")
    assert done.code == 0
    assert done.err.count("cannot write the log file '/dev/full': No space left on device") == 1
    assert "TIMING MODEL RETRAINING COMPLETE" in done.err
    elsewhere = retrainer("train", "timing", "--log-file", "/dev/null/log")
    assert elsewhere.code == 0
    assert elsewhere.err.count("cannot write the log file '/dev/null/log'") == 1


def test_a_log_format_that_is_none_is_refused(tmp_path: Path, retrainer: Runner) -> None:
    done = retrainer("plugins", "--log-format", "xml", cwd=tmp_path)
    assert done.code == 2
    assert "'xml'" in done.err


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    ours = logging.getLogger("retrainer.tests")
    ours.propagate = False
    ours.setLevel(logging.INFO)
    yield ours
    for handler in list(ours.handlers):
        ours.removeHandler(handler)
        handler.close()
    ours.propagate = True


def test_a_large_file_is_put_aside_and_only_so_many_are_kept(tmp_path: Path, logger: logging.Logger) -> None:
    handler = logs.LogFile(tmp_path / "log", pytest.fail, most_bytes=100)
    logger.addHandler(handler)
    for number in range(40):
        logger.info("line %02d %s", number, "x" * 60)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", *(f"log.{number}" for number in range(1, logs.KEPT_FILES + 1))]
    assert "line 39" in (tmp_path / "log").read_text()
    assert "line 37" in (tmp_path / "log.1").read_text()


def test_processes_that_share_a_file_lose_no_line(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from pathlib import Path; from retrainer import logs;"
        "log = logging.getLogger('x'); log.setLevel(20);"
        "log.addHandler(logs.LogFile(Path(sys.argv[1]), sys.exit, most_bytes=12_000));"
        "[log.info('%s %03d', sys.argv[2], number) for number in range(500)]"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log"), str(n)]) for n in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{who} {number:03d}" for who in range(4) for number in range(500))


def test_hidden_secrets_are_in_no_line(tmp_path: Path, logger: logging.Logger) -> None:
    logs.hide(URL)
    handler = logs.LogFile(tmp_path / "log", pytest.fail)
    handler.setFormatter(logs.LineFormatter())
    logger.addHandler(handler)
    try:
        int(URL)
    except ValueError:
        logger.exception("could not post to %s", URL)
    text = (tmp_path / "log").read_text()
    assert "hooks.example" not in text
    assert "could not post to ***" in text
    assert "\n    ValueError: invalid" in text, "further lines are indented, so that none passes for an entry"


def test_options_of_every_command_may_stand_behind_it() -> None:
    given = ["train", "--log-file", "a", "timing", "--quiet", "--log-format=json", "--", "--quiet"]
    assert _flags_first(given) == [
        "--log-file",
        "a",
        "--quiet",
        "--log-format=json",
        "train",
        "timing",
        "--",
        "--quiet",
    ]
    assert _flags_first(["train", "--log-file"]) == ["--log-file", "train"]
