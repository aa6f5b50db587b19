"""No command appends to the project's own files, and rotating a log touches nothing but logs."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from retrainer import log_files
from tests.conftest import configure, import_sample

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.logs import LogFormat
    from tests.command_line import Runner
    from tests.conftest import Prepare


@dataclass
class Log:
    """A log file to which each process writes one line."""

    path: Path
    warnings: list[str] = field(default_factory=list)

    def write(self, message: str, log_format: LogFormat) -> None:
        handler = log_files.file_handler(self.path, log_format, self.warnings.append)
        handler.handle(logging.LogRecord("retrainer", logging.INFO, __file__, 1, message, None, None))
        handler.close()


@pytest.fixture
def small_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(log_files, "MAX_BYTES", 60)
    return Log(tmp_path / "job.log")


BROKEN_SETTINGS = "retraining: {test_split: 7}\n"


@pytest.fixture
def used(folder: Path, prepare: Prepare) -> Path:
    """A project with a database; the model files of a version are only hinted at."""
    prepare(folder, import_sample)
    for name in ("models/timing/some_version/model.json", ".retrainer/answers/answer.json"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
    (folder / "link.log").symlink_to("config/config.yaml")
    (folder / "hard-link.log").hardlink_to(folder / "data/retrainer.db")
    return folder


def content_of(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


OWN_FILES = (
    "config/config.yaml",
    "data/../data/retrainer.db",
    "data/retrainer.db-wal",
    "data/.retrainer.db.lock",
    "hard-link.log",
    "link.log",
    "models/.lock",
    "models/timing/some_version/model.json",
    "models/timing/new.log",
    ".retrainer/answers/answer.json",
)


@pytest.mark.parametrize("command", [["--log-file", "FILE", "versions"], ["train", "timing", "--summary", "FILE"]])
def test_the_projects_own_files_are_refused(used: Path, retrainer: Runner, command: list[str]) -> None:
    before = content_of(used)
    for name in OWN_FILES:
        done = retrainer(*(name if word == "FILE" else word for word in command))
        assert done.code == 2, done.err
        assert f"'{name}' belongs to the project. Choose another file" in done.err
        assert len(done.err.splitlines()) == 1
        assert content_of(used) == before


def test_wrong_settings_are_not_a_log_file_either(used: Path, retrainer: Runner) -> None:
    (used / "config/config.yaml").write_text(BROKEN_SETTINGS)
    done = retrainer("--log-file", "config/config.yaml", "versions")
    assert "--log-file: 'config/config.yaml' belongs to the project" in done.err
    assert (used / "config/config.yaml").read_text() == BROKEN_SETTINGS


def test_a_database_with_an_odd_name_is_not_a_log_file_either(used: Path, retrainer: Runner) -> None:
    configure(used, url='"sqlite:///data/50%#?.db"')
    assert retrainer("versions").code == 0
    done = retrainer("--log-file", "data/50%#?.db", "versions")
    assert "--log-file: 'data/50%#?.db' belongs to the project" in done.err


def test_a_log_file_beside_the_projects_files_is_written(used: Path, retrainer: Runner) -> None:
    for name in ("data/retrainer.log", "models/train.log", "config/train.log"):
        assert retrainer("--log-file", name, "train", "timing", "--if-due", "--algorithm", "baseline").code == 0
        assert "INFO" in (used / name).read_text()
    (used / "config/config.yaml").write_text(BROKEN_SETTINGS)
    assert retrainer("--log-file", "data/retrainer.log", "versions").code == 2
    assert "test_split" in (used / "data/retrainer.log").read_text(), "an error in the settings is logged too"


@pytest.mark.parametrize("foreign", ["job.log", "job.log.1", "job.log.5"])
@pytest.mark.parametrize("content", ["", "my notes\n", "SQLite format 3\0"])
def test_rotating_a_log_leaves_files_that_are_no_logs(small_logs: Log, foreign: str, content: str) -> None:
    mine = small_logs.path.with_name(foreign)
    mine.write_text(content)
    for number in range(8):
        small_logs.write(f"line {number}", "text")
    assert mine.read_text().startswith(content)
    if content or mine != small_logs.path:  # an empty file became a log
        assert "line 0" in small_logs.path.read_text()
        assert "line 7" in small_logs.path.read_text()
        warning = f"the log file '{small_logs.path}' is not rotated: '{mine}' is not a log. Move it away"
        assert set(small_logs.warnings) == {warning}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_old_logs_are_deleted(small_logs: Log, log_format: LogFormat) -> None:
    for number in range(9):
        small_logs.write(f"line {number}", log_format)
    assert small_logs.warnings == []
    files = sorted(small_logs.path.parent.glob("job.log*"))
    assert [file.read_text().partition("line ")[2][0] for file in files] == ["8", "7", "6", "5", "4", "3"]
