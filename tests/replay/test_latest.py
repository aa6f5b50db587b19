"""The results of the latest replay are kept in the project."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from retrainer.render.replay import replay_document
from retrainer.replay.latest import read_latest, record_latest
from tests.conftest import NOW, open_project
from tests.replay.conftest import FOUR_WEEKS_LATER, outcomes, replayed

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.replay.results import ReplayReport

LATEST = ".retrainer/replay/timing.latest.npz"


def test_the_latest_replay_is_read_as_it_was(eager: Path, report: ReplayReport) -> None:
    latest = read_latest(open_project(eager), "timing")
    assert latest is not None
    assert latest.at == NOW
    assert replay_document(latest.report) == replay_document(report)
    assert outcomes(latest.report) == outcomes(report)
    assert [policy.policy.settings for policy in latest.report.policies] == [
        policy.policy.settings for policy in report.policies
    ]


@pytest.mark.usefixtures("report")
def test_each_model_has_its_own(eager: Path) -> None:
    assert read_latest(open_project(eager), "content") is None


@pytest.mark.slow
def test_a_replay_in_another_folder_replaces_it(eager: Path, four_weeks: ReplayReport, tmp_path: Path) -> None:
    policies = ["daily: schedule_days=21"]
    other = replayed(eager, end=FOUR_WEEKS_LATER, workdir=tmp_path, policies=policies)
    latest = read_latest(open_project(eager), "timing")
    assert latest is not None
    assert replay_document(latest.report) == replay_document(other) != replay_document(four_weeks)


@pytest.mark.usefixtures("report")
@pytest.mark.parametrize("damage", [b"", b"PK\3\4nothing", None])
def test_a_damaged_file_is_no_replay(eager: Path, damage: bytes | None) -> None:
    file = eager / LATEST
    file.write_bytes(file.read_bytes()[:-1000] if damage is None else damage)
    assert read_latest(open_project(eager), "timing") is None


@pytest.mark.usefixtures("report")
def test_a_link_is_not_followed(eager: Path, tmp_path: Path) -> None:
    file = eager / LATEST
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert read_latest(open_project(eager), "timing") is None


def test_results_that_cannot_be_kept_are_a_warning(
    eager: Path, report: ReplayReport, caplog: pytest.LogCaptureFixture
) -> None:
    (eager / LATEST).unlink()
    (eager / LATEST).mkdir()
    with caplog.at_level(logging.WARNING):
        record_latest(open_project(eager), report, NOW)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot write" in caplog.text.lower()
